package vger

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"strings"

	"github.com/klauspost/compress/gzip"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
)

// firstPage is how many bytes of a list are gathered before something is sent.
const firstPage = 64 << 10

// list answers GET {prefix}?list: the keys below a directory, [] for one that is not there or is an object.
func (x *request) list() error {
	x.log("list")
	if !x.key.listable() {
		return errPath
	}
	l := &keyList{x: x}
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) {
		return l.end(nil, nil)
	}
	if err != nil {
		return err
	}
	if x.key.text == "locks" {
		return x.listLocks(a, l)
	}
	return l.walk(a, x.key.text)
}

// listAll answers GET ?list: every key of the repository, sorted bytewise; [] where there is none, from which `delete`
// of vykar sees that.
func (x *request) listAll() error {
	x.log("list")
	l := &keyList{x: x}
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) {
		return l.end(nil, nil)
	}
	if err != nil {
		return err
	}
	return l.walk(a, "")
}

// listLocks lists the lock objects, and the shadow of a TTL lock as the first of them.
func (x *request) listLocks(a *repo.Access, l *keyList) error {
	s, held, err := x.heldShadow(a)
	if err != nil {
		return err
	}
	locks := l.listing()
	add := locks.Append
	locks.Append = func(page []byte, row *index.Row) []byte {
		if held {
			page = api.AppendString(l.separate(page), s.key(row.Key()))
			held = false
		}
		return add(page, row)
	}
	return locks.Run(x.r.Context(), a, index.ListOptions{Dir: "locks", Recursive: true}, func(page []byte, err error) error {
		if held && (err == nil || nothingBelow(err)) {
			page = api.AppendString(l.separate(page), s.key(""))
		}
		return l.end(page, err)
	})
}

// keyList writes a JSON array of keys as they come from the index. While it fits the first page an error still gets its own
// status; after that an error cuts the answer off, as a shorter list would look like missing packs.
type keyList struct {
	x     *request
	some  bool // there is a key already
	begun bool // the header is out
	zip   *gzip.Writer
}

// walk lists everything below dir.
func (l *keyList) walk(a *repo.Access, dir string) error {
	return l.listing().Run(l.x.r.Context(), a, index.ListOptions{Dir: dir, Recursive: true}, l.end)
}

func (l *keyList) listing() api.Listing {
	return api.Listing{First: firstPage, Append: l.append, Send: l.send}
}

func (l *keyList) append(page []byte, row *index.Row) []byte {
	return api.AppendKey(l.separate(page), row)
}

// separate appends what comes before a key.
func (l *keyList) separate(page []byte) []byte {
	if l.some {
		return append(page, ',')
	}
	l.some = true
	return append(page, '[')
}

// begin sends the header of an answer whose length is not known yet.
func (l *keyList) begin() {
	if l.begun {
		return
	}
	l.begun = true
	h := l.x.w.Header()
	h.Set("Content-Type", jsonType)
	h.Add("Vary", "Accept-Encoding")
	if acceptsGzip(l.x.r.Header.Get("Accept-Encoding")) {
		h.Set("Content-Encoding", "gzip")
		// The level is one that gzip knows, so there is no error.
		l.zip, _ = gzip.NewWriterLevel(l.x.w, gzip.BestSpeed)
	}
	l.x.w.WriteHeader(http.StatusOK)
}

// send sends a part of the list.
func (l *keyList) send(page []byte) error {
	l.begin()
	var w io.Writer = l.x.w
	if l.zip != nil {
		w = l.zip
	}
	_, err := w.Write(page)
	return err
}

// nothingBelow tells of what is not there, or no directory, that it has no keys.
func nothingBelow(err error) bool {
	return errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrNotDir)
}

// end closes the array, behind what is left of it. A short one is sent with its length, a long one behind what is out already.
func (l *keyList) end(page []byte, err error) error {
	if err != nil && !nothingBelow(err) {
		if l.begun {
			l.x.abort(err)
		}
		return err
	}
	if !l.some {
		page = append(page, '[')
	}
	page = append(page, ']')
	if !l.begun {
		l.short(page)
		return nil
	}
	err = l.send(page)
	if err == nil && l.zip != nil {
		err = l.zip.Close()
	}
	if err != nil {
		l.x.abort(err)
	}
	return nil
}

// short sends a list that fits the first page.
func (l *keyList) short(body []byte) {
	h := l.x.w.Header()
	h.Add("Vary", "Accept-Encoding")
	if len(body) > 1<<10 && acceptsGzip(l.x.r.Header.Get("Accept-Encoding")) {
		var packed bytes.Buffer
		zip, err := gzip.NewWriterLevel(&packed, gzip.BestSpeed)
		if err == nil {
			_, err = zip.Write(body)
		}
		if err == nil {
			err = zip.Close()
		}
		if err == nil {
			h.Set("Content-Encoding", "gzip")
			body = packed.Bytes()
		}
	}
	api.WriteBytes(l.x.w, l.x.r, http.StatusOK, jsonType, body)
}

// acceptsGzip tells whether an Accept-Encoding offers gzip.
func acceptsGzip(header string) bool {
	for _, offer := range strings.Split(header, ",") {
		coding, weight, _ := strings.Cut(offer, ";")
		if strings.EqualFold(strings.TrimSpace(coding), "gzip") {
			q, ok := strings.CutPrefix(strings.ReplaceAll(weight, " ", ""), "q=")
			return !ok || strings.Trim(q, "0.") != ""
		}
	}
	return false
}
