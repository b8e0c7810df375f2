package repo_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
	"packhouse/index"
	"packhouse/internal/sampling"
	"packhouse/journal"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// smallSegments lets a few items fill a segment.
const smallSegments = 1 << 20

// inSegments are the options of a set whose small items lie in a log of small segments.
func inSegments(o *datadir.Options) {
	o.Small, o.Index.SegmentSize = index.MaxPayload, smallSegments
}

// sparse stores n items of 64 KiB and removes all but every eighth, so that a vacuum has something to do. It returns what is left.
func sparse(t testing.TB, a *repo.Access, n int) (left map[string]string) {
	t.Helper()
	left = make(map[string]string)
	var gone []string
	for i := range n {
		key := fmt.Sprintf("packs/%03d", i)
		body := strings.Repeat(fmt.Sprintf("%08d", i), 8<<10)
		mustPut(t, a, key, body)
		if i%8 == 0 {
			left[key] = body
		} else {
			gone = append(gone, key)
		}
	}
	if _, err := a.DeleteAll(ctx, gone); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the trash to empty", func() bool { return a.Repository().Usage().TrashItems == 0 })
	return left
}

func wantAll(t testing.TB, a *repo.Access, want map[string]string) {
	t.Helper()
	for key, body := range want {
		wantContent(t, a, key, body)
	}
}

// placeOf is where in a file of the log an item lies that was not moved.
func placeOf(t testing.TB, a *repo.Access, key string) (file string, at journal.Place) {
	t.Helper()
	entry, err := repo.IndexOf(a.Repository()).Get(key)
	if err != nil {
		t.Fatal(err)
	}
	at, ok := journal.ParseRef(entry.Item.Ref)
	if !ok {
		t.Fatalf("%s does not lie in the log", key)
	}
	return filepath.Join(repo.Dir(a.Repository()), index.LogDir, fmt.Sprintf("%016x", uint64(at.Segment))), at
}

// flip changes a byte of an item in the log.
func flip(t testing.TB, a *repo.Access, key string) {
	t.Helper()
	file, at := placeOf(t, a, key)
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at.Offset+at.Length/2); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := f.WriteAt(b, at.Offset+at.Length/2); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVacuum: what is live is stored again, in items, in the trash and of what is kept; the segments go, and all is as it was, also after a restart.
func TestVacuum(t *testing.T) {
	dir := memoryDir(t)
	o := datadir.Options{Dir: dir, Settings: func(string) repo.Settings { return repo.Settings{Quota: -1} }}
	inSegments(&o)
	s := datadir.Open(o)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	left := sparse(t, a, 80)
	before, err := r.LogUsage()
	if err != nil || before.Segments < 4 || before.Items != 10 || before.Live != 10*64<<10 || before.Bytes < 80*64<<10 {
		t.Fatalf("log before: %+v, %v", before, err)
	}
	usage := r.Usage()
	var last repo.VacuumReport
	report, err := r.Vacuum(ctx, nil, func(now repo.VacuumReport) { last = now })
	if err != nil || report.Segments < 4 || report.Items < 8 || report.Moved != report.Items*64<<10 || report.Unreadable != 0 {
		t.Fatalf("vacuum: %+v, %v", report, err)
	}
	if last.Items != report.Items || last.Moved != report.Moved {
		t.Errorf("progress: %+v, want %+v", last, report)
	}
	after, err := r.LogUsage()
	if err != nil || after.Segments >= before.Segments || after.Items != 10 || after.Live != before.Live || before.Bytes-after.Bytes < 3*smallSegments {
		t.Errorf("log afterwards: %+v, %v", after, err)
	}
	if files, err := filepath.Glob(filepath.Join(dir, "r", index.LogDir, "????????????????")); err != nil || int64(len(files)) > after.Segments+1 {
		t.Errorf("files: %q, %v; want %d and one that is made ahead", files, err, after.Segments)
	}
	for range 2 {
		wantAll(t, a, left)
		checkAll(t, s)
		if got := r.Usage(); got != usage {
			t.Errorf("usage: %+v, want %+v", got, usage)
		}
		if report, err := r.Vacuum(ctx, nil, nil); err != nil || report.Items != 0 {
			t.Errorf("second vacuum: %+v, %v; want nothing to do", report, err)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = datadir.Open(o)
		if r, err = s.Get(ctx, "r"); err != nil {
			t.Fatal(err)
		}
		a = r.As(repo.Principal{})
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVacuumOfTinyItems: items whose rows take more than their bytes are no reason for a vacuum, and what it has stored again
// is none for the next.
func TestVacuumOfTinyItems(t *testing.T) {
	s := newSet(t, inSegments)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	var gone []string
	for i := range 6000 {
		key := fmt.Sprintf("archives/%064d", i)
		mustPut(t, a, key, "tiny")
		if i%4 > 0 {
			gone = append(gone, key)
		}
	}
	if report, err := r.Vacuum(ctx, nil, nil); err != nil || report.Items != 0 {
		t.Errorf("vacuum while all is live: %+v, %v", report, err)
	}
	if _, err := a.DeleteAll(ctx, gone); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the trash to empty", func() bool { return r.Usage().TrashItems == 0 })
	if report, err := r.Vacuum(ctx, nil, nil); err != nil || report.Items < 1000 {
		t.Errorf("vacuum where most is gone: %+v, %v", report, err)
	}
	if report, err := r.Vacuum(ctx, nil, nil); err != nil || report.Items > 300 {
		t.Errorf("vacuum behind a vacuum: %+v, %v", report, err)
	}
}

// TestVacuumLeavesFullSegments: a segment is not taken for larger than it is because those behind it have gone.
func TestVacuumLeavesFullSegments(t *testing.T) {
	s := newSet(t, func(o *datadir.Options) { o.Small = index.MaxPayload }) // segments as they are
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	body := strings.Repeat("0123456789abcdef", 8<<10)
	var gone []string
	for i := range 4 * 128 {
		key := fmt.Sprintf("packs/%03d", i)
		mustPut(t, a, key, body)
		if i >= 126 && i < 3*128 {
			gone = append(gone, key)
		}
	}
	if _, err := a.DeleteAll(ctx, gone); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the trash to empty", func() bool { return r.Usage().TrashItems == 0 })
	for range 2 { // the first may empty the segments in which nearly all is gone
		if report, err := r.Vacuum(ctx, nil, nil); err != nil || report.Items > 8 {
			t.Errorf("vacuum: %+v, %v", report, err)
		}
	}
	if u, err := r.LogUsage(); err != nil || u.Bytes > 48<<20 {
		t.Errorf("log: %+v, %v", u, err)
	}
}

// TestVacuumOfTheTrash: what can be restored is live.
func TestVacuumOfTheTrash(t *testing.T) {
	grace := time.Duration(0)
	s := newSet(t, func(o *datadir.Options) {
		inSegments(o)
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Grace: grace} }
	})
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	left := sparse(t, a, 40)
	grace = time.Hour
	s.Reconfigure()
	for key := range left {
		if err := a.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	if report, err := r.Vacuum(ctx, nil, nil); err != nil || report.Items == 0 {
		t.Fatalf("vacuum: %+v, %v", report, err)
	}
	for key, body := range left {
		if err := restore(a, body, key); err != nil {
			t.Errorf("restore %s: %v", key, err)
		}
	}
	wantAll(t, a, left)
}

// TestVacuumBesideClients: items that are removed, overwritten and moved meanwhile are what their clients made of them.
func TestVacuumBesideClients(t *testing.T) {
	s := newSet(t, inSegments)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	left := sparse(t, a, 160)
	want := make(map[string]string)
	var clients sync.WaitGroup
	clients.Go(func() {
		i := 0
		for key, body := range left {
			switch i++; i % 4 {
			case 0:
				if err := a.Delete(ctx, key); err != nil {
					t.Error(err)
				}
			case 1:
				if _, err := put(a, key, "new"); err != nil {
					t.Error(err)
				}
				want[key] = "new"
			case 2:
				if err := a.Move(ctx, key, "moved/"+key); err != nil {
					t.Error(err)
				}
				want["moved/"+key] = body
			default:
				want[key] = body
			}
		}
	})
	if _, err := r.Vacuum(ctx, nil, nil); err != nil {
		t.Error(err)
	}
	clients.Wait()
	if got := list(t, a, "", true); len(got) != len(want) {
		t.Errorf("%d items, want %d", len(got), len(want))
	}
	wantAll(t, a, want)
}

// TestVacuumOfDamage: an item that cannot be read is marked and keeps its segment; the others are moved, and the next vacuum passes over it.
func TestVacuumOfDamage(t *testing.T) {
	s := newSet(t, inSegments)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	left := sparse(t, a, 80)
	const bad = "packs/016"
	delete(left, bad)
	flip(t, a, bad)
	file, at := placeOf(t, a, bad)
	for i, want := range []int64{1, 0} {
		report, err := r.Vacuum(ctx, nil, nil)
		if err != nil || report.Unreadable != want || report.Items > 0 != (i == 0) {
			t.Errorf("vacuum: %+v, %v; want %d that cannot be read", report, err, want)
		}
	}
	if _, err := os.Stat(file); err != nil {
		t.Errorf("the segment of a damaged item: %v", err)
	}
	if refs, err := repo.IndexOf(r).Payloads(at.Segment, 10); err != nil || len(refs) != 1 {
		t.Errorf("in the segment: %q, %v; want the damaged item alone", refs, err)
	}
	if h := r.Health(); h.Damaged != 1 || h.Missing != 0 {
		t.Errorf("health: %+v, want one damaged item", h)
	}
	if _, err := get(a, bad); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("get: got %v, want ErrDamaged", err)
	}
	wantAll(t, a, left)
	// The same bytes again mend it, and then the segment goes.
	mustPut(t, a, bad, strings.Repeat(fmt.Sprintf("%08d", 16), 8<<10))
	if err := repo.IndexOf(r).Checkpoint(); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the segment to go", func() bool {
		if err := repo.IndexOf(r).Checkpoint(); err != nil {
			t.Fatal(err)
		}
		_, err := os.Stat(file)
		return errors.Is(err, os.ErrNotExist)
	})
}

// TestVacuumEnds with its context, between two batches.
func TestVacuumEnds(t *testing.T) {
	s := newSet(t, inSegments)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	left := sparse(t, a, 160)
	canceled, cancel := context.WithCancel(ctx)
	report, err := r.Vacuum(canceled, nil, func(repo.VacuumReport) { cancel() })
	if !errors.Is(err, context.Canceled) || report.Items == 0 || report.Items >= int64(len(left)) {
		t.Errorf("got %+v, %v; want context.Canceled after some items", report, err)
	}
	wantAll(t, a, left)
	if _, err := r.Vacuum(ctx, nil, nil); err != nil {
		t.Error(err)
	}
	wantAll(t, a, left)
}

// vacuumOn opens the repository in dir on fsys and vacuums it.
func vacuumOn(t *testing.T, dir string, fsys vfs.FS, hooks index.Options) error {
	t.Helper()
	o := datadir.Options{Dir: dir}
	inSegments(&o)
	hooks.SegmentSize, hooks.Database = smallSegments, vfstest.Bolt(t, fsys)
	o.FS, o.Index = fsys, hooks
	s := datadir.Open(o)
	r, err := s.Get(ctx, "r")
	if err == nil {
		_, err = r.Vacuum(ctx, nil, nil)
	}
	_ = s.Close() // of a disk that fails
	return err
}

// wantVacuumed opens the repository again on a sound disk, and wants all items, and a vacuum that works.
func wantVacuumed(t *testing.T, dir string, want map[string]string) {
	t.Helper()
	o := datadir.Options{Dir: dir}
	inSegments(&o)
	s := datadir.Open(o)
	defer s.Close()
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatalf("open again: %v", err)
	}
	a := r.As(repo.Principal{})
	if got := list(t, a, "", true); len(got) != len(want) {
		t.Errorf("%d items, want %d", len(got), len(want))
	}
	wantAll(t, a, want)
	checkAll(t, s)
	if _, err := r.Vacuum(ctx, nil, nil); err != nil {
		t.Errorf("vacuum: %v", err)
	}
	wantAll(t, a, want)
	checkAll(t, s)
	if u, err := r.LogUsage(); err != nil || u.Segments > 3 {
		t.Errorf("log: %+v, %v", u, err)
	}
}

// sparseDir is a data directory with a repository that can be vacuumed, as one process left it.
func sparseDir(t *testing.T) (dir string, left map[string]string) {
	t.Helper()
	dir = memoryDir(t)
	o := datadir.Options{Dir: dir}
	inSegments(&o)
	s := datadir.Open(o)
	left = sparse(t, create(t, s, "r").As(repo.Principal{}), 48)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return dir, left
}

// copyOf is a copy of a data directory.
func copyOf(t *testing.T, dir string) string {
	t.Helper()
	c := memoryDir(t)
	if err := os.CopyFS(c, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestVacuumSurvivesFailure: the n-th file call fails, with and without effect, and the machine stops there or goes on; or the n-th commit
// does. There is one copy of each item, or two of which one is referred to.
func TestVacuumSurvivesFailure(t *testing.T) {
	dir, left := sparseDir(t)
	for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
		for n, hit := 1, true; hit; n++ {
			t.Run(fmt.Sprintf("%s/%d", when, n), func(t *testing.T) {
				c := copyOf(t, dir)
				fsys := vfstest.NewFailing(vfs.OS())
				fsys.FailAt(n, when, syscall.EIO)
				_ = vacuumOn(t, c, fsys, index.Options{})
				hit = fsys.Hit()
				wantVacuumed(t, c, left)
			})
		}
	}
	for name, hooks := range map[string]func(fail func() error) index.Options{
		"before commit": func(fail func() error) index.Options { return index.Options{BeforeCommit: fail} },
		"after commit":  func(fail func() error) index.Options { return index.Options{AfterCommit: fail} },
		"before write":  func(fail func() error) index.Options { return index.Options{BeforeWrite: fail} },
		"after write":   func(fail func() error) index.Options { return index.Options{AfterWrite: fail} },
	} {
		for n, hit := 1, true; hit; n++ {
			t.Run(fmt.Sprintf("%s/%d", name, n), func(t *testing.T) {
				c := copyOf(t, dir)
				calls := 0
				err := vacuumOn(t, c, vfs.OS(), hooks(func() error {
					if calls++; calls >= n {
						return errors.New("the disk is on fire")
					}
					return nil
				}))
				if hit = calls >= n; !hit && err != nil {
					t.Errorf("nothing failed, but: %v", err)
				}
				wantVacuumed(t, c, left)
			})
		}
	}
}

// TestVacuumSurvivesPowerFailure stops at every file call and forgets what was not synced, or part of it.
func TestVacuumSurvivesPowerFailure(t *testing.T) {
	dir, left := sparseDir(t)
	share := sampling.NewShare(t, 4)
	for n, hit := 1, true; hit; n++ {
		for seed := range uint64(3) {
			if !share.Takes() {
				continue
			}
			t.Run(fmt.Sprintf("%d/%d", n, seed), func(t *testing.T) {
				c := copyOf(t, dir)
				lossy := vfstest.NewLossy(t, c)
				fsys := vfstest.NewFailing(lossy)
				fsys.StopAt(n, vfstest.Before, syscall.EIO)
				_ = vacuumOn(t, c, fsys, index.Options{})
				hit = fsys.Hit()
				var random *rand.Rand // nil forgets everything
				if seed > 0 {
					random = rand.New(rand.NewPCG(seed, uint64(n)))
				}
				if err := lossy.Crash(random); err != nil {
					t.Fatal(err)
				}
				wantVacuumed(t, c, left)
			})
		}
	}
}

// TestDamagedInTheLog: an item whose bytes in the log are wrong is found by a read or a scrub, marked, refused, served as it lies while it is
// salvaged, and mended by the same bytes. The index is not called damaged for it.
func TestDamagedInTheLog(t *testing.T) {
	for _, by := range []string{"read", "scrub"} {
		t.Run(by, func(t *testing.T) {
			s := newSet(t, inSegments)
			r := create(t, s, "r")
			a := r.As(repo.Principal{})
			body := strings.Repeat("b", 1000)
			mustPut(t, a, "packs/bad", body)
			mustPut(t, a, "packs/good", body)
			flip(t, a, "packs/bad")
			if by == "scrub" {
				entry, err := r.Entry("packs/bad")
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Verify(ctx, entry, nil); !errors.Is(err, repo.ErrDamaged) {
					t.Errorf("verify: got %v, want ErrDamaged", err)
				}
			}
			if _, err := get(a, "packs/bad"); !errors.Is(err, repo.ErrDamaged) {
				t.Errorf("get: got %v, want ErrDamaged", err)
			}
			if h := r.Health(); h.Damaged != 1 || h.Missing != 0 || h.IndexDamaged || h.ReadOnly {
				t.Errorf("health: %+v, want one damaged item", h)
			}
			wantContent(t, a, "packs/good", body)
			if _, err := r.Salvage(ctx, time.Hour); err != nil {
				t.Fatal(err)
			}
			got, err := get(a, "packs/bad")
			if err != nil || len(got) != len(body) || got == body || strings.Count(got, "b") != len(body)-1 {
				t.Errorf("salvaged: %d bytes, %v; want all but one as they were", len(got), err)
			}
			mustPut(t, a, "packs/bad", body)
			if _, err := r.Salvage(ctx, 0); err != nil {
				t.Fatal(err)
			}
			wantContent(t, a, "packs/bad", body)
			if h := r.Health(); h.Damaged != 0 {
				t.Errorf("health afterwards: %+v", h)
			}
		})
	}
}

// TestSegmentMissing: items whose segment is gone are missing, as those whose file is gone: too many of them are not believed to be
// lost, and all are served when it is back.
func TestSegmentMissing(t *testing.T) {
	dir := memoryDir(t)
	o := datadir.Options{Dir: dir}
	inSegments(&o)
	s := datadir.Open(o)
	defer func() { s.Close() }()
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	for i := range 80 {
		mustPut(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("x", 32<<10))
	}
	file, at := placeOf(t, a, "packs/00")
	if err := s.Close(); err != nil { // so that all is applied
		t.Fatal(err)
	}
	saved, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	s = datadir.Open(o)
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatalf("open without a segment that is applied: %v", err)
	}
	a = r.As(repo.Principal{})
	wantContent(t, a, "packs/79", strings.Repeat("x", 32<<10))
	if _, err := get(a, "packs/00"); !errors.Is(err, repo.ErrLoss) {
		t.Errorf("get: got %v, want ErrLoss", err)
	}
	if _, err := put(a, "packs/new", "x"); !errors.Is(err, repo.ErrLoss) {
		t.Errorf("put: got %v, want ErrLoss", err)
	}
	if h := r.Health(); h.Damaged != 0 || h.IndexDamaged || !h.ReadOnly {
		t.Errorf("health: %+v, want no damage, and no writes", h)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, saved, 0o600); err != nil { // the segment comes back
		t.Fatal(err)
	}
	s = datadir.Open(o)
	if r, err = s.Get(ctx, "r"); err != nil {
		t.Fatal(err)
	}
	entry, err := r.Entry("packs/00")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry, nil); err != nil {
		t.Errorf("verify when segment %d is back: %v", at.Segment, err)
	}
	wantContent(t, r.As(repo.Principal{}), "packs/00", strings.Repeat("x", 32<<10))
	if h := r.Health(); h != (repo.Health{}) {
		t.Errorf("health: %+v", h)
	}
}

// TestSegmentTakenAway: a sweep notices that a segment is gone while it is in use, and that it is back.
func TestSegmentTakenAway(t *testing.T) {
	s := newSet(t, inSegments)
	r := create(t, s, "r")
	a := r.As(repo.Principal{})
	for i := range 100 {
		mustPut(t, a, fmt.Sprintf("packs/%02d", i), strings.Repeat("x", 100<<10)) // ten in a segment: so few may be lost
	}
	wantContent(t, a, "packs/00", strings.Repeat("x", 100<<10)) // its segment is open
	file, _ := placeOf(t, a, "packs/00")
	if err := os.Rename(file, file+".away"); err != nil {
		t.Fatal(err)
	}
	report, err := r.Sweep(ctx)
	if err != nil || report.Missing == 0 || report.Missing > 16 {
		t.Fatalf("sweep: %+v, %v; want the items of one segment to be missing", report, err)
	}
	if _, err := get(a, "packs/00"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("get: got %v, want ErrNotFound", err)
	}
	if h := r.Health(); h.Missing != report.Missing || h.Damaged != 0 {
		t.Errorf("health: %+v", h)
	}
	if err := os.Rename(file+".away", file); err != nil {
		t.Fatal(err)
	}
	if again, err := r.Sweep(ctx); err != nil || again.Returned != report.Missing {
		t.Errorf("sweep: %+v, %v; want %d items to be back", again, err, report.Missing)
	}
	wantContent(t, a, "packs/00", strings.Repeat("x", 100<<10))
	if h := r.Health(); h != (repo.Health{}) {
		t.Errorf("health: %+v", h)
	}
}

// TestReadErrorInTheLog: what the disk does not give says nothing of the bytes.
func TestReadErrorInTheLog(t *testing.T) {
	fsys := vfstest.NewFailing(vfs.OS())
	o := datadir.Options{Dir: memoryDir(t)}
	inSegments(&o)
	o.FS = fsys
	s := datadir.Open(o)
	defer func() { s.Close() }()
	a := create(t, s, "r").As(repo.Principal{})
	body := strings.Repeat("x", 10_000)
	mustPut(t, a, "packs/a", body)
	file, at := placeOf(t, a, "packs/a")
	if err := s.Close(); err != nil { // with all rows applied, so that the log is not read when it is opened
		t.Fatal(err)
	}
	fsys.FailRead(file, at.Offset, at.Length, syscall.EIO)
	s = datadir.Open(o)
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	a = r.As(repo.Principal{})
	if _, err := get(a, "packs/a"); !errors.Is(err, syscall.EIO) || errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("get: got %v, want an I/O error", err)
	}
	entry, err := r.Entry("packs/a")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry, nil); !errors.Is(err, syscall.EIO) || errors.Is(err, repo.ErrCorrupt) {
		t.Errorf("verify: got %v, want an I/O error", err)
	}
	if h := r.Health(); h != (repo.Health{}) {
		t.Errorf("health: %+v", h)
	}
	fsys.Reset()
	wantContent(t, a, "packs/a", body)
}
