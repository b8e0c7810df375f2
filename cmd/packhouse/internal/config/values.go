package config

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"net/mail"
	"net/url"
	"strconv"
	"strings"
	"time"

	"golang.org/x/crypto/bcrypt"

	"packhouse/internal/bytesize"
	"packhouse/repo/datadir"
)

// ParseQuota reads a size where 0 and "none" mean no limit, which is -1 inside.
func ParseQuota(text string) (int64, error) {
	if text == "none" || text == "unlimited" {
		return -1, nil
	}
	n, err := bytesize.Parse(text)
	if err == nil && n == 0 {
		return -1, nil
	}
	return n, err
}

// ParseDuration reads Go's durations and, beyond them, whole days and weeks: "90s", "36h", "30d", "2w".
func ParseDuration(text string) (time.Duration, error) {
	bad := fmt.Errorf("%q is not a duration; write a number with s, m, h, d or w, such as 90s, 36h or 30d", text)
	if text == "0" {
		return 0, nil
	}
	for suffix, unit := range map[string]time.Duration{"d": 24 * time.Hour, "w": 7 * 24 * time.Hour} {
		if digits, ok := strings.CutSuffix(text, suffix); ok {
			n, err := strconv.ParseInt(digits, 10, 32)
			if err != nil || n < 0 || n > int64(math.MaxInt64/unit) {
				return 0, bad
			}
			return time.Duration(n) * unit, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, bad
	}
	return d, nil
}

// MinCompactYoung is the least compact_young: without any, a client with an old index could remove what another has just
// stored.
const MinCompactYoung = time.Second

// ParseDurationFrom is ParseDuration of a duration that is not shorter than least.
func ParseDurationFrom(text string, least time.Duration) (time.Duration, error) {
	d, err := ParseDuration(text)
	if err == nil && d < least {
		return 0, fmt.Errorf("%q is too short; the minimum is %s", text, least)
	}
	return d, err
}

// CheckListen tells whether address is one a server can listen on.
func CheckListen(address string) error {
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		if path == "" {
			return errors.New(`"unix:" needs the path of a socket, such as unix:/run/packhouse/http.sock`)
		}
		return nil
	}
	_, port, err := net.SplitHostPort(address)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil || port == "" {
		return fmt.Errorf("%q is not an address; write host:port or unix:PATH, such as 127.0.0.1:8484", address)
	}
	return nil
}

// CheckTCPListen is CheckListen without sockets.
func CheckTCPListen(address string) error {
	if strings.HasPrefix(address, "unix:") {
		return fmt.Errorf("%q is a socket; write host:port, such as :80", address)
	}
	return CheckListen(address)
}

// CheckDomain tells whether an authority can issue a certificate for a name by the challenges that the server knows.
func CheckDomain(name string) error {
	if strings.HasPrefix(name, "*.") {
		return fmt.Errorf("%q stands for many names, for which authorities want an entry of the DNS; name each one that clients use", name)
	}
	bad := fmt.Errorf("%q is not a domain name; write one as in backup.example.org, in lower case (xn--… for letters beyond ASCII)", name)
	if name == "" || len(name) > 253 || net.ParseIP(name) != nil {
		return bad
	}
	for label := range strings.SplitSeq(name, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return bad
		}
	}
	return nil
}

// CheckEmail tells whether text can be an e-mail address, and nothing more.
func CheckEmail(text string) error {
	if a, err := mail.ParseAddress(text); err != nil || a.Address != text {
		return fmt.Errorf("%q is not an e-mail address, such as admin@example.org", text)
	}
	return nil
}

// CheckDirectoryURL tells whether text can be the URL of an ACME directory.
func CheckDirectoryURL(text string) error {
	if u, err := url.Parse(text); err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil {
		return fmt.Errorf("%q is not the URL of an ACME directory, such as https://ca.example.org/acme/acme/directory", text)
	}
	return nil
}

// CheckLogFormat and CheckLogLevel tell whether the log can be written so.
func CheckLogFormat(text string) error { return oneOf(text, "pretty", "json") }

// CheckLogLevel tells whether text is a level of the log.
func CheckLogLevel(text string) error { return oneOf(text, "debug", "info", "warn", "error") }

// CheckClientAuth tells whether clients can be asked so for a certificate.
func CheckClientAuth(text string) error { return oneOf(text, CertificateOptional, CertificateRequired) }

// CheckTLSVersion tells whether text is a version of TLS that can be the least.
func CheckTLSVersion(text string) error { return oneOf(text, "1.2", "1.3") }

// CheckUserHeader tells whether a proxy can name a user in a header of that name: one that is not for something else.
func CheckUserHeader(name string) error {
	if name == "" || strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_") != "" {
		return fmt.Errorf("%q is not the name of a header, such as X-Remote-User", name)
	}
	switch http.CanonicalHeaderKey(name) {
	case "Accept", "Authorization", "Connection", "Content-Length", "Cookie", "Forwarded", "Host", "Range", "X-Forwarded-For", "X-Forwarded-Proto":
		return fmt.Errorf("the header %s is for something else; choose one that only the proxy sets, such as X-Remote-User", http.CanonicalHeaderKey(name))
	}
	return nil
}

// checkVerifyReads tells whether items can be checked so when they are read.
func checkVerifyReads(text string) error { return oneOf(text, "always", "never") }

// CheckToken tells whether a client can send token in a header.
func CheckToken(token string) error {
	if token == "" {
		return errors.New("the token must not be empty")
	}
	if strings.ContainsFunc(token, func(c rune) bool { return c <= ' ' || c > '~' }) {
		return errors.New("the token must be printable ASCII without blanks")
	}
	return nil
}

func checkPasswordHash(text string) error {
	if _, err := bcrypt.Cost([]byte(text)); err != nil {
		return errors.New("not a bcrypt hash; make one with: htpasswd -nbB USER PASSWORD")
	}
	return nil
}

// checkAuditLog: a path has a slash, so that a word that was mistyped does not become a file.
func checkAuditLog(text string) error {
	if text == AuditToLog || text == AuditOff || strings.Contains(text, "/") {
		return nil
	}
	return suggest(fmt.Errorf("%q is neither %q, %q nor a path such as /var/log/packhouse/audit.log", text, AuditToLog, AuditOff), text, []string{AuditToLog, AuditOff})
}

func checkRepositoryName(name string) error { return datadir.CheckName(name) }

func oneOf(text string, allowed ...string) error {
	for _, a := range allowed {
		if text == a {
			return nil
		}
	}
	return suggest(fmt.Errorf("%q is not one of %s", text, strings.Join(allowed, ", ")), text, allowed)
}
