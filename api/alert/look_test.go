package alert_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api/alert"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
	"packhouse/repo/repotest"
)

// volume is a file system with so much space and so many inodes.
type volume struct {
	vfs.FS
	free, inodes atomic.Int64
}

func newVolume() *volume {
	v := &volume{FS: vfs.OS()}
	v.free.Store(1 << 40)
	v.inodes.Store(1000)
	return v
}

func (v *volume) Space(string) (free, total int64, err error) { return v.free.Load(), 1 << 40, nil }

func (v *volume) Inodes(string) (free, total int64, err error) { return v.inodes.Load(), 1000, nil }

// scene is a set, and a monitor whose looks are made by the test.
type scene struct {
	t      *testing.T
	dir    string
	set    *datadir.Set
	disk   *volume
	clock  *repotest.SettableClock
	m      *alert.Monitor
	logins atomic.Int64
	ends   alert.ServerCertificate
}

func newScene(t *testing.T, change func(*datadir.Options, *alert.Config)) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir(), disk: newVolume(), clock: repotest.FixedClock(time.Now().Truncate(time.Second))}
	o := datadir.Options{Dir: s.dir, Environment: repo.Environment{FS: s.disk, Now: s.clock.Now}}
	c := alert.DefaultConfig()
	if change != nil {
		change(&o, &c)
	}
	s.set = datadir.Open(o)
	t.Cleanup(func() {
		if err := s.set.Close(); err != nil {
			t.Error(err)
		}
	})
	s.m = alert.New(alert.Options{
		Config: c, Server: "here", Now: s.clock.Now, FailedLogins: s.logins.Load, Certificate: func() alert.ServerCertificate { return s.ends },
	})
	return s
}

// create makes a repository of borg's.
func (s *scene) create(name string) *repo.Repository {
	s.t.Helper()
	r, err := s.set.Create(s.t.Context(), name, "borgstore")
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

func (s *scene) backup(r *repo.Repository, writer string) {
	s.t.Helper()
	_, err := r.As(repo.Principal{Name: writer}).Put(s.t.Context(), repo.PutRequest{
		Key: "archives/" + writer + fmt.Sprint(s.clock.Now().UnixNano()), Body: strings.NewReader("x"), Size: 1, Backup: true,
	})
	if err != nil {
		s.t.Fatal(err)
	}
}

// expect looks, and compares "kind repository/subject level" of what it sees.
func (s *scene) expect(want ...string) {
	s.t.Helper()
	seen, _ := s.m.Look(s.set)
	var got []string
	for _, c := range seen {
		got = append(got, fmt.Sprintf("%s %s %s", c.Kind, cmp.Or(strings.TrimSuffix(c.Repository+"/"+c.Subject, "/"), "/"), c.Level))
		if c.Text == "" || strings.Contains(c.Text, s.dir) || strings.ContainsAny(c.Text, "\n") {
			s.t.Errorf("the text of %v is %q", c.Key, c.Text)
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		s.t.Errorf("got %q, want %q", got, want)
	}
}

const day = 24 * time.Hour

// TestFreshness: a repository without a new backup, one that never had any, and one of several writers.
func TestFreshness(t *testing.T) {
	within := 3 * day
	s := newScene(t, func(_ *datadir.Options, c *alert.Config) {
		c.Policy = func(name string) alert.Policy {
			p := alert.Policy{BackupWithin: within, RetiredWriters: []string{"old"}}
			if name == "archive" {
				p.BackupWithin = 0
			}
			return p
		}
	})
	a := s.create("a")
	s.create("archive")
	s.expect()
	s.backup(a, "one")
	s.backup(a, "old")
	s.create("never")
	s.clock.Advance(within)
	s.expect()
	s.clock.Advance(time.Second)
	s.expect("backup a warning", "backup never warning")
	s.backup(a, "two")
	s.expect("writer a/one warning", "backup never warning")
	s.backup(a, "one")
	s.expect("backup never warning")
}

// TestShortages: what is nearly used, and what clients were refused for.
func TestShortages(t *testing.T) {
	s := newScene(t, func(o *datadir.Options, _ *alert.Config) {
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: 1000, TrashQuota: 100_000, Grace: time.Hour}
		}
	})
	r := s.create("a")
	a := r.As(repo.Principal{Name: "w"})
	repotest.MustPut(t, a, "packs/1", strings.Repeat("x", 890))
	s.expect()
	repotest.MustPut(t, a, "packs/2", strings.Repeat("x", 20))
	s.expect("quota a warning")
	if _, err := repotest.Put(a, "packs/3", strings.Repeat("x", 500)); err == nil {
		t.Fatal("the quota did not hold")
	}
	s.expect("quota a critical")
	s.clock.Advance(2 * time.Hour)
	s.expect("quota a warning")

	s.disk.free.Store(1 << 36)
	s.expect("quota a warning", "disk / warning")
	s.disk.free.Store(1 << 39)
	s.disk.inodes.Store(99)
	s.expect("quota a warning", "inodes / warning")
	s.disk.inodes.Store(900)
	s.disk.free.Store(0)
	s.expect("quota a warning", "disk / warning")
	if _, err := repotest.Put(a, "packs/4", "x"); err == nil {
		t.Fatal("there was no space")
	}
	s.expect("quota a warning", "disk / critical")
}

// TestTrash: what can be restored fills its quota.
func TestTrash(t *testing.T) {
	s := newScene(t, func(o *datadir.Options, _ *alert.Config) {
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: -1, TrashQuota: 1000, Grace: time.Hour}
		}
	})
	a := s.create("a").As(repo.Principal{Name: "w"})
	repotest.MustPut(t, a, "packs/1", strings.Repeat("x", 950))
	s.expect()
	if err := a.Delete(t.Context(), "packs/1"); err != nil {
		t.Fatal(err)
	}
	s.expect("trash a warning")
}

// TestTotalQuota: what all repositories together may use.
func TestTotalQuota(t *testing.T) {
	s := newScene(t, nil)
	a := s.create("a").As(repo.Principal{Name: "w"})
	s.set.SetTotalQuota(1000)
	repotest.MustPut(t, a, "packs/1", strings.Repeat("x", 890))
	s.expect()
	repotest.MustPut(t, a, "packs/2", strings.Repeat("x", 20))
	s.expect("quota / warning")
	if _, err := repotest.Put(a, "packs/3", strings.Repeat("x", 500)); err == nil {
		t.Fatal("the quota did not hold")
	}
	s.expect("quota / critical")
}

// TestOwnDisk: a repository on a disk of its own is named, once for each disk.
func TestOwnDisk(t *testing.T) {
	s := newScene(t, func(o *datadir.Options, _ *alert.Config) {
		o.FileSystem = func(dir string) string {
			if strings.HasSuffix(dir, "far") || strings.HasSuffix(dir, "far2") {
				return "far"
			}
			return "near"
		}
	})
	s.create("a")
	s.create("far")
	s.create("far2")
	s.disk.free.Store(1)
	s.expect("disk / warning", "disk far warning")
}

// TestGuardAndDamage: a refusal of the guard, lost items, and a damaged index.
func TestGuardAndDamage(t *testing.T) {
	s := newScene(t, func(o *datadir.Options, _ *alert.Config) {
		o.Settings = func(string) repo.Settings {
			return repo.Settings{Quota: -1, Grace: time.Hour, Guard: repo.Guard{MaxRemoved: repo.MaxRemoved{Count: 1}}}
		}
	})
	r := s.create("a")
	s.backup(r, "one")
	s.clock.Advance(time.Second)
	s.backup(r, "two")
	a := r.As(repo.Principal{Name: "w"})
	for _, e := range repotest.List(t, a, "archives", true) {
		if err := a.Delete(t.Context(), e); err != nil && !strings.Contains(err.Error(), "max_removed") {
			t.Fatal(err)
		}
	}
	s.expect("guard a critical")
	s.clock.Advance(day)
	s.expect()

	repotest.MustPut(t, a, "packs/1", strings.Repeat("x", 1000))
	files, err := filepath.Glob(filepath.Join(s.dir, "a", "blobs", "*", "*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no files: %v", err)
	}
	for _, file := range files {
		if err := os.Truncate(file, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := repotest.Get(a, "packs/1"); err == nil {
		t.Fatal("the item is still there")
	}
	s.expect("damage a critical")
}

// TestUnusable: a repository that cannot be opened, and one that nobody has managed to open for long.
func TestUnusable(t *testing.T) {
	s := newScene(t, nil)
	s.create("a")
	if err := os.MkdirAll(filepath.Join(s.dir, "broken"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "broken", "index.db"), []byte("no index"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.expect()
	if _, unseen := s.m.Look(s.set); !slices.Equal(unseen, []string{"broken"}) {
		t.Errorf("not known: got %q", unseen)
	}
	s.clock.Advance(10 * time.Minute)
	s.expect("unusable broken critical")
	if _, err := s.set.Get(t.Context(), "broken"); err == nil {
		t.Fatal("it was opened")
	}
	s.expect("unusable broken critical")
}

// TestMissing: a repository that is missing, whether the server has had it open or not, is told of until it is back or forgotten, and what else was wrong with it
// is not over.
func TestMissing(t *testing.T) {
	s := newScene(t, nil)
	if err := os.Mkdir(filepath.Join(s.dir, layout.OwnDir), 0o700); err != nil { // as a server has it
		t.Fatal(err)
	}
	s.create("a")
	s.create("b")
	s.clock.Advance(4 * day)
	s.expect("backup a warning", "backup b warning")
	place, away := filepath.Join(s.dir, "a"), filepath.Join(t.TempDir(), "a")
	if err := os.Rename(place, away); err != nil {
		t.Fatal(err)
	}
	missing := []string{"unusable a critical", "backup b warning"}
	s.expect(missing...)
	if _, unseen := s.m.Look(s.set); !slices.Equal(unseen, []string{"a"}) {
		t.Errorf("not known: got %q", unseen)
	}
	if _, err := s.set.Get(t.Context(), "a"); !errors.Is(err, repo.ErrVanished) {
		t.Fatalf("got %v", err)
	}
	s.expect(missing...)
	if err := s.set.Close(); err != nil {
		t.Fatal(err)
	}
	s.set = datadir.Open(datadir.Options{Dir: s.dir, Environment: repo.Environment{FS: s.disk, Now: s.clock.Now}})
	if _, err := s.set.Get(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	s.expect(missing...)
	if err := os.Rename(away, place); err != nil {
		t.Fatal(err)
	}
	if _, err := s.set.Get(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	s.expect("backup a warning", "backup b warning")
	if err := os.RemoveAll(place); err != nil {
		t.Fatal(err)
	}
	s.expect(missing...)
	if err := s.set.Forget("a"); err != nil {
		t.Fatal(err)
	}
	s.expect("backup b warning")
}

// TestVolume: a data directory that is gone.
func TestVolume(t *testing.T) {
	s := newScene(t, nil)
	s.create("a")
	s.expect()
	if err := os.Rename(s.dir, s.dir+".away"); err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(s.dir + ".away")
	s.expect("volume / critical")
}

// TestServer: failed logins within an hour, and the end of the certificate.
func TestServer(t *testing.T) {
	s := newScene(t, func(_ *datadir.Options, c *alert.Config) { c.FailedLogins = 10 })
	s.logins.Store(9)
	s.expect()
	s.clock.Advance(50 * time.Minute)
	s.logins.Store(10)
	s.expect("logins / warning")
	s.clock.Advance(20 * time.Minute)
	s.expect() // nine of them are of more than an hour ago
	s.logins.Store(20)
	s.expect("logins / warning")
	s.clock.Advance(2 * time.Hour)
	s.expect()

	s.ends.End = s.clock.Now().Add(15 * day)
	s.expect()
	s.clock.Advance(day + time.Second)
	s.expect("certificate / warning")
	s.clock.Advance(13 * day)
	s.expect("certificate / critical")
	s.clock.Advance(day)
	s.expect("certificate / critical")
	s.ends.End = s.clock.Now().Add(90 * day)
	s.expect()

	// One that the server renews is no news before it is late, however soon it ends.
	s.ends = alert.ServerCertificate{End: s.clock.Now().Add(6 * day), Lifetime: 6 * day}
	s.expect()
	s.clock.Advance(4*day + 12*time.Hour + time.Second)
	s.expect("certificate / critical")
	s.ends = alert.ServerCertificate{End: s.clock.Now().Add(15 * day), Lifetime: 90 * day, Missing: []string{"a.example.org"}}
	s.expect() // it has only been asked for
	s.clock.Advance(day + time.Second)
	s.expect("certificate / warning")
	s.ends.Failed = s.ends.Missing
	s.expect("certificate / critical")
	s.ends = alert.ServerCertificate{}
	s.expect()
}

// TestSilentDisk: of a repository whose disk does not answer that is said, and of others what there is to say.
func TestSilentDisk(t *testing.T) {
	var fsys *vfstest.Stalling
	s := newScene(t, func(o *datadir.Options, _ *alert.Config) {
		fsys = vfstest.NewStalling(o.FS)
		o.FS = fsys
		o.Patience = time.Second
		o.FileSystem = func(dir string) string { return strings.TrimPrefix(filepath.Base(dir), "slow-") }
	})
	s.create("fast")
	s.create("slow-a")
	s.clock.Advance(4 * day)
	release := fsys.Stall(filepath.Join(s.dir, "slow-a"))
	defer release()
	seen, unseen := s.m.Look(s.set)
	if len(seen) != 2 || seen[0].Key != (alert.Key{Kind: alert.Unusable, Repository: "slow-a"}) || seen[1].Key != (alert.Key{Kind: alert.Backup, Repository: "fast"}) {
		t.Errorf("got %v", seen)
	}
	if !slices.Equal(unseen, []string{"slow-a"}) {
		t.Errorf("not known: got %q", unseen)
	}
	release()
	repotest.WaitFor(t, "look that sees the disk again", func() bool {
		_, unseen := s.m.Look(s.set)
		return len(unseen) == 0
	})
}

// TestHangingDataDirectory: when the disk of the data directory does not answer, looks hang, and what has happened is told all the same; a receiver that
// hangs delays no other; and the end waits for neither.
func TestHangingDataDirectory(t *testing.T) {
	var fsys *vfstest.Stalling
	s := newScene(t, func(o *datadir.Options, c *alert.Config) {
		fsys = vfstest.NewStalling(o.FS)
		o.FS = fsys
		o.Patience = time.Second
		c.Interval = time.Millisecond
		for _, name := range []string{"hangs", "works"} {
			c.Receivers = append(c.Receivers, alert.Receiver{Name: name, Type: alert.Webhook, URL: "http://127.0.0.1:1/", Summary: "off"})
		}
	})
	s.create("a")
	told := make(chan string, 100)
	s.m.DeliverBy("hangs", func(ctx context.Context, _ alert.Message) error {
		<-ctx.Done()
		return ctx.Err()
	})
	s.m.DeliverBy("works", func(_ context.Context, m alert.Message) error {
		told <- m.Title
		return nil
	})
	s.m.Start(s.set)
	repotest.WaitFor(t, "first look", func() bool { return !s.m.State().Looked.IsZero() })
	release := fsys.Stall(s.dir)
	defer release()
	repotest.WaitFor(t, "look that hangs", func() bool { return fsys.Waiting() > 0 })
	for i := range 3 {
		s.m.JobEnded("a", fmt.Sprint("scrub", i), "disk error")
		if got, want := <-told, fmt.Sprintf("here: a: job (scrub%d)", i); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	s.clock.Advance(time.Hour)
	if got, want := <-told, "here: volume (disk)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	s.m.Close()
}

// TestConfigureWhileDelivering: another configuration waits for what is being delivered by the one before, and does not deliver it a second time.
func TestConfigureWhileDelivering(t *testing.T) {
	s := newScene(t, nil)
	c := alert.DefaultConfig()
	c.Interval = time.Millisecond
	receiver := func(command string) []alert.Receiver {
		return []alert.Receiver{{Name: "ops", Type: alert.Command, Command: []string{"/bin/sh", "-c", command}, Summary: "off"}}
	}
	s.create("a")
	dir := t.TempDir()
	began, goOn, log := filepath.Join(dir, "began"), filepath.Join(dir, "go-on"), filepath.Join(dir, "log")
	c.Receivers = receiver("echo one $PACKHOUSE_ALERT_TITLE >>" + log + "; touch " + began + "; while [ ! -e " + goOn + " ]; do sleep 0.01; done")
	m := alert.New(alert.Options{Config: c, Server: "here", Now: s.clock.Now, Environ: os.Environ()})
	m.Start(s.set)
	defer m.Close()
	m.JobEnded("a", "scrub", "disk error")
	there := func(path string) func() bool {
		return func() bool { _, err := os.Stat(path); return err == nil }
	}
	repotest.WaitFor(t, "delivery", there(began))
	c.Receivers = receiver("echo two $PACKHOUSE_ALERT_TITLE >>" + log)
	m.Configure(c)
	for range 50 { // time to do it wrong
		time.Sleep(time.Millisecond)
	}
	if err := os.WriteFile(goOn, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	repotest.WaitFor(t, "delivered alert", func() bool { return m.State().Receivers[0].Waiting == 0 })
	m.JobEnded("a", "vacuum", "disk error")
	repotest.WaitFor(t, "second alert", func() bool { text, _ := os.ReadFile(log); return strings.Contains(string(text), "two") })
	if text, err := os.ReadFile(log); err != nil || string(text) != "one here: a: job (scrub)\ntwo here: a: job (vacuum)\n" {
		t.Errorf("got %q, %v", text, err)
	}
}
