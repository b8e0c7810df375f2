package alert

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// webhook sends messages by HTTP, in the form that the service at its URL reads.
type webhook struct {
	r      Receiver
	agent  string
	client *http.Client
}

// httpTimeout is how long one request may take.
const httpTimeout = 30 * time.Second

func newWebhook(r Receiver, version string) *webhook {
	transport := http.DefaultTransport.(*http.Transport).Clone()
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
	return fmt.Errorf("%s answered %s: %s", req.URL.Host, resp.Status, strings.TrimSpace(printable(string(text))))
}

// The most that services take of a text, in bytes; Discord counts characters, of which there are no more.
const (
	discordText = 2000
	ntfyText    = 4000
	otherText   = 8000
)

// request is the message as the service reads it.
func (w *webhook) request(ctx context.Context, m Message) (*http.Request, error) {
	header := make(http.Header)
	method, address := http.MethodPost, w.r.URL
	var body any
	switch w.r.Type {
	case Slack:
		body = map[string]string{"text": slackText(shorten(m.Title+"\n"+m.Text, otherText))}
	case Discord:
		body = map[string]any{"content": shorten(m.Title+"\n"+m.Text, discordText), "allowed_mentions": map[string]any{"parse": []string{}}}
	case Gotify:
		address = below(address, "message")
		header.Set("X-Gotify-Key", w.r.Token)
		body = map[string]any{"title": m.Title, "message": shorten(m.Text, otherText), "priority": priorityOf(m, 2, 5, 8)}
	case Ntfy:
		header.Set("Title", mime.QEncoding.Encode("utf-8", shorten(m.Title, 200)))
		header.Set("Priority", fmt.Sprint(priorityOf(m, 2, 3, 5)))
		header.Set("Tags", tagOf(m))
		header.Set("Content-Type", "text/plain; charset=utf-8")
		w.authorize(header)
		return newRequest(ctx, method, address, header, []byte(shorten(m.Text, ntfyText)))
	case Ping:
		if m.Level != Critical {
			return newRequest(ctx, http.MethodGet, address, header, nil)
		}
		header.Set("Content-Type", "text/plain; charset=utf-8")
		return newRequest(ctx, method, below(address, "fail"), header, []byte(shorten(m.Text, otherText)))
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

// slackText escapes what Slack reads as markup.
func slackText(text string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(text)
}
