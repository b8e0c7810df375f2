package journal_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"packhouse/blobstore/vfs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs/vfstest"
	"packhouse/internal/sampling"
	"packhouse/journal"
)

// model is what the caller of a log holds to be true.
type model struct {
	made    bool             // Create has returned
	applied journal.Position // what is before was removed, or may be
	groups  []group          // appended, from applied on
	doubt   *group           // it may be there, behind groups
	seed    uint64           // of the next group
}

// append appends a group and notes it. Groups are of sizes that come up again and again, so that one can lie exactly where
// another was to be.
func (m *model) append(l *journal.Log, size int) error {
	m.seed++
	records := []record{{kind: journal.KindRows, body: content(m.seed, 100), payloads: [][]byte{content(m.seed+1e6, size)}}}
	for i := range m.seed % 3 {
		records = append(records, record{kind: journal.KindRows, body: content(m.seed+2e6+i, 900)})
	}
	g, _, err := add(l, records)
	switch {
	case err == nil:
		m.groups = append(m.groups, g)
	case errors.Is(err, journal.ErrFailed):
		m.doubt = &g
	}
	return err
}

// story does all that is done to a log, up to the first error.
func (m *model) story(o journal.Options) (l *journal.Log, err error) {
	if !m.made {
		// One that did not return may have made the log nevertheless.
		if err := journal.Create(o, 0, epoch); err != nil && !errors.Is(err, journal.ErrExists) {
			return nil, err
		}
		m.made = true
	}
	for range 2 {
		if l, err = m.open(o); err != nil {
			return nil, err
		}
		for _, size := range []int{10, 3000, 700, 9000, 3000, 11_000, 0, 5000} {
			if err := m.append(l, size); err != nil {
				return l, err
			}
		}
		half := len(m.groups) / 2
		before := m.groups[half].at
		m.applied, m.groups = before, m.groups[half:]
		if err := l.Remove(before); err != nil {
			return l, err
		}
		if err := l.Close(); err != nil {
			return l, err
		}
	}
	return nil, nil
}

// open replays the log and takes its word for a group that was in doubt.
func (m *model) open(o journal.Options) (*journal.Log, error) {
	l, groups, err := replay(o, m.applied)
	if err != nil {
		return nil, err
	}
	if m.doubt != nil && len(groups) == len(m.groups)+1 && groups[len(groups)-1].equal(*m.doubt) {
		m.groups = append(m.groups, *m.doubt)
	}
	m.doubt = nil
	for i := range max(len(groups), len(m.groups)) {
		if i >= len(groups) || i >= len(m.groups) || !groups[i].equal(m.groups[i]) {
			_ = l.Close()
			return nil, fmt.Errorf("group %d of %d is not what it was, of %d", i, len(groups), len(m.groups))
		}
	}
	return l, nil
}

// check opens what is left: each group that was acknowledged must be there, nothing else, and the log goes on.
func (m *model) check(t *testing.T, dir string) {
	t.Helper()
	o := options(dir, quick())
	if !m.made {
		if err := journal.Create(o, 0, epoch); err != nil && !errors.Is(err, journal.ErrExists) {
			t.Fatalf("create again: %v", err)
		}
		m.made = true
	}
	for range 3 {
		l, err := m.open(o)
		if err != nil {
			t.Fatalf("open again: %v", err)
		}
		for _, size := range []int{900, 3000, 6000} {
			if err := m.append(l, size); err != nil {
				t.Fatalf("append again: %v", err)
			}
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func storyCalls(t *testing.T) []vfstest.Call {
	t.Helper()
	f, m, dir := vfstest.NewFailing(quick()), new(model), newDir(t)
	if _, err := m.story(options(dir, f)); err != nil {
		t.Fatal(err)
	}
	m.check(t, dir)
	return f.Calls()
}

// TestFailingCalls lets every call of a story fail, in both ways and for several reasons.
func TestFailingCalls(t *testing.T) {
	calls, tried, hits := len(storyCalls(t)), 0, 0
	share := sampling.NewShare(t, 3)
	for n := range calls {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			for _, cause := range []error{syscall.EIO, syscall.ENOSPC, syscall.EMFILE} {
				if !share.Takes() {
					continue
				}
				tried++
				f, m, dir := vfstest.NewFailing(quick()), new(model), newDir(t)
				f.FailAt(n+1, when, cause)
				l, err := m.story(options(dir, f))
				if !f.Hit() {
					m.check(t, dir)
					continue
				}
				hits++
				call := f.Calls()[n]
				name := fmt.Sprintf("call %d, %s, %v, %v", n+1, call.Op, when, cause)
				if err != nil && strings.Contains(err.Error(), dir) {
					t.Errorf("%s: %q names a path", name, err)
				}
				if errors.Is(cause, syscall.ENOSPC) && err != nil && !errors.Is(err, journal.ErrNoSpace) {
					t.Errorf("%s: got %v, want ErrNoSpace", name, err)
				}
				f.Reset()
				if l != nil {
					m.goOn(t, name, l, cause)
				}
				m.check(t, dir)
				if t.Failed() {
					t.Fatal(name)
				}
			}
		}
	}
	if want := tried * 8 / 10; hits < want {
		t.Errorf("only %d calls failed, want %d and more", hits, want)
	}
}

// goOn uses a log after something went wrong: it works, or says that it does not.
func (m *model) goOn(t *testing.T, name string, l *journal.Log, cause error) {
	t.Helper()
	doubt := m.doubt
	failed := l.Failed()
	switch err := m.append(l, 2000); {
	case err == nil && failed == nil, errors.Is(err, journal.ErrClosed):
	case failed == nil:
		t.Errorf("%s: a group after it: %v", name, err)
	case !errors.Is(err, journal.ErrFailed) || !errors.Is(failed, cause):
		t.Errorf("%s: a group after it: got %v, log failed with %v; want ErrFailed", name, err, failed)
	}
	if failed != nil {
		m.doubt = doubt
	}
	_ = l.Close()
}

// TestErrorKinds: which errors end one append, and which the log; and that a log that failed does nothing more.
func TestErrorKinds(t *testing.T) {
	type nth struct {
		op vfstest.Op
		n  int
	}
	// What the first append of a group that lies in two segments calls, in order of op.
	var (
		filler, first, second   = nth{vfstest.OpenWrite, 1}, nth{vfstest.OpenWrite, 2}, nth{vfstest.OpenWrite, 3}
		allocate, allocateNext  = nth{vfstest.Allocate, 1}, nth{vfstest.Allocate, 2}
		fill, header, fillNext  = nth{vfstest.Write, 1}, nth{vfstest.Write, 2}, nth{vfstest.Write, 3}
		part, partNext          = nth{vfstest.Write, 4}, nth{vfstest.Write, 5}
		syncFill, syncHeader    = nth{vfstest.Sync, 1}, nth{vfstest.Sync, 2}
		syncPart, syncPartNext  = nth{vfstest.Sync, 4}, nth{vfstest.Sync, 5}
		create, rename, syncDir = nth{vfstest.Create, 1}, nth{vfstest.Rename, 1}, nth{vfstest.SyncDir, 1}
	)
	tests := []struct {
		call    nth
		cause   error
		noSpace bool
		failed  bool
	}{
		{filler, syscall.EMFILE, false, false},
		{first, syscall.EMFILE, false, false},
		{second, syscall.EMFILE, false, false},
		{second, syscall.EIO, false, true},
		{allocate, syscall.ENOSPC, true, false},
		{allocate, syscall.EIO, false, true},
		{allocateNext, syscall.EDQUOT, true, false},
		{fill, syscall.ENOSPC, true, false},
		{fill, syscall.EIO, false, true},
		{syncFill, syscall.ENOSPC, true, true},
		{syncFill, syscall.EIO, false, true},
		{create, syscall.ENOSPC, true, false},
		{create, syscall.EMFILE, false, false},
		{create, syscall.EROFS, false, true},
		{header, syscall.ENOSPC, true, false},
		{header, syscall.EIO, false, true},
		{syncHeader, syscall.ENOSPC, true, false},
		{syncHeader, syscall.EIO, false, true},
		{rename, syscall.ENOSPC, true, false},
		{rename, syscall.EIO, false, true},
		{syncDir, syscall.ENOSPC, true, true},
		{syncDir, syscall.EIO, false, true},
		{fillNext, syscall.EFBIG, true, false},
		{part, syscall.ENOSPC, true, false},
		{part, syscall.EIO, false, true},
		{partNext, syscall.ENOSPC, true, false},
		{partNext, syscall.EIO, false, true},
		{syncPart, syscall.ENOSPC, true, true},
		{syncPart, syscall.EIO, false, true},
		{syncPartNext, syscall.ENOSPC, true, true},
		{syncPartNext, syscall.EIO, false, true},
	}
	records := []record{{kind: journal.KindRows, body: content(1, 9000)}, {kind: journal.KindRows, body: content(2, 3500)}}
	for _, test := range tests {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			name := fmt.Sprintf("%s %d, %v, %v", test.call.op, test.call.n, test.cause, when)
			f, dir := vfstest.NewFailing(quick()), newDir(t)
			o := options(dir, f)
			l := newLog(t, o)
			f.Reset()
			f.FailOp(test.call.op, test.call.n, when, test.cause)
			_, _, err := add(l, records)
			if !errors.Is(err, test.cause) || errors.Is(err, journal.ErrNoSpace) != test.noSpace || errors.Is(err, journal.ErrFailed) != test.failed {
				t.Errorf("%s: got %v; want no space %v, failed %v", name, err, test.noSpace, test.failed)
			}
			if failed := l.Failed(); (failed != nil) != test.failed || failed != nil && !errors.Is(failed, test.cause) {
				t.Errorf("%s: log failed with %v, want %v", name, failed, test.failed)
			}
			l.Idle()
			f.Reset()
			_, _, err = add(l, records)
			if errors.Is(err, journal.ErrFailed) != test.failed || err != nil && !errors.Is(err, test.cause) {
				t.Errorf("%s: a group after it: got %v", name, err)
			}
			if removeErr := l.Remove(0); errors.Is(removeErr, journal.ErrFailed) != test.failed {
				t.Errorf("%s: remove after it: got %v", name, removeErr)
			}
			if closeErr := l.Close(); closeErr != nil {
				t.Errorf("%s: close: %v", name, closeErr)
			}
			if calls := f.Calls(); test.failed && len(calls) > 0 {
				t.Errorf("%s: a log that failed calls %v", name, calls)
			}
			if t.Failed() {
				return
			}
		}
	}
}

// TestKilled stops the process at every call: the kernel keeps what was called before.
func TestKilled(t *testing.T) {
	for n := range storyCalls(t) {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			f, m, dir := vfstest.NewFailing(quick()), new(model), newDir(t)
			f.StopAt(n+1, when, syscall.EIO)
			if l, _ := m.story(options(dir, f)); l != nil {
				_ = l.Close()
			}
			m.check(t, dir)
			if t.Failed() {
				t.Fatalf("killed at call %d, %v", n+1, when)
			}
		}
	}
}

// growing is a file system that sets no space aside.
type growing struct{ vfs.FS }

type growingFile struct{ vfs.File }

func (g growing) Create(name string) (vfs.File, error)    { return grow(g.FS.Create(name)) }
func (g growing) OpenWrite(name string) (vfs.File, error) { return grow(g.FS.OpenWrite(name)) }

func grow(file vfs.File, err error) (vfs.File, error) {
	if err != nil {
		return nil, err
	}
	return growingFile{file}, nil
}

// TestPowerCut takes the power at every call of a story, and then again at some call of what
// follows; of what was not synced any part is kept, lost or torn.
func TestPowerCut(t *testing.T) {
	variants := []struct {
		name    string
		size    int64 // of a segment
		growing bool
		chances int
	}{
		{"small segments", smallSegment, false, 6},
		{"growing files", smallSegment, true, 4},
		{"segments larger than what is set aside", 700 << 10, false, 4},
	}
	calls := len(storyCalls(t))
	for _, variant := range variants {
		t.Run(variant.name, func(t *testing.T) {
			options := func(dir string, fsys vfs.FS) journal.Options {
				if variant.growing {
					fsys = growing{fsys}
				}
				o := options(dir, fsys)
				o.SegmentSize = variant.size
				return o
			}
			share := sampling.NewShare(t, 4)
			for n := range calls {
				for chance := range variant.chances {
					if !share.Takes() {
						continue
					}
					hit := powerCut(t, options, n+1, vfstest.When(chance%2), uint64(chance/2))
					if t.Failed() {
						t.Fatalf("power cut at call %d, chance %d", n+1, chance)
					}
					if !hit {
						return // no story has so many calls
					}
				}
			}
		})
	}
}

// powerCut tells whether a story came to its n-th call.
func powerCut(t *testing.T, options func(string, vfs.FS) journal.Options, n int, when vfstest.When, chance uint64) (hit bool) {
	t.Helper()
	var source *rand.Rand
	random := rand.New(rand.NewPCG(uint64(n), chance))
	if chance > 0 {
		source = random
	}
	root := t.TempDir()
	m := new(model)
	for round := range 3 {
		lossy := vfstest.NewLossy(t, root)
		f := vfstest.NewFailing(lossy)
		f.StopAt(n, when, syscall.EIO)
		l, err := m.story(options(filepath.Join(root, "log"), f))
		if err != nil && !f.Hit() {
			t.Fatalf("with power: %v", err)
		}
		if l != nil {
			_ = l.Close()
		}
		if err := lossy.Crash(source); err != nil {
			t.Fatal(err)
		}
		if !f.Hit() {
			break
		}
		hit = hit || round == 0
		n = 1 + random.IntN(40)
	}
	m.check(t, filepath.Join(root, "log"))
	return hit
}

// TestReadOnly: a log with a torn end is read, and not changed.
func TestReadOnly(t *testing.T) {
	dir := newDir(t)
	f := vfstest.NewFailing(quick())
	o := options(dir, f)
	l := newLog(t, o)
	var want []group
	for i := range uint64(8) {
		want = append(want, mustAdd(t, l, makeGroup(i)))
	}
	l.Idle() // else its zeros may be the write that fails
	f.FailOp(vfstest.Write, 1, vfstest.After, syscall.EIO)
	if _, _, err := add(l, makeGroup(100)); !errors.Is(err, journal.ErrFailed) {
		t.Fatalf("got %v, want ErrFailed", err)
	}
	l.Abandon()
	f.Reset()
	o.ReadOnly = true
	for range 2 {
		l := mustReplay(t, o, 0, want)
		if _, _, err := add(l, makeGroup(1)); !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("append: got %v, want ErrReadOnly", err)
		}
		if err := l.Remove(1 << 40); !errors.Is(err, journal.ErrReadOnly) {
			t.Errorf("remove: got %v, want ErrReadOnly", err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if calls := f.Calls(); len(calls) > 0 {
		t.Errorf("called %v", calls)
	}
	o.ReadOnly = false
	mustReplay(t, o, 0, want)
}
