package restic_test

import (
	"context"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/restic"
	"packhouse/repo/datadir"
)

// createLater sends a request to create r, and returns when it was answered. status is that of the answer.
func (w *world) createLater(user string) (answered chan int) {
	answered = make(chan int, 1)
	go func() {
		a := w.call(user, "POST", "/r/?create=true", "")
		answered <- a.StatusCode
	}()
	return answered
}

// TestInitializedAtOnce: who creates a repository that another client initializes this moment is answered when that one has stored its config, so that it
// finds it, and does not store a key and a config of its own.
func TestInitializedAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	second, third := w.createLater("all"), w.createLater("maintain")
	w.want(200, "read", "POST", "/r/?create=true", "") // it can initialize nothing
	w.want(200, "all", "GET", "/r/keys/", "")
	w.store("all", "r", "keys", "key")
	select {
	case <-second:
		t.Error("the second is answered before the first has stored its config")
	case <-third:
		t.Error("the third is answered before the first has stored its config")
	case <-time.After(100 * time.Millisecond):
	}
	w.want(200, "all", "POST", "/r/config", "config")
	for range 2 {
		select {
		case status := <-second:
			if second = nil; status != 200 {
				t.Errorf("the second got %d", status)
			}
		case status := <-third:
			if third = nil; status != 200 {
				t.Errorf("the third got %d", status)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("no answer although the config is there")
		}
	}
	w.create("r") // at once
}

// TestInitializationAbandoned: a client that has created a repository and stores no config keeps others waiting for a limited time, each of them alone, and
// not more than a few.
func TestInitializationAbandoned(t *testing.T) {
	t.Parallel()
	w := startDialect(t, restic.Options{Initialize: 300 * time.Millisecond}, api.Options{}, datadir.Options{})
	began := time.Now()
	w.create("r")
	w.create("r")
	if waited := time.Since(began); waited < 250*time.Millisecond {
		t.Errorf("the second client has waited %v only", waited)
	}
	w.create("r") // behind the second
	if waited := time.Since(began); waited < 500*time.Millisecond {
		t.Errorf("the third client has waited %v only", waited)
	}

	w = startDialect(t, restic.Options{Initialize: time.Hour}, api.Options{}, datadir.Options{})
	w.create("r")
	for range 8 {
		w.createLater("all")
	}
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		answered := w.createLater("all")
		select {
		case status := <-answered:
			if status != 503 {
				t.Errorf("one too many is answered with %d", status)
			}
		case <-time.After(time.Second): // the others have not arrived yet, and this one is among those that wait
			if time.Now().Before(end) {
				continue
			}
			t.Error("more than eight wait")
		}
		break
	}
	w.want(200, "all", "POST", "/r/config", "config") // lets them go
}

// TestWaitersAreBounded: those who wait for several repositories leave slots for other requests, and a server that is told to stop does not wait for them.
func TestWaitersAreBounded(t *testing.T) {
	t.Parallel()
	w := startDialect(t, restic.Options{Initialize: time.Hour}, api.Options{Limits: api.Limits{Requests: 16}}, datadir.Options{})
	answers := make(chan int, 3)
	for _, name := range []string{"a", "b", "c"} {
		w.create(name)
		go func() { answers <- w.call("all", "POST", "/"+name+"/?create=true", "").StatusCode }()
	}
	answered := func(what string) {
		t.Helper()
		select {
		case status := <-answers:
			if status != 503 {
				t.Errorf("%s is answered with %d", what, status)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("no answer to %s", what)
		}
	}
	answered("one too many") // two may wait, of 16
	w.want(200, "all", "GET", "/a/keys/", "")
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := w.Server.Shutdown(ctx); err != nil {
		t.Errorf("stop: %v", err)
	}
	for range 2 {
		answered("who waits when the server stops")
	}
}

// TestConfigIsDeletedUnderALock: a client that could not store its config deletes the one of another that lies there. Who replaces it has a lock.
func TestConfigIsDeletedUnderALock(t *testing.T) {
	t.Parallel()
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	w.want(200, "all", "DELETE", "/r/config", "") // there is none
	w.want(200, "all", "POST", "/r/config", "config")
	w.want(403, "all", "POST", "/r/config", "another")
	w.want(403, "all", "DELETE", "/r/config", "")
	w.store("maintain", "r", "locks", "lock of another")
	w.want(403, "all", "DELETE", "/r/config", "")
	lock := w.store("all", "r", "locks", "lock")
	w.want(403, "maintain", "DELETE", "/r/config", "")
	w.want(200, "all", "DELETE", "/r/config", "")
	w.want(404, "all", "GET", "/r/config", "")
	w.want(200, "all", "POST", "/r/config", "config, version 2")
	w.want(200, "all", "DELETE", lock, "")
	w.want(403, "all", "DELETE", "/r/config", "")
	if a := w.want(200, "all", "GET", "/r/config", ""); a.body != "config, version 2" {
		t.Errorf("config: %q", a.body)
	}
}
