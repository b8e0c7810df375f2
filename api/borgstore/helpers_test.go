package borgstore_test

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/http"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/api/borgstore"
	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// now is the servers' clock in these tests: listings show it.
var now = time.UnixMilli(1795307688331)

// options of a fixture. The zero value is one repository at "/", without limits, open to everyone.
type options struct {
	dir    string // of the data; "": a new one
	many   bool   // many repositories: paths begin with a name
	quota  int64
	fs     vfs.FS // nil: the operating system's
	auth   *api.AuthOptions
	limits api.Limits
	root   string
	clock  func() time.Time // nil: it stands at now

	unchecked bool // items are read without checks
}

func start(t testing.TB, o options) *apitest.Fixture {
	t.Helper()
	if o.quota == 0 {
		o.quota = -1
	}
	if o.clock == nil {
		o.clock = func() time.Time { return now }
	}
	set := datadir.Open(datadir.Options{
		Dir: cmp.Or(o.dir, t.TempDir()), Single: !o.many,
		Environment: repo.Environment{FS: o.fs, Now: o.clock, Unchecked: o.unchecked},
		Settings:    func(string) repo.Settings { return repo.Settings{Quota: o.quota} },
	})
	engine := compact.New(compact.Options{})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Errorf("close engine: %v", err)
		}
		if err := set.Close(); err != nil {
			t.Errorf("close repositories: %v", err)
		}
	})
	apiOptions := api.Options{
		Set: set, Root: o.root, Limits: o.limits,
		Dialects: []api.Dialect{borgstore.New(borgstore.Options{Engine: engine, TempDir: t.TempDir()})},
	}
	if o.auth != nil {
		auth, err := api.NewAuth(*o.auth)
		if err != nil {
			t.Fatalf("NewAuth: %v", err)
		}
		apiOptions.Auth = auth
	}
	return apitest.Start(t, apiOptions)
}

// serveOn answers on one more listener until the test ends.
func serveOn(t testing.TB, f *apitest.Fixture, l net.Listener) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- f.Server.Serve(api.Listener{Listener: l}) }()
	t.Cleanup(func() {
		if err := f.Server.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}
