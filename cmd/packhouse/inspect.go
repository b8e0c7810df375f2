package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"packhouse/api"
	"packhouse/api/alert"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// inspection is what `config check` finds out about all that a server with a configuration would open. It creates nothing and takes
// no lock, so that the server may run meanwhile.
type inspection struct {
	c        *config.Config
	now      time.Time
	warnings []string // a server would start, but hardly as it is meant
	faults   []error  // it would not start
}

func (in *inspection) warn(format string, args ...any) {
	in.warnings = append(in.warnings, fmt.Sprintf(format, args...))
}

func (in *inspection) fault(err error) {
	if err != nil {
		in.faults = append(in.faults, err)
	}
}

// inspect looks at everything. file is the configuration's own.
func inspect(c *config.Config, file string) *inspection {
	in := &inspection{c: c, now: time.Now()}
	in.tls()
	in.acme()
	in.token(file)
	in.directory()
	in.auditLog()
	in.users()
	in.alerts(file)
	in.proxies()
	for _, address := range c.Listen {
		if path, ok := strings.CutPrefix(address, "unix:"); ok {
			if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
				in.warn("listen: there is no directory %s for the socket; without a socket from systemd, serve ends with an error", filepath.Dir(path))
			}
		}
		if !c.TLS() && exposed(address) && slices.Equal(c.Proxies, api.DefaultProxies) {
			in.warn("%s", plainText(address))
		}
	}
	return in
}

// expiresSoon is how long before the end of a certificate there is a warning.
const expiresSoon = 21 * 24 * time.Hour

func (in *inspection) tls() {
	if in.c.TLSCert != "" {
		pair, err := tls.LoadX509KeyPair(in.c.TLSCert, in.c.TLSKey)
		if err != nil {
			in.fault(fmt.Errorf("tls_cert, tls_key: %w", err))
		} else if end := pair.Leaf.NotAfter; end.Before(in.now) {
			in.warn("tls_cert: the certificate has expired on %s; clients refuse it", end.Local().Format(time.DateOnly))
		} else if end.Before(in.now.Add(expiresSoon)) {
			in.warn("tls_cert: the certificate expires on %s", end.Local().Format(time.DateOnly))
		} else if pair.Leaf.NotBefore.After(in.now) {
			in.warn("tls_cert: the certificate is not valid before %s", pair.Leaf.NotBefore.Local().Format(time.DateTime))
		}
		in.secret("tls_key", in.c.TLSKey)
	}
	if in.c.TLSClientCA != "" {
		_, err := api.LoadClientCAs(in.c.TLSClientCA, false)
		in.fault(err)
	}
}

// secret warns of a file that every user of the machine can read.
func (in *inspection) secret(what, path string) {
	if info, err := os.Stat(path); err == nil && info.Mode().Perm()&0o007 != 0 {
		in.warn("%s: every user of this machine can read %s (mode %04o); chmod o= %s", what, path, info.Mode().Perm(), path)
	}
}

func (in *inspection) token(file string) {
	switch path := tokenPath(in.c); {
	case in.c.Token != "":
		in.weak("token", in.c.Token)
		in.secret("token", file)
	case in.c.TokenFile != "":
		err := checkTokenFile(path)
		if errors.Is(err, fs.ErrPermission) {
			in.warn("token_file: %v", err) // the server's user may
			return
		}
		in.fault(err)
		fallthrough
	default:
		if token, err := readToken(path); err == nil {
			in.weak("the token in "+path, token)
			in.secret("token", path)
		}
	}
}

// What a token that can be guessed is like. One that the server makes has 64 characters.
const (
	shortToken    = 20
	fewCharacters = 8
)

var placeholders = []string{"change", "secret", "password", "passwort", "example", "token", "test", "12345", "qwert", "admin", "backup"}

// weak warns of a token that can be guessed; it does not repeat it.
func (in *inspection) weak(what, token string) {
	distinct := make(map[rune]bool)
	for _, c := range token {
		distinct[c] = true
	}
	why := ""
	switch lower := strings.ToLower(token); {
	case len(token) < shortToken:
		why = fmt.Sprintf("it has only %d characters", len(token))
	case len(distinct) < fewCharacters:
		why = fmt.Sprintf("it is made of only %d different characters", len(distinct))
	case slices.ContainsFunc(placeholders, func(word string) bool { return strings.Contains(lower, word) }):
		why = "it has a word that everybody tries"
	default:
		return
	}
	in.warn("%s can be guessed: %s. Whoever has it may do everything; leave the setting out, and the server makes one, or use the output of: openssl rand -hex 32", what, why)
}

func (in *inspection) directory() {
	dir, err := datadir.ResolveDir(in.c.DataDir)
	if err != nil {
		in.fault(fmt.Errorf("data_dir: %w", err))
		return
	}
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		in.warn("data_dir: %s does not exist; serve creates it. If a volume is to be mounted there, set data_id after the first start", dir)
		return
	case err != nil:
		in.warn("data_dir: %v; run this as the user of the server", err)
		return
	case !info.IsDir():
		in.fault(fmt.Errorf("data_dir: %s is not a directory", dir))
		return
	}
	switch err := unix.Access(dir, unix.R_OK|unix.W_OK|unix.X_OK); err {
	case nil:
	case unix.EROFS:
		in.warn("data_dir: the file system of %s is read-only, so that clients can only read", dir)
	default:
		in.warn("data_dir: this user (%d) cannot use %s: %v; run this as the user of the server", os.Geteuid(), dir, err)
		return
	}
	in.fault(checkDataDir(dir, slog.New(logged{in}), (*resticServer)(nil).ignores))
}

func (in *inspection) auditLog() {
	in.fault(checkAuditOf(in.c))
	if path := in.c.AuditFile(); path != "" {
		if info, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
			in.fault(fmt.Errorf("audit_log: there is no directory %s", filepath.Dir(path)))
		}
	}
}

// users looks for repositories that users are for and that nobody has made. A client can make one, but not under a name that is misspelt.
func (in *inspection) users() {
	known, ok := in.repositories()
	if !ok {
		return
	}
	for _, u := range in.c.Users {
		in.unknown(fmt.Sprintf("user %q", u.Name), u.Repositories, known)
	}
}

// repositories are those that there are, or that the configuration names; false: that is not known.
func (in *inspection) repositories() (known []string, ok bool) {
	dir, err := datadir.ResolveDir(in.c.DataDir)
	if err != nil {
		return nil, false
	}
	for _, r := range in.c.Repositories {
		known = append(known, r.Name)
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, false
	}
	for _, entry := range entries {
		if name, ok := datadir.NameOf(entry.Name()); ok && !slices.Contains(known, name) {
			known = append(known, name)
		}
	}
	return known, true
}

// unknown warns of names of repositories that are not known.
func (in *inspection) unknown(what string, names, known []string) {
	for _, name := range names {
		if slices.Contains(known, name) {
			continue
		}
		hint := ""
		if near := config.Nearest(name, known); near != "" {
			hint = fmt.Sprintf("; did you mean %q?", near)
		}
		in.warn("%s is for the repository %q, which does not exist and has no [[repository]]%s", what, name, hint)
	}
}

// alerts looks at the files and the programs that receivers of alerts need.
func (in *inspection) alerts(file string) {
	known, ok := in.repositories()
	secrets := in.c.Token != "" // of which there was a warning
	for _, a := range in.c.Alerts {
		what := fmt.Sprintf("alert %q", a.Name)
		switch r, err := receiverOf(a); {
		case errors.Is(err, fs.ErrPermission):
			in.warn("%v", err) // the server's user may
		case err != nil:
			in.fault(err)
		case r.Type == alert.Command:
			if _, err := exec.LookPath(r.Command[0]); err != nil {
				in.warn("%s: command: %v", what, err)
			}
		}
		in.secret(what+": token_file", a.TokenFile)
		in.secret(what+": password_file", a.PasswordFile)
		if !secrets && a.URL+a.Token+a.Password != "" {
			in.secret(what, file)
			secrets = true
		}
		if ok {
			in.unknown(what, a.Repositories, known)
		}
	}
}

// proxies warns of a header that everybody may send.
func (in *inspection) proxies() {
	if in.c.ProxyUserHeader == "" {
		return
	}
	for _, proxy := range in.c.Proxies {
		if network, err := netip.ParsePrefix(proxy); err == nil && network.Bits() == 0 {
			in.warn("trusted_proxies: whoever can connect from %s, which is everybody, may be any user by sending %s; give the address of the proxy alone", proxy, in.c.ProxyUserHeader)
		}
	}
}

// tableHints are about permissions that are tables of their own: a preset or a role says the same in a word, or what was meant.
func tableHints(c *config.Config) (hints []string) {
	look := func(where string, p *policy.Permissions) {
		if p == nil {
			return
		}
		for _, name := range config.PermissionNames() {
			if preset, err := config.ParsePermissions(name); err == nil && preset.String() == p.String() {
				return
			}
		}
		hints = append(hints, fmt.Sprintf("%s has permissions of its own, which nobody has tried with each client; the documented names are %s, and for users there are roles: packhouse role list",
			where, strings.Join(config.PermissionNames(), ", ")))
	}
	look("[server]", c.Permissions)
	for _, r := range c.Repositories {
		if r.Permissions != c.Permissions { // of the server
			look(fmt.Sprintf("repository %q", r.Name), r.Permissions)
		}
	}
	for _, u := range c.Users {
		look(fmt.Sprintf("user %q", u.Name), u.Permissions)
	}
	return hints
}

// exposed tells whether others than this machine and its private network may reach an address: all addresses, or a public one.
func exposed(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false // a socket
	}
	if host == "" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return false // what a name stands for is not asked
	}
	ip = ip.Unmap()
	return ip.IsUnspecified() || ip.IsGlobalUnicast() && !ip.IsPrivate()
}

// plainText is the warning of an address that is exposed without TLS.
func plainText(address string) string {
	return fmt.Sprintf("listen: %s is plain HTTP on an address that others may reach: tokens and passwords can be read on the way. Set acme_domains, tls_cert and tls_key, or tls_self_signed, "+
		"or listen on 127.0.0.1 behind a proxy that has TLS; if a proxy on another machine or in a container has it, name it in trusted_proxies", address)
}

// logged makes warnings of what is logged.
type logged struct{ in *inspection }

func (logged) Enabled(context.Context, slog.Level) bool { return true }
func (l logged) WithAttrs([]slog.Attr) slog.Handler     { return l }
func (l logged) WithGroup(string) slog.Handler          { return l }
func (l logged) Handle(_ context.Context, r slog.Record) error {
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		text += fmt.Sprintf(" (%s: %v)", a.Key, a.Value)
		return true
	})
	l.in.warn("data_dir: %s", text)
	return nil
}
