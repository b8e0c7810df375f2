package alert

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// webhook sends messages by HTTP, in the form that the service at its URL reads.
type webhook struct {
	r      Receiver
	agent  string
	client *http.Client
}

// httpTimeout is how long one request may take.
const httpTimeout = 30 * time.Second

func newWebhook(r Receiver, version string, roots *x509.CertPool) *webhook {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: roots}
	transport.DisableKeepAlives = true // requests are rare
	return &webhook{r, "packhouse/" + version, &http.Client{
		Timeout: httpTimeout, Transport: transport,
		// A POST that is redirected would become a GET, and its message be lost.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (w *webhook) deliver(ctx context.Context, m Message) error {
	req, err := w.request(ctx, m)
	if err != nil {
		return err
	}
	req.Header.Set("User-Agent", w.agent)
	resp, err := w.client.Do(req)
	if err != nil {
		if failed, ok := errors.AsType[*url.Error](err); ok {
			err = failed.Err // without the URL, which can be a secret
		}
		if errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("%s did not answer in time", req.URL.Host)
		}
		return fmt.Errorf("%s: %w", req.URL.Host, err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 300)) // what it says is only for the error
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("%s answered with a redirection (%d): write the address that it leads to as url", req.URL.Host, resp.StatusCode)
	}
	refused := &fault{error: fmt.Errorf("%s answered %s: %s", req.URL.Host, resp.Status, strings.TrimSpace(printable(string(text))))}
	if resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable {
		refused.after = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return refused
}

// retryAfter reads the header of that name: seconds, of which some services write a fraction, or a date. See RFC 9110, section 10.2.3.
func retryAfter(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseFloat(text, 64); err == nil && seconds > 0 {
		return time.Duration(min(seconds, longestRetry.Seconds()) * float64(time.Second))
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}

// The most that is sent of a text, in bytes. Discord refuses more than 2,000 characters, of which there are no more than bytes. ntfy makes an attachment of
// what is longer than 4,096 bytes. Slack wants less than 4,000 characters and cuts at 40,000, Mattermost takes 16,383. Gotify has no limit.
const (
	discordText = 2000
	ntfyText    = 4000
	slackRaw    = 3500
	otherText   = 8000
)

// request is the message as the service reads it.
func (w *webhook) request(ctx context.Context, m Message) (*http.Request, error) {
	header := make(http.Header)
	method, address := http.MethodPost, w.r.URL
	var body any
	switch w.r.Type {
	case Slack:
		body = map[string]any{"text": slackText(fit(m.Title+"\n"+m.Text, slackRaw)), "mrkdwn": false, "unfurl_links": false, "unfurl_media": false}
	case Discord:
		body = map[string]any{
			"content": fit(discordEscapes.Replace(m.Title+"\n"+m.Text), discordText), "allowed_mentions": map[string]any{"parse": []string{}}, "flags": discordNoEmbeds,
		}
	case Gotify:
		address = below(address, "message")
		header.Set("X-Gotify-Key", w.r.Token)
		body = map[string]any{"title": m.Title, "message": fit(m.Text, otherText), "priority": priorityOf(m, 2, 5, 8)}
	case Ntfy:
		header.Set("Title", mime.QEncoding.Encode("utf-8", shorten(printable(m.Title), 200)))
		header.Set("Priority", fmt.Sprint(priorityOf(m, 2, 3, 5)))
		header.Set("Tags", tagOf(m))
		header.Set("Content-Type", "text/plain; charset=utf-8")
		w.authorize(header)
		return newRequest(ctx, method, address, header, []byte(fit(m.Text, ntfyText)))
	case Ping:
		if m.Level != Critical {
			return newRequest(ctx, http.MethodGet, address, header, nil)
		}
		header.Set("Content-Type", "text/plain; charset=utf-8")
		return newRequest(ctx, method, below(address, "fail"), header, []byte(fit(m.Text, otherText)))
	default:
		body = m
		for name, value := range w.r.Headers {
			header.Set(name, value)
		}
		w.authorize(header)
	}
	header.Set("Content-Type", "application/json")
	text, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	return newRequest(ctx, method, address, header, text)
}

func newRequest(ctx context.Context, method, address string, header http.Header, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the url is not valid") // and can be a secret
	}
	req.Header = header
	return req, nil
}

func (w *webhook) authorize(header http.Header) {
	if w.r.Token != "" {
		header.Set("Authorization", "Bearer "+w.r.Token)
	}
}

// below adds a last segment to the path of an address, if it does not have it.
func below(address, segment string) string {
	u, err := url.Parse(address)
	if err != nil || strings.HasSuffix(u.Path, "/"+segment) {
		return address
	}
	return u.JoinPath(segment).String()
}

// priorityOf is one of three, as services number them.
func priorityOf(m Message, low, warning, critical int) int {
	switch m.Level {
	case Critical:
		return critical
	case Warning:
		return warning
	}
	return low
}

// tagOf is what ntfy shows a picture for.
func tagOf(m Message) string {
	switch m.Level {
	case Critical:
		return "rotating_light"
	case Warning:
		return "warning"
	}
	return "white_check_mark"
}

// slackText escapes what Slack reads as markup. Mattermost and Rocket.Chat, which read the same form, tell everybody of a text with @all: so what looks like
// a name there gets a character between that is not seen.
func slackText(text string) string {
	var escaped strings.Builder
	inWord := false
	for _, c := range text {
		switch {
		case c == '&':
			escaped.WriteString("&amp;")
		case c == '<':
			escaped.WriteString("&lt;")
		case c == '>':
			escaped.WriteString("&gt;")
		case c == '@' && !inWord:
			escaped.WriteString("@" + wordJoiner)
		default:
			escaped.WriteRune(c)
		}
		inWord = unicode.IsLetter(c) || unicode.IsDigit(c)
	}
	return escaped.String()
}

const wordJoiner = "\u2060"

// discordNoEmbeds has Discord show nothing of what a link leads to.
const discordNoEmbeds = 1 << 2

// discordEscapes is for what Discord reads as markup.
var discordEscapes = strings.NewReplacer(
	`\`, `\\`, "*", `\*`, "_", `\_`, "~", `\~`, "`", "\\`", "|", `\|`, ">", `\>`, "<", `\<`, "#", `\#`, "[", `\[`, "]", `\]`, "(", `\(`, ")", `\)`,
)
