package api_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/repo"
)

// TestClientGone: a request whose client closes the connection has status 499 in the log, whether it was sending or waiting. A body that is too short
// for other reasons, and a request that the server itself has cut off because it stops, keep their status.
func TestClientGone(t *testing.T) {
	table := api.ErrorTable{{Err: repo.ErrIncomplete, Status: http.StatusBadRequest}, {Err: repo.ErrNoSpace, Status: http.StatusInsufficientStorage}}
	began := make(chan struct{})
	refuse := func(w http.ResponseWriter, r *http.Request, target api.Target) bool {
		began <- struct{}{}
		err := error(repo.ErrNoSpace)
		switch target.Path {
		case "/reads":
			_, err = io.Copy(io.Discard, r.Body)
			err = fmt.Errorf("%w: %w", repo.ErrIncomplete, err)
		case "/waits", "/stopped":
			<-r.Context().Done()
			err = r.Context().Err()
		case "/refuses":
			<-r.Context().Done()
		case "/short":
			_, _ = io.Copy(io.Discard, r.Body)
			err = repo.ErrIncomplete
		}
		table.WriteError(w, r, target.Log, err)
		return true
	}
	for _, test := range []struct {
		path, body string
		length     int
		status     int
	}{
		{"/reads", "half", 8, 499},
		{"/waits", "", 0, 499},
		{"/refuses", "", 0, http.StatusInsufficientStorage},
		{"/short", "all", 3, http.StatusBadRequest},
		{"/stopped", "", 0, http.StatusServiceUnavailable},
	} {
		f := startEcho(t, api.Options{Dialects: []api.Dialect{echo{name: "plain", serve: refuse}}})
		conn := f.Dial(t)
		fmt.Fprintf(conn, "PUT /r%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", test.path, test.length, test.body)
		<-began
		switch test.path {
		case "/short":
		case "/stopped":
			ended, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			if err := f.Server.Shutdown(ended); err == nil {
				t.Error("the request was not aborted")
			}
			cancel()
		default:
			_ = conn.Close()
		}
		f.Log.Await(t, 0, fmt.Sprintf("key=%s status=%d ", test.path, test.status))
	}
}
