package compact_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
)

// fixture is a repository and an engine to work on it.
type fixture struct {
	t      testing.TB
	dir    string
	set    *datadir.Set
	repo   *repo.Repository
	a      *repo.Access
	engine *compact.Engine
	o      compact.Options
	offset time.Duration // of the engine's clock
	so     datadir.Options
}

func newFixture(t testing.TB, change func(*datadir.Options, *compact.Options)) *fixture {
	t.Helper()
	return newFixtureAt(t, fastDir(t), change)
}

// fastDir is a directory in memory where the system has such: faults are injected here, not waited
// for, and thousands of syncs to a disk would prove nothing more.
func fastDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "packhouse-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// newFixtureAt is newFixture in a directory, which may hold a repository already.
func newFixtureAt(t testing.TB, dir string, change func(*datadir.Options, *compact.Options)) *fixture {
	t.Helper()
	p := &fixture{t: t, dir: dir}
	p.so = datadir.Options{Dir: p.dir}
	p.o.Now = func() time.Time { return time.Now().Add(p.offset) }
	if change != nil {
		change(&p.so, &p.o)
	}
	p.open()
	t.Cleanup(func() {
		p.check()
		p.close()
	})
	return p
}

// open starts from what is on disk.
func (p *fixture) open() {
	p.t.Helper()
	p.set = datadir.Open(p.so)
	r, err := p.set.Get(context.Background(), "r")
	if err != nil {
		r, err = p.set.Create(context.Background(), "r", "test")
	}
	if err != nil {
		p.t.Fatalf("open repository: %v", err)
	}
	p.repo, p.a = r, r.As(repo.Principal{Name: "tester"})
	p.o.Ahead = 200 * 365 * 24 * time.Hour // plans of these tests wait until the year 2099
	p.engine = compact.New(p.o)
}

func (p *fixture) close() {
	p.t.Helper()
	if err := p.engine.Close(); err != nil {
		p.t.Errorf("close engine: %v", err)
	}
	if err := p.set.Close(); err != nil {
		p.t.Errorf("close set: %v", err)
	}
}

// closeBroken is close on a disk that has failed.
func (p *fixture) closeBroken() {
	p.t.Helper()
	if err := p.engine.Close(); err != nil {
		p.t.Errorf("close engine: %v", err)
	}
	_ = p.set.Close()
}

func (p *fixture) reopen() {
	p.t.Helper()
	p.close()
	p.open()
}

// check compares counters with what is there, and files with what refers to them.
func (p *fixture) check() {
	p.t.Helper()
	report, err := p.repo.CheckIndex(context.Background())
	if err != nil {
		p.t.Errorf("check: %v", err)
		return
	}
	if len(report.Problems) > 0 || report.Counted != report.Stored {
		p.t.Errorf("check: counted %+v, stored %+v, problems %q", report.Counted, report.Stored, report.Problems)
	}
	if u := p.repo.Usage(); u.Used != report.Counted.Counted() || u.Reserved != 0 {
		p.t.Errorf("usage: used %d, reserved %d, counted %+v", u.Used, u.Reserved, report.Counted)
	}
}

// emptyTrash waits until the reclaimer has removed what was deleted.
func (p *fixture) emptyTrash() {
	p.t.Helper()
	for range 1000 {
		if p.repo.Usage().TrashItems == 0 {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.t.Errorf("trash: got %d items, want none", p.repo.Usage().TrashItems)
}

// wantNoLeaks compares the number of files with the number of items, once the trash is empty.
func (p *fixture) wantNoLeaks() {
	p.t.Helper()
	p.emptyTrash()
	files := 0
	for _, sub := range []string{"blobs", "incoming", "jobs"} {
		err := filepath.WalkDir(filepath.Join(p.dir, "r", sub), func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() && filepath.Ext(d.Name()) != ".sums" {
				files++
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			p.t.Errorf("walk: %v", err)
		}
	}
	items := 0
	err := p.a.List(context.Background(), index.ListOptions{Recursive: true}, func(e index.Entry) error {
		if _, inLog := journal.ParseRef(e.Item.Ref); !inLog {
			items++
		}
		return nil
	})
	if err != nil {
		p.t.Errorf("list: %v", err)
	}
	if files != items {
		p.t.Errorf("files: got %d, want one for each of %d items that are not in the log", files, items)
	}
}

func (p *fixture) put(key string, body []byte) {
	p.t.Helper()
	_, err := p.a.Put(context.Background(), repo.PutRequest{Key: key, Body: bytes.NewReader(body), Size: int64(len(body))})
	if err != nil {
		p.t.Fatalf("put %q: %v", key, err)
	}
}

func (p *fixture) delete(key string) {
	p.t.Helper()
	if err := p.a.Delete(context.Background(), key); err != nil {
		p.t.Fatalf("delete %q: %v", key, err)
	}
}

// later moves the engine's clock. It must be idle.
func (p *fixture) later(d time.Duration) { p.offset += d }

func (p *fixture) get(key string) ([]byte, error) {
	object, err := p.a.Open(context.Background(), key)
	if err != nil {
		return nil, err
	}
	defer object.Close()
	return io.ReadAll(io.NewSectionReader(object, 0, object.Size()))
}

func (p *fixture) want(key, body string) {
	p.t.Helper()
	if got, err := p.get(key); err != nil || string(got) != body {
		p.t.Errorf("get %q: got %.60q, %v; want %.60q", key, got, err, body)
	}
}

// contents is the whole repository.
func (p *fixture) contents() map[string]string {
	p.t.Helper()
	all := make(map[string]string)
	err := p.a.List(context.Background(), index.ListOptions{Recursive: true}, func(e index.Entry) error {
		body, err := p.get(e.Key)
		all[e.Key] = string(body)
		return err
	})
	if err != nil {
		p.t.Fatalf("list: %v", err)
	}
	return all
}

func (p *fixture) wantKeys(keys ...string) {
	p.t.Helper()
	var got []string
	err := p.a.List(context.Background(), index.ListOptions{Recursive: true}, func(e index.Entry) error {
		got = append(got, e.Key)
		return nil
	})
	if err != nil {
		p.t.Fatalf("list: %v", err)
	}
	if strings.Join(got, " ") != strings.Join(keys, " ") {
		p.t.Errorf("keys: got %q, want %q", got, keys)
	}
}

// run carries out a plan of ops.
func (p *fixture) run(ops ...compact.Operation) ([]compact.Outcome, error) {
	p.t.Helper()
	return p.runAs(p.a, ops...)
}

func (p *fixture) runAs(a *repo.Access, ops ...compact.Operation) ([]compact.Outcome, error) {
	plan := p.engine.NewPlan(compact.Limits{})
	defer plan.Close()
	for _, op := range ops {
		if err := plan.Add(op); err != nil {
			return nil, err
		}
	}
	var outcomes []compact.Outcome
	err := p.engine.Run(context.Background(), a, plan, func(i int, o compact.Outcome) error {
		if i != len(outcomes) {
			p.t.Errorf("outcome: got operation %d, want %d", i, len(outcomes))
		}
		outcomes = append(outcomes, o)
		return nil
	})
	return outcomes, err
}

func (p *fixture) mustRun(ops ...compact.Operation) []compact.Outcome {
	p.t.Helper()
	outcomes, err := p.run(ops...)
	if err != nil {
		p.t.Fatalf("run: %v", err)
	}
	return outcomes
}

func algorithm(t testing.TB, name string) digest.Algorithm {
	t.Helper()
	a, err := digest.Lookup(name)
	if err != nil {
		t.Fatalf("algorithm %s: %v", name, err)
	}
	return a
}

// onLink calls change once, at the first link while armed is set.
type onLink struct {
	vfs.FS
	p      **fixture
	once   *sync.Once
	change func(*fixture)
}

// armed is shared by tests that do not run in parallel.
var armed atomic.Bool

func (f onLink) Link(from, to string) error {
	if armed.Load() {
		f.once.Do(func() {
			armed.Store(false)
			f.change(*f.p)
		})
	}
	return f.FS.Link(from, to)
}

func files(t testing.TB, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
