package alert

import (
	"errors"
	"fmt"
	"math"
	"net"
	"net/mail"
	"net/url"
	"slices"
	"strings"
	"time"

	"packhouse/compact/maintenance"
)

// Type is how a receiver is told.
type Type string

const (
	Webhook Type = "webhook" // the message as JSON
	Slack   Type = "slack"   // also Mattermost and Rocket.Chat
	Discord Type = "discord"
	Ntfy    Type = "ntfy"
	Gotify  Type = "gotify"
	Mail    Type = "mail"
	Command Type = "command"
	Ping    Type = "ping" // a service that tells somebody when pings stop
)

// Types are all of them.
var Types = [...]Type{Webhook, Slack, Discord, Ntfy, Gotify, Mail, Command, Ping}

// Receiver is whom to tell, and of what.
type Receiver struct {
	Name string
	Type Type

	URL     string            // of webhooks and pings
	Headers map[string]string // of Webhook, besides
	Token   string            // of Webhook and Ntfy, sent as Bearer, and of Gotify; "": none

	To       []string // of Mail, like those below
	From     string
	SMTP     string // host:port
	User     string // "": no authentication
	Password string
	TLS      string // one of the constants below; "": implicit on port 465, none on this machine, else starttls

	Command []string // program and arguments; no shell reads them

	Every time.Duration // of Ping; 0 means 5 minutes
	Fail  bool          // of Ping: while something is critical, URL/fail is told instead

	Events       []Kind        // nil: all
	Repositories []string      // nil: all, and the server
	Repeat       time.Duration // after which it is told again of what lasts; 0 means a day, negative: never
	Quiet        string        // the hours, such as 22:00-07:00, in which it is told of what is critical only; "": none
	Summary      string        // a schedule, or "off"; "" means Monday at 08:00
}

// What Receiver.TLS can be.
const (
	TLSStart    = "starttls" // and nothing is sent without it
	TLSImplicit = "implicit"
	TLSOff      = "off"
)

const (
	defaultRepeat  = 24 * time.Hour
	defaultEvery   = 5 * time.Minute
	defaultSummary = "0 8 * * MON"
)

func (t Type) byHTTP() bool { return t != Mail && t != Command }

// most is how many alerts are in one message: programs get all of them, and people those that the text names.
func (r Receiver) most() int {
	if r.Type == Webhook || r.Type == Command {
		return maxNotices
	}
	return math.MaxInt
}

// Check returns every fault of a receiver, joined. No error has a secret of it.
func (r Receiver) Check() error {
	var faults []error
	add := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if !slices.Contains(Types[:], r.Type) {
		if r.Type == "" {
			add("it needs a type: one of %s", list(Types[:]))
		} else {
			add("type %q is none of %s", shorten(string(r.Type), 20), list(Types[:]))
		}
		return errors.Join(faults...)
	}
	if r.Type.byHTTP() {
		if err := CheckURL(r.URL); err != nil {
			add("%w", err)
		}
	}
	switch r.Type {
	case Gotify:
		if r.Token == "" {
			add("a receiver of type gotify needs token or token_file: the token of an application of Gotify")
		}
	case Ntfy:
		if u, err := url.Parse(r.URL); err == nil && u.Host != "" && strings.Trim(u.Path, "/") == "" {
			add("url needs the topic, such as https://ntfy.sh/topic")
		}
	case Mail:
		faults = append(faults, r.checkMail()...)
	case Command:
		if len(r.Command) == 0 || r.Command[0] == "" {
			add(`a receiver of type command needs command, such as ["/usr/local/bin/notify"]`)
		}
	}
	for name, value := range r.Headers {
		if !isHeader(name) || !isHeaderValue(value) {
			add("headers: %.100q, or its value, is not valid in a header", name)
		}
	}
	if !isHeaderValue(r.Token) {
		add("the token has characters that a header cannot have")
	}
	for _, set := range []struct {
		key  string
		set  bool
		used bool
	}{
		{"url", r.URL != "", r.Type.byHTTP()}, {"headers", r.Headers != nil, r.Type == Webhook}, {"token", r.Token != "", r.Type == Webhook || r.Type == Ntfy || r.Type == Gotify},
		{"to", r.To != nil, r.Type == Mail}, {"from", r.From != "", r.Type == Mail}, {"smtp", r.SMTP != "", r.Type == Mail}, {"user", r.User != "", r.Type == Mail},
		{"password", r.Password != "", r.Type == Mail}, {"tls", r.TLS != "", r.Type == Mail}, {"command", r.Command != nil, r.Type == Command},
		{"every", r.Every != 0, r.Type == Ping}, {"fail", r.Fail, r.Type == Ping}, {"repeat", r.Repeat != 0, r.Type != Ping}, {"quiet", r.Quiet != "", r.Type != Ping},
		{"summary", r.Summary != "", r.Type != Ping},
	} {
		if set.set && !set.used {
			add("%s has no meaning for a receiver of type %s", set.key, r.Type)
		}
	}
	if err := CheckQuiet(r.Quiet); err != nil {
		add("%w", err)
	}
	return errors.Join(faults...)
}

func (r Receiver) checkMail() (faults []error) {
	if len(r.To) == 0 {
		faults = append(faults, errors.New(`a receiver of type mail needs to, such as ["admin@example.org"]`))
	}
	for _, address := range append(slices.Clone(r.To), r.From) {
		if address == "" {
			faults = append(faults, errors.New(`a receiver of type mail needs from, the address of the sender`))
		} else if _, err := mail.ParseAddress(address); err != nil {
			faults = append(faults, fmt.Errorf("%q is not a mail address such as admin@example.org", address))
		}
	}
	host, port, err := net.SplitHostPort(r.SMTP)
	switch {
	case strings.Contains(r.SMTP, "@"): // perhaps with a password before it
		faults = append(faults, errors.New(`smtp is the address of a mail server, such as "mail.example.org:587"; the login is user and password`))
	case err != nil || host == "" || !isPort(port):
		faults = append(faults, fmt.Errorf(`smtp: %q is not the address of a mail server, such as "mail.example.org:587"`, r.SMTP))
	}
	if (r.User == "") != (r.Password == "") {
		faults = append(faults, errors.New("user and password (or password_file) belong together; one of them is missing"))
	}
	if r.User != "" && r.tls() == TLSOff && !r.local() {
		faults = append(faults, errors.New("the password would be sent without encryption: use another tls, or no user"))
	}
	return faults
}

// isHeader tells whether a name is that of a header.
func isHeader(name string) bool {
	return name != "" && !strings.ContainsFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_'
	})
}

func isHeaderValue(value string) bool {
	return !strings.ContainsFunc(value, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f })
}

func isPort(port string) bool {
	n, err := net.LookupPort("tcp", port)
	return err == nil && n > 0
}

// local tells whether the mail server is on this machine.
func (r Receiver) local() bool {
	host, _, _ := net.SplitHostPort(r.SMTP)
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// tls is TLS with its default.
func (r Receiver) tls() string {
	_, port, _ := net.SplitHostPort(r.SMTP)
	switch {
	case r.TLS != "":
		return r.TLS
	case port == "465" || port == "smtps" || port == "submissions":
		return TLSImplicit
	case r.local():
		return TLSOff
	}
	return TLSStart
}

// CheckTLS tells whether a text is one that Receiver.TLS can be.
func CheckTLS(text string) error {
	switch text {
	case TLSStart, TLSImplicit, TLSOff:
		return nil
	}
	return fmt.Errorf("%q is none of %q, %q and %q", text, TLSStart, TLSImplicit, TLSOff)
}

// CheckURL tells whether a text is the URL of a receiver. The error does not have it: it can be a secret.
func CheckURL(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errors.New("url must be complete, such as https://hooks.example.org/path")
	}
	if port := u.Port(); port != "" && !isPort(port) {
		return errors.New("url has a port that there cannot be")
	}
	return nil
}

// CheckQuiet tells whether a text is one that Receiver.Quiet can be.
func CheckQuiet(text string) error {
	if _, err := maintenance.ParseWindow(text, time.UTC); err != nil {
		return fmt.Errorf("quiet: %q is not two times of day, such as 22:00-07:00", text)
	}
	return nil
}

// ParseKind reads the name of a kind.
func ParseKind(text string) (Kind, error) {
	if slices.Contains(Kinds[:], Kind(text)) {
		return Kind(text), nil
	}
	return "", fmt.Errorf("%q is none of %s", text, list(Kinds[:]))
}

func list[T ~string](all []T) string {
	names := make([]string, len(all))
	for i, one := range all {
		names[i] = string(one)
	}
	return strings.Join(names, ", ")
}

// each is the receiver as those that are told one by one: with several addresses, each is told by a mail of its own. A mail server that refuses one of them
// keeps nothing from the others then, and what is told again is told to that one alone.
func (r Receiver) each() (all []Receiver) {
	if r.Type != Mail {
		return []Receiver{r}
	}
	known := make(map[string]bool)
	for _, address := range r.To {
		if !known[address] {
			one := r
			one.To = []string{address}
			all = append(all, one)
		}
		known[address] = true
	}
	return all
}

// key identifies one of each among all receivers, also after a restart. Names have no blanks.
func (r Receiver) key() string {
	if r.Type == Mail {
		return r.Name + " " + strings.Join(r.To, " ")
	}
	return r.Name
}

// wants tells whether a receiver is told of an alert.
func (r Receiver) wants(key Key) bool {
	return (r.Events == nil || slices.Contains(r.Events, key.Kind)) && r.about(key.Repository)
}

// about tells whether a receiver is told of a repository; "": of the server.
func (r Receiver) about(repository string) bool {
	return r.Repositories == nil || slices.Contains(r.Repositories, repository)
}

func (r Receiver) repeat() time.Duration {
	if r.Repeat == 0 {
		return defaultRepeat
	}
	return r.Repeat
}

// quiet tells whether it is told of what is critical only.
func (r Receiver) quiet(now time.Time, zone *time.Location) bool {
	if r.Quiet == "" {
		return false
	}
	hours, err := maintenance.ParseWindow(r.Quiet, zone)
	return err == nil && hours.Next(now).Equal(now)
}

// to names the receiver without secrets.
func (r Receiver) to() string {
	switch r.Type {
	case Mail:
		return strings.Join(r.To, ", ")
	case Command:
		return r.Command[0]
	}
	u, err := url.Parse(r.URL)
	if err != nil {
		return ""
	}
	return u.Host
}
