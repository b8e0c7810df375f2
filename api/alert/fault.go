package alert

import (
	"encoding/base64"
	"net/url"
	"slices"
	"strings"
	"time"
)

// fault is why a delivery has failed, with what the receiver said of another attempt.
type fault struct {
	error
	refused bool          // for good, as far as it knows: it is not tried again soon
	after   time.Duration // it is not to be tried before; 0: nothing was said
}

func (f *fault) Unwrap() error { return f.error }

// shortestSecret is the length below which nothing is a secret, and shortestPart that below which a part of a URL is taken for a word that services may have in
// any answer.
const (
	shortestSecret = 4
	shortestPart   = 8
)

// secrets are the parts of a receiver that nobody is to read in an error or a log, the longest first. What answers can contain them: many servers name the
// path that was asked for.
func (r Receiver) secrets() []string {
	all := []string{r.Token, r.Password}
	for _, value := range r.Headers {
		all = append(all, value)
	}
	if r.Password != "" {
		for _, login := range []string{r.Password, "\x00" + r.User + "\x00" + r.Password} {
			all = append(all, base64.StdEncoding.EncodeToString([]byte(login)))
		}
	}
	if u, err := url.Parse(r.URL); err == nil && r.URL != "" {
		all = append(all, r.URL, u.RawQuery)
		if password, ok := u.User.Password(); ok {
			all = append(all, password)
		}
		if strings.Trim(u.Path, "/") != "" {
			all = append(all, u.Path, u.EscapedPath())
		}
		parts := strings.Split(u.Path, "/")
		for _, values := range u.Query() {
			parts = append(parts, values...)
		}
		for _, part := range parts {
			if len(part) >= shortestPart {
				all = append(all, part)
			}
		}
	}
	all = slices.DeleteFunc(all, func(secret string) bool { return len(secret) < shortestSecret })
	slices.SortFunc(all, func(a, b string) int { return len(b) - len(a) })
	return all
}

// faultText is an error as it is shown: one line, without secrets.
func (r Receiver) faultText(err error) string {
	text := err.Error()
	for _, secret := range r.secrets() {
		text = strings.ReplaceAll(text, secret, ellipsis)
	}
	return printable(shorten(text, 500))
}
