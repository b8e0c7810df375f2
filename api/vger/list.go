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

// listBuffer is how much of a list is gathered before it is sent, in bytes.
const listBuffer = 64 << 10

// list answers GET {prefix}?list: the keys below a directory, [] for one that is not there or is an object.
func (x *request) list() error {
	x.log("list")
	if !x.key.listable() {
		return errPath
	}
	l := newKeyList(x)
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) {
		return l.end()
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
	l := newKeyList(x)
	a, err := x.access()
	if errors.Is(err, repo.ErrNoRepository) {
		return l.end()
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
	err = api.List(x.r.Context(), a, index.ListOptions{Dir: "locks", Recursive: true}, func(entry index.Entry) error {
		if held {
			l.append(s.key(entry.Key))
			held = false
		}
		return l.add(entry.Key)
	})
	if err == nil || errors.Is(err, repo.ErrNotFound) {
		if held {
			l.append(s.key(""))
		}
		return l.end()
	}
	return l.fail(err)
}

// keyList writes a JSON array of keys as they come from the index. A list of any length takes
// one buffer. While it fits the buffer an error still gets its own status; after that an error cuts the
// answer off, as a shorter list would look like missing packs.
type keyList struct {
	x     *request
	text  []byte // not sent yet
	long  bool   // more than the buffer holds: from now on it may be sent
	begun bool   // the header is out
	zip   *gzip.Writer
}

func newKeyList(x *request) *keyList { return &keyList{x: x, text: make([]byte, 0, listBuffer+4<<10)} }

// walk lists everything below dir and ends the answer.
func (l *keyList) walk(a *repo.Access, dir string) error {
	err := api.List(l.x.r.Context(), a, index.ListOptions{Dir: dir, Recursive: true}, func(entry index.Entry) error {
		return l.add(entry.Key)
	})
	if err == nil || errors.Is(err, repo.ErrNotFound) || errors.Is(err, repo.ErrNotDir) {
		return l.end()
	}
	return l.fail(err)
}

// fail ends a list that could not be read whole.
func (l *keyList) fail(err error) error {
	if l.begun {
		l.x.abort(err)
	}
	return err
}

// add appends one key, and sends what was gathered when the buffer is full. The first time that happens it sends nothing
// and returns api.ErrStream.
func (l *keyList) add(key string) error {
	l.append(key)
	if len(l.text) < listBuffer {
		return nil
	}
	if !l.long {
		l.long = true
		return api.ErrStream
	}
	l.begin()
	return l.flush()
}

// append gathers one key.
func (l *keyList) append(key string) {
	separator := byte(',')
	if len(l.text) == 0 && !l.begun {
		separator = '['
	}
	l.text = appendJSON(append(l.text, separator), key)
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

// flush sends what was gathered.
func (l *keyList) flush() error {
	var w io.Writer = l.x.w
	if l.zip != nil {
		w = l.zip
	}
	_, err := w.Write(l.text)
	l.text = l.text[:0]
	return err
}

// end closes the array. A short one is sent with its length, a long one behind what is out already.
func (l *keyList) end() error {
	if len(l.text) == 0 && !l.begun {
		l.text = append(l.text, '[')
	}
	l.text = append(l.text, ']')
	if !l.begun {
		return l.short()
	}
	err := l.flush()
	if err == nil && l.zip != nil {
		err = l.zip.Close()
	}
	if err != nil {
		l.x.abort(err)
	}
	return nil
}

// short sends a list that fits the buffer.
func (l *keyList) short() error {
	h := l.x.w.Header()
	h.Add("Vary", "Accept-Encoding")
	body := l.text
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
	return nil
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
