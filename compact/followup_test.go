package compact_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/index"
	"packhouse/internal/sampling"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// fullDisk is a file system of so many bytes, which counts the blocks of what lies below dir.
type fullDisk struct {
	vfs.FS
	dir  string
	size int64
}

func (d *fullDisk) Space(string) (free, total int64, err error) {
	used, err := blocks(d.dir)
	return d.size - used, d.size, err
}

// blocks is how many bytes of the disk the files below dir take.
func blocks(dir string) (n int64, err error) {
	seen := make(map[uint64]bool)
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return ignoreMissing(err)
		}
		info, err := e.Info()
		if err != nil {
			return ignoreMissing(err)
		}
		if stat := info.Sys().(*syscall.Stat_t); !seen[stat.Ino] {
			seen[stat.Ino] = true
			n += stat.Blocks * 512
		}
		return nil
	})
	return n, err
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// TestIndexFitsAfterEveryPlan: on a disk that is nearly full, whatever is free: either a plan is refused before it begins, with
// figures, and nothing has changed; or it is carried out, and the index that the client stores after it fits, also if another
// client does its best to fill the disk between. First the cases that destroyed repositories.
func TestIndexFitsAfterEveryPlan(t *testing.T) {
	const mib = 1 << 20
	type disk struct {
		reserve int64
		output  int // bytes of all packs that the plan makes
		index   int64
		free    int64
	}
	disks := []disk{
		{repo.DefaultReserve, 36e6, 3e6, 60e6}, {repo.DefaultReserve, 36e6, 3e6, 66e6}, {repo.DefaultReserve, 36e6, 3e6, 75e6},
		{repo.DefaultReserve, 36e6, 20e6, 60e6}, {repo.DefaultReserve, 36e6, 20e6, 66e6}, {repo.DefaultReserve, 36e6, 20e6, 75e6},
	}
	share := sampling.NewShare(t, 2)
	for free := int64(0); free <= 10*mib; free += 811e3 {
		for _, d := range []disk{{4 * mib, 3e6, 200e3, free}, {4 * mib, 3e6, 3e6, free}, {0, 2e6, 1e6, free}} {
			if share.Takes() {
				disks = append(disks, d)
			}
		}
	}
	admitted, refused := 0, 0
	for _, c := range disks {
		t.Run(fmt.Sprintf("reserve=%d/index=%d/free=%d", c.reserve, c.index, c.free), func(t *testing.T) {
			if planOnFullDisk(t, c.reserve, c.output, c.index, c.free) {
				admitted++
			} else {
				refused++
			}
		})
	}
	if admitted < len(disks)/4 || refused < len(disks)/4 {
		t.Errorf("%d plans were admitted, %d refused: this proves little", admitted, refused)
	}
}

// planOnFullDisk makes a repository of V'Ger and carries out a plan with so many bytes of outputs, when so many bytes are free.
func planOnFullDisk(t *testing.T, reserve int64, output int, indexSize, free int64) (admitted bool) {
	d := &fullDisk{FS: vfs.OS(), dir: dirWith(t, "vger"), size: 1 << 40}
	p := newFixtureAt(t, d.dir, func(so *datadir.Options, o *compact.Options) {
		so.FS, so.Small = d, index.MaxPayload
		// What a plan deletes stays on the disk.
		so.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: reserve, Grace: time.Hour} }
	})
	var ops []compact.Operation
	for i := range 3 {
		key, size := fmt.Sprintf("packs/%d", i), output/3*2
		p.put(key, noise(uint64(i), size))
		ops = append(ops, half(t, key, int64(size), "blake2b"))
	}
	p.put("index", noise(9, int(indexSize)))
	p.put("locks/mine", []byte("held"))
	before := p.repo.Usage()
	used, err := blocks(d.dir)
	if err != nil {
		t.Fatal(err)
	}
	d.size = used + free

	_, err = p.run(ops...)
	var short *repo.ShortError
	switch {
	case errors.As(err, &short):
		if short.Short <= 0 || !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("refused by %+v", short)
		}
		if after := p.repo.Usage(); after != before {
			t.Errorf("refused, and usage is %+v, was %+v", after, before)
		}
		return false
	case err != nil:
		t.Fatal(err)
	}
	// The one who fills the disk: with packs as large as they come, with an index and a plan of its own.
	for size := 8 << 20; size > 0; size /= 2 {
		for put(p.a, fmt.Sprintf("packs/x%d", p.repo.Usage().Items), size) == nil {
		}
	}
	other, err := p.set.Create(context.Background(), "other", "vger")
	if err != nil {
		t.Fatal(err)
	}
	for size := 8 << 20; size > 0; size /= 2 {
		put(other.As(repo.Principal{}), "index", size)
	}
	p.put("index.gen", noise(8, 8))
	largest := indexSize + indexSize/4 + 1<<20 - 64<<10
	p.put("index", noise(10, int(largest)))
	if left, _, err := d.Space(""); err != nil || left < 0 {
		t.Errorf("%d bytes are free, %v: on a disk the index would have failed", left, err)
	}
	return true
}

// dirWith is a directory with an empty repository of a dialect.
func dirWith(t *testing.T, dialect string) string {
	t.Helper()
	dir := fastDir(t)
	set := datadir.Open(datadir.Options{Dir: dir})
	_, err := set.Create(context.Background(), "r", dialect)
	if err := errors.Join(err, set.Close()); err != nil {
		t.Fatal(err)
	}
	return dir
}

func put(a *repo.Access, key string, size int) error {
	_, err := a.Put(context.Background(), repo.PutRequest{Key: key, Body: bytes.NewReader(make([]byte, size)), Size: int64(size)})
	return err
}

// The quota is lowered below what is stored: a plan is carried out, and the index after it is stored, whatever the quota.
func TestIndexFitsBeyondLoweredQuota(t *testing.T) {
	for _, tt := range []struct {
		dialect string
		after   []string // what clients store then
	}{
		{"vger", []string{"locks/x", "index", "index.gen"}},
		{"vger", []string{"manifest", "index"}},
		{"borgstore", []string{"locks/x", "cache/referenced-by-archive.x", "index/a", "index/b", "config/manifest"}},
	} {
		for _, quota := range []int64{0, 1, 999, 5000, 7001} {
			p := newFixtureAt(t, dirWith(t, tt.dialect), nil)
			p.put("packs/a", noise(1, 4000))
			p.put("packs/b", noise(2, 2000))
			for _, key := range tt.after {
				p.put(key, noise(3, 500))
			}
			if err := p.repo.SetQuota(context.Background(), quota); err != nil {
				t.Fatal(err)
			}
			p.mustRun(half(t, "packs/a", 4000, "blake3"))
			if err := put(p.a, "packs/c", 4000); !errors.Is(err, repo.ErrQuota) {
				t.Errorf("%s, quota %d: a backup: got %v, want ErrQuota", tt.dialect, quota, err)
			}
			for _, key := range tt.after {
				if err := put(p.a, key, 3000); err != nil {
					t.Errorf("%s, quota %d: %s: %v", tt.dialect, quota, key, err)
				}
			}
		}
	}
}

// What may be stored beyond the quota becomes by a plan nothing that may not.
func TestPlanIsNoWayOutOfTheCommitKeys(t *testing.T) {
	p := newFixtureAt(t, dirWith(t, "borgstore"), nil)
	body := strings.Repeat("x", 1000)
	p.put("index/a", []byte(body))
	if err := p.repo.SetQuota(context.Background(), 10); err != nil {
		t.Fatal(err)
	}
	op := compact.Operation{Ranges: []compact.Range{{Key: "index/a", Offset: 0, Length: 1000}}, Target: "packs/a", Deletes: []string{"index/a"}}
	if _, err := p.run(op); !errors.Is(err, repo.ErrQuota) {
		t.Errorf("an index made a pack: got %v, want ErrQuota", err)
	}
	p.wantKeys("index/a")
	op.Target = "index/a"
	p.mustRun(op)
	p.want("index/a", body)
}
