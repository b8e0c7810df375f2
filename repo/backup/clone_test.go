package backup_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"packhouse/repo"
	"packhouse/repo/backup"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
	"packhouse/repo/transfer"
)

// TestClones: where files can be cloned and not linked, the files of a backup share their blocks with the repository, unless copies are asked for, or the one
// that the backup had was found damaged. A clone is a file of its own: what is written to it afterwards is not in the repository.
func TestClones(t *testing.T) {
	one, other := repotest.CloningDir(t)
	w := &world{t: t, top: one}
	w.set = repotest.NewSet(t, func(o *datadir.Options) { o.Dir, o.Small = w.path("data"), small })
	r, err := w.set.Create(t.Context(), "r", "borgstore")
	if err != nil {
		t.Fatal(err)
	}
	w.a = r.As(repo.Principal{Name: "tester"})
	items := map[string]string{"config/id": "0123"}
	for _, c := range "abc" {
		items["packs/"+string(c)] = strings.Repeat(string(c), 100_000)
	}
	w.put(items)
	o := backup.Options{Repository: r, Dir: filepath.Join(other, "dest")}
	if report := w.backup(o, 0); report.Cloned.Items != 3 || report.Copied.Items != 1 || report.Linked.Items != 0 {
		t.Fatalf("got %+v", report)
	}
	large := func() (path string) {
		for _, line := range destFiles(t, o.Dir) {
			name, _, _ := strings.Cut(line, " ")
			path = filepath.Join(o.Dir, "files", name[:2], name)
			if info, err := os.Stat(path); err == nil && info.Size() > small {
				break
			}
		}
		return path
	}()
	if !repotest.Shared(t, large) {
		t.Error("a clone shares nothing")
	}
	if err := flip(large); err != nil {
		t.Fatal(err)
	}
	o.Verify = true
	if report := w.backup(o, 1); report.Damaged != 1 || report.Copied.Items != 1 || report.Cloned.Items != 0 || report.Kept.Items != 3 {
		t.Errorf("backup with verify: got %+v", report)
	}
	wantContents(t, w.a, items)
	o.Dir, o.Copy = o.Dir+"2", true
	if report := w.backup(o, 0); report.Cloned.Items != 0 || report.Copied.Items != 4 {
		t.Errorf("with copies asked for: got %+v", report)
	}
}

// TestPace: each read, each write of a copy and each new name waits for its turn, and who asks for it can end the backup, at any place: nothing of the backup is
// taken for damaged then, and the next run completes it.
func TestPace(t *testing.T) {
	items := borgItems()
	var size, inFiles, files int64
	for _, body := range items {
		if size += int64(len(body)); len(body) > small {
			inFiles += int64(len(body))
			files++
		}
	}
	w := newWorld(t, items)
	for _, c := range []struct {
		copy bool
		want int64
	}{{false, size - inFiles + files*transfer.PerName}, {true, size}} {
		o := w.options()
		o.Copy, o.Dir = c.copy, w.path("paced "+map[bool]string{false: "links", true: "copies"}[c.copy])
		var asked atomic.Int64
		o.Pace = func(_ context.Context, n int64) error { asked.Add(n); return nil }
		if w.backup(o, 0); asked.Load() != c.want {
			t.Errorf("%+v: got %d", c, asked.Load())
		}
		asked.Store(0)
		o.Verify = true
		if w.backup(o, 0); asked.Load() != size {
			t.Errorf("%+v, verify: got %d, want %d", c, asked.Load(), size)
		}
		asked.Store(0)
		o.Pace = func(_ context.Context, n int64) error {
			if asked.Add(n) > size/2 {
				return errStopped
			}
			return nil
		}
		o.Problem = func(p transfer.Problem) { t.Errorf("stopped: %+v", p) }
		if _, err := backup.Run(t.Context(), o); !errors.Is(err, errStopped) {
			t.Errorf("stopped: got %v", err)
		}
		o.Pace = nil
		if report := w.backup(o, 0); report.Kept.Items != int64(len(items)) || report.Damaged != 0 {
			t.Errorf("again: got %+v", report)
		}
	}
}

var errStopped = errors.New("stopped")
