package vger

import (
	"errors"
	"net/http"
	"sync"
	"time"

	"packhouse/api"
)

// slowAnswer is a JSON answer to work that may take longer than clients wait for headers (300 s), or a proxy. When
// the work is silent for a while the answer begins with status 200 and white space, which JSON allows
// in front; if the work then fails, the answer is cut off and the client asks again.
type slowAnswer struct {
	x    *request
	text []byte // not sent yet; of the handler's goroutine, after settle

	mu    sync.Mutex // held over what touches the response while keepAlive runs
	begun bool       // the header is out; guarded by mu

	once sync.Once
	stop chan struct{}
	idle sync.WaitGroup // keepAlive
}

// slow starts an answer; the caller must end it by end or fail.
func (x *request) slow() *slowAnswer {
	s := &slowAnswer{x: x, stop: make(chan struct{})}
	s.idle.Go(s.keepAlive)
	return s
}

func (s *slowAnswer) keepAlive() {
	ticker := time.NewTicker(s.x.d.o.KeepAlive)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			if s.send([]byte(" ")) != nil {
				return // the client is gone; what it asked for goes on
			}
		}
	}
}

// settle ends the white space: from here on the handler alone writes.
func (s *slowAnswer) settle() {
	s.once.Do(func() { close(s.stop) })
	s.idle.Wait()
}

// send begins the answer if it has not begun, and sends p now.
func (s *slowAnswer) send(p []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.begun {
		s.begun = true
		s.x.w.Header().Set("Content-Type", jsonType)
		s.x.w.WriteHeader(http.StatusOK)
	}
	if len(p) > 0 {
		if _, err := s.x.w.Write(p); err != nil {
			return err
		}
	}
	return http.NewResponseController(s.x.w).Flush()
}

// flushSize is how many bytes of an answer are gathered before they are sent.
const flushSize = 64 << 10

// flush sends what is in text when there is much of it.
func (s *slowAnswer) flush() error {
	if len(s.text) < flushSize {
		return nil
	}
	err := s.send(s.text)
	s.text = s.text[:0]
	return err
}

// end sends the rest. An answer that was short and quick gets a length.
func (s *slowAnswer) end() {
	s.settle()
	if !s.begun {
		api.WriteBytes(s.x.w, s.x.r, http.StatusOK, jsonType, s.text)
		return
	}
	if err := s.send(s.text); err != nil {
		s.x.abort(err)
	}
}

// endSent is end, and returns when all of the answer is in the hands of the connection. An error, also of a client that
// has given up, means that the client may not have got it.
func (s *slowAnswer) endSent() error {
	s.settle()
	ctx := s.x.r.Context()
	if !s.begun {
		if err := ctx.Err(); err != nil {
			return err
		}
		api.WriteBytes(s.x.w, s.x.r, http.StatusOK, jsonType, s.text)
		s.text, s.begun = nil, true
	}
	return errors.Join(s.send(s.text), ctx.Err())
}

// fail gives the error back to be answered, or cuts off an answer that has begun.
func (s *slowAnswer) fail(err error) error {
	s.settle()
	if s.begun {
		s.x.abort(err)
	}
	return err
}
