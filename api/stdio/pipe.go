package stdio

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Options of Run.
type Options struct {
	First    *Link                                    // the first connection; nil: none yet
	Connect  func(ctx context.Context) (*Link, error) // to whoever holds the repository now
	Username string                                   // with Password: what the client must send; both empty: nothing
	Password string
	In       io.Reader
	Out      io.Writer
	Log      *slog.Logger
	// Absent tells why there is no repository; nil when there is one, or only a holder can tell. It is asked before each request
	// until a connection was needed. It may be nil.
	Absent   func() *Absence
	Changing *atomic.Bool // set while a request that may change something is under way; nil: nobody looks
}

// Run answers requests until the end of o.In, one after the other. It returns nil at the end of input, and ErrLost (wrapped) if the
// client must send its request again. When ctx ends, so does the connection to the holder, and the request on it.
func Run(ctx context.Context, o Options) error {
	if o.Changing == nil {
		o.Changing = new(atomic.Bool)
	}
	p := &pipe{o: o, link: o.First, linked: o.First != nil, in: bufio.NewReaderSize(o.In, 256<<10), out: bufio.NewWriterSize(o.Out, 64<<10)}
	defer p.drop()
	defer context.AfterFunc(ctx, p.cutLink)()
	for {
		err := p.one(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

type pipe struct {
	o   Options
	in  *bufio.Reader
	out *bufio.Writer

	linked  bool // a connection was needed
	opening bool // the client has begun to open a repository that is not there, see absent

	mu   sync.Mutex // held for a change of link, which only the goroutine of Run makes, and for a look by others
	link *Link      // nil: none yet, or lost
}

func (p *pipe) drop() { p.setLink(nil) }

// setLink closes the link, and goes on with another.
func (p *pipe) setLink(link *Link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		_ = p.link.Close()
	}
	p.link = link
}

// cutLink has what waits for the holder end.
func (p *pipe) cutLink() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.link != nil {
		_ = p.link.Close()
	}
}

// one answers one request; io.EOF when there is no other.
func (p *pipe) one(ctx context.Context) error {
	h, err := readHead(p.in)
	switch {
	case errors.Is(err, errTooLong):
		if err := answer(p.out, true, http.StatusRequestHeaderFieldsTooLarge, err.Error()); err != nil {
			return err
		}
		return io.EOF // where the next request begins is not known
	case errors.Is(err, errMalformed):
		return answer(p.out, true, http.StatusBadRequest, err.Error())
	case errors.Is(err, io.ErrUnexpectedEOF):
		return io.EOF
	case err != nil:
		return err
	}
	r, err := parseRequest(h)
	if err != nil {
		return answer(p.out, true, http.StatusBadRequest, err.Error())
	}
	if accept, _ := h.get("Accept"); accept != mediaType {
		if err := p.skip(r); err != nil {
			return err
		}
		return answer(p.out, r.method != http.MethodHead, http.StatusNotAcceptable,
			"Not Acceptable: unsupported or missing Accept header")
	}
	if !p.authorized(h) {
		if err := p.skip(r); err != nil {
			return err
		}
		return answer(p.out, r.method != http.MethodHead, http.StatusUnauthorized, "Unauthorized",
			`WWW-Authenticate: Basic realm="BorgStore REST Server"`)
	}
	if !p.linked && p.o.Absent != nil {
		if absence := p.o.Absent(); absence != nil && !p.needsHolder(r, absence) {
			if err := p.skip(r); err != nil {
				return err
			}
			return p.absent(r, absence)
		}
	}
	body := &body{r: r, in: p.in}
	if r.length >= 0 && r.length <= smallBody {
		kept := make([]byte, r.length)
		if _, err := io.ReadFull(p.in, kept); err != nil {
			return cut(err)
		}
		body.kept = kept
	}
	return p.relay(ctx, r, body)
}

// cut is the error for the end of input inside a body, after which no answer can be sent.
func cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}

func (p *pipe) authorized(h *head) bool {
	if p.o.Username == "" && p.o.Password == "" {
		return true
	}
	value, _ := h.get("Authorization")
	scheme, encoded, _ := strings.Cut(value, " ")
	sent, err := base64.StdEncoding.DecodeString(strings.TrimSpace(encoded))
	if err != nil || !strings.EqualFold(scheme, "Basic") {
		sent = nil
	}
	got, want := sha256.Sum256(sent), sha256.Sum256([]byte(p.o.Username+":"+p.o.Password))
	return subtle.ConstantTimeCompare(got[:], want[:]) == 1
}

// skip reads and discards a body, so that the next request can be found.
func (p *pipe) skip(r *request) error {
	b := &body{r: r, in: p.in}
	return cut(b.drain())
}

// relay sends a request to a holder, and to the next one if the first has not begun it.
func (p *pipe) relay(ctx context.Context, r *request, b *body) error {
	p.o.Changing.Store(!r.repeatable())
	defer p.o.Changing.Store(false)
	for began, pause := time.Now(), time.Duration(0); ; pause += 5 * time.Millisecond {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if p.link != nil && !p.link.alive() {
			p.drop()
		}
		if p.link == nil {
			link, err := p.o.Connect(ctx)
			if err != nil {
				return err
			}
			p.setLink(link)
			p.linked = true
		}
		err := p.link.hello()
		if err == nil {
			err = p.exchange(r, b)
		} else {
			err = &notBegun{plain(err)}
		}
		var undone *notBegun
		if !errors.As(err, &undone) {
			return err
		}
		p.drop()
		if time.Since(began) > patience {
			return fmt.Errorf("%w: no other process has accepted the request", ErrLost)
		}
		p.o.Log.Debug("sending the request to the next holder", "reason", undone.reason)
		time.Sleep(min(pause, 250*time.Millisecond))
	}
}

// notBegun reports that a request may be sent to another holder.
type notBegun struct{ reason string }

func (e *notBegun) Error() string { return "request not begun: " + e.reason }

// plain is the text of an error without the names of sockets: the client reads it.
func plain(err error) string {
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return err.Error()
}

// lost is the error for a broken connection before the first byte of a response, when all that the holder needs was sent.
func lost(r *request, b *body, err error) error {
	if r.repeatable() && !b.started {
		return &notBegun{plain(err)}
	}
	return fmt.Errorf("%w: %s", ErrLost, plain(err))
}

// exchange sends one request and passes the response on.
func (p *pipe) exchange(r *request, b *body) error {
	await := b.kept == nil
	message := r.appendTo(nil, p.link.Header, await)
	if n, err := p.link.Write(append(message, b.kept...)); err != nil {
		if n < len(message) || r.needsBody() {
			return &notBegun{plain(err)} // the holder does not have all that it needs
		}
		return lost(r, b, err)
	}
	resp, err := readResponse(p.link.r)
	if err != nil {
		if await && r.needsBody() {
			return &notBegun{plain(err)} // it did not have the body
		}
		return lost(r, b, err)
	}
	if _, leaving := resp.head.get(HeaderLeaving); leaving && resp.status == http.StatusServiceUnavailable {
		return &notBegun{"the holder is ending"}
	}
	switch {
	case await && resp.status == http.StatusContinue:
		resp, err = p.sendBody(b)
		if err != nil {
			return err
		}
	case await: // refused unseen
		if err := cut(b.drain()); err != nil {
			return err
		}
	}
	return p.pass(r, resp)
}

// sendBody sends what the holder is waiting for and reads its response.
func (p *pipe) sendBody(b *body) (*response, error) {
	sendErr := b.copyTo(p.link)
	var gone *inputError
	if errors.As(sendErr, &gone) {
		return nil, cut(gone.err) // the holder sees the connection end and keeps nothing
	}
	if sendErr != nil {
		// The holder answered before it had all, or it is gone.
		if err := cut(b.drain()); err != nil {
			return nil, err
		}
	}
	for {
		resp, err := readResponse(p.link.r)
		if err != nil {
			return nil, fmt.Errorf("%w: %s", ErrLost, plain(err))
		}
		if resp.status >= 200 {
			return resp, nil
		}
	}
}

// pass writes a response for the client.
func (p *pipe) pass(r *request, resp *response) error {
	connection, _ := resp.head.get("Connection")
	closing := strings.EqualFold(connection, "close")
	var err error
	switch {
	case r.method == http.MethodHead:
		err = resp.writeTo(p.out, max(resp.length, 0))
	case resp.length < 0:
		closing = true
		err = p.passUnsized(resp)
	default:
		if err = resp.writeTo(p.out, resp.length); err == nil {
			_, err = io.CopyN(p.out, p.link.r, resp.length)
			var op *net.OpError
			if errors.Is(err, io.EOF) || errors.As(err, &op) {
				err = fmt.Errorf("%w: its response ended early", ErrLost)
			}
		}
	}
	if err != nil {
		return err
	}
	if closing {
		p.drop()
	}
	return p.out.Flush()
}

// passUnsized finds out the length of a response by reading it; only short messages of
// the HTTP library come without.
func (p *pipe) passUnsized(resp *response) error {
	var from io.Reader = p.link.r
	if _, chunked := resp.head.get("Transfer-Encoding"); chunked {
		from = httputil.NewChunkedReader(p.link.r)
	}
	var text bytes.Buffer
	n, err := io.Copy(&text, io.LimitReader(from, maxUnsized+1))
	if err != nil {
		return fmt.Errorf("%w: %s", ErrLost, plain(err))
	}
	if n > maxUnsized {
		return fmt.Errorf("%w: a response without length is longer than %d bytes", ErrLost, maxUnsized)
	}
	if err := resp.writeTo(p.out, n); err != nil {
		return err
	}
	_, err = p.out.Write(text.Bytes())
	return err
}
