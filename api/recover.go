package api

import (
	"errors"
	"net/http"
	"runtime/debug"
)

// recovered answers for a handler that panicked, where that is still possible; else the connection must be
// cut (abort). ErrAbortHandler is no fault: it cuts a response that cannot be completed.
func (s *Server) recovered(w *response, r *http.Request, x *requestState, fault any) (abort bool) {
	switch {
	case fault == nil:
		return false
	case fault == any(http.ErrAbortHandler):
		switch {
		case w.cut != nil:
			x.log.Reason = w.cut.Error()
		case x.log.Reason == "": // else the handler has said why
			x.log.Reason = "aborted"
		}
		return true
	}
	s.o.Logger.Error("panic", "request", x.id.String(), "fault", fault, "stack", string(debug.Stack()))
	x.log.Reason = "panic"
	if w.status != 0 {
		w.cut = errors.New("panic")
		return true
	}
	clear(w.Header())
	WriteText(w, r, http.StatusInternalServerError, InternalError)
	return false
}
