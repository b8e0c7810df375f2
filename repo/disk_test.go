package repo_test

import (
	"bytes"
	"errors"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// disk is a file system that has so many bytes free. What was written is not given back, and the log takes nothing.
type disk struct {
	vfs.FS
	free atomic.Int64
}

func (d *disk) Space(string) (free, total int64, err error) { return d.free.Load(), 1 << 40, nil }

func (d *disk) Create(name string) (vfs.File, error) {
	f, err := d.FS.Create(name)
	if filepath.Base(filepath.Dir(name)) == index.LogDir {
		return f, err
	}
	return diskFile{f, d}, err
}

type diskFile struct {
	vfs.File
	d *disk
}

func (f diskFile) Write(p []byte) (int, error) {
	n, err := f.File.Write(p)
	f.d.free.Add(int64(-n))
	return n, err
}

func newFreeDisk(free int64) *disk {
	d := &disk{FS: vfs.OS()}
	d.free.Store(free)
	return d
}

// newDisk makes a set on a disk with that many bytes free, of which uploads leave 100.
func newDisk(t *testing.T, free int64) (*disk, *datadir.Set) {
	t.Helper()
	d := newFreeDisk(free)
	return d, newSet(t, func(o *datadir.Options) {
		o.FS = d
		o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 100} }
	})
}

func begin(a *repo.Access, size int64) (*repo.Upload, error) {
	return a.NewUpload(ctx, repo.UploadOptions{Key: "k", Size: size})
}

// Uploads that are admitted together find place together, in whatever repositories of the disk.
func TestUploadsShareTheDisk(t *testing.T) {
	const size, fits = 1000, 10
	_, s := newDisk(t, 100+size*fits)
	places := []*repo.Access{create(t, s, "a").As(repo.Principal{}), create(t, s, "b").As(repo.Principal{})}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var admitted []*repo.Upload
	for i := range 40 {
		wg.Go(func() {
			u, err := begin(places[i%2], size)
			if err != nil {
				if !errors.Is(err, repo.ErrNoSpace) {
					t.Errorf("upload %d: %v", i, err)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			admitted = append(admitted, u)
		})
	}
	wg.Wait()
	if len(admitted) != fits {
		t.Errorf("%d uploads were admitted, %d fit", len(admitted), fits)
	}
	for _, u := range admitted {
		u.Discard()
	}
	u, err := begin(places[0], size*fits)
	if err != nil {
		t.Fatalf("no promise is left behind: %v", err)
	}
	u.Discard()
}

// What is written is missing from the free space, and is not counted a second time.
func TestWrittenBytesAreNotPromised(t *testing.T) {
	_, s := newDisk(t, 100+100)
	a := create(t, s, "r").As(repo.Principal{})
	u, err := begin(a, 60)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Discard()
	if _, err := u.Write(bytes.Repeat([]byte("x"), 60)); err != nil {
		t.Fatal(err)
	}
	other, err := begin(a, 40)
	if err != nil {
		t.Fatalf("40 of 40 bytes: %v", err)
	}
	other.Discard()
	if _, err := begin(a, 41); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("41 of 40 bytes: got %v, want ErrNoSpace", err)
	}
}

// The peak of a plan is promised, not only looked at, and given back when it ends.
func TestPlanReservesItsPeak(t *testing.T) {
	d, s := newDisk(t, 100+1000)
	a := create(t, s, "r").As(repo.Principal{})
	reservation, err := a.Reserve(0, 900, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := a.Reserve(0, 900, true); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("a second plan: got %v, want ErrNoSpace", err)
	}
	if _, err := put(a, "x", string(make([]byte, 200))); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("upload into what a plan was promised: got %v, want ErrNoSpace", err)
	}
	if _, err := a.Put(ctx, repo.PutRequest{Key: "x", Body: bytes.NewReader(make([]byte, 200)), Size: -1}); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("the same of unknown length: got %v, want ErrNoSpace", err)
	}
	mustPut(t, a, "locks/me", "a lock is always admitted")
	u := upload(t, a, "packs/x", 900, reservation)
	if _, err := a.Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Reservation: reservation}); err != nil {
		t.Fatal(err)
	}
	reservation.Release()
	d.free.Store(1100)
	if reservation, err = a.Reserve(0, 1000, true); err != nil {
		t.Fatalf("no promise is left behind: %v", err)
	}
	reservation.Release()
}

// A body of unknown length claims the disk as it grows, and gives it back.
func TestUnknownLengthClaimsAsItGrows(t *testing.T) {
	const mib = 1 << 20
	for size, fits := range map[int]bool{mib: true, 8 * mib: true, 11 * mib: false} {
		d, s := newDisk(t, 100+10*mib)
		a := create(t, s, "r").As(repo.Principal{})
		_, err := a.Put(ctx, repo.PutRequest{Key: "x", Body: bytes.NewReader(make([]byte, size)), Size: -1})
		if fits && err != nil || !fits && !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("%d MiB: got %v, want success %v", size/mib, err, fits)
		}
		if d.free.Load() < 100 {
			t.Errorf("%d MiB: %d bytes are free, want the reserve of 100", size/mib, d.free.Load())
		}
		d.free.Store(100 + 10*mib)
		u, err := begin(a, 10*mib)
		if err != nil {
			t.Fatalf("%d MiB: no promise is left behind: %v", size/mib, err)
		}
		u.Discard()
	}
}

// What is set aside on one file system takes no space of another.
func TestFileSystemsHaveLedgersOfTheirOwn(t *testing.T) {
	for _, tt := range []struct {
		name   string
		apart  bool
		refuse bool
	}{{"one file system", false, true}, {"two", true, false}} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSet(t, func(o *datadir.Options) {
				o.FS = newFreeDisk(100 + 1000)
				o.Settings = func(string) repo.Settings { return repo.Settings{Quota: -1, Reserve: 100} }
				o.FileSystem = func(dir string) string {
					if tt.apart {
						return filepath.Base(dir)
					}
					return "one"
				}
			})
			a, b := create(t, s, "a").As(repo.Principal{}), create(t, s, "b").As(repo.Principal{})
			first, err := begin(a, 600)
			if err != nil {
				t.Fatal(err)
			}
			defer first.Discard()
			second, err := begin(b, 600)
			if err == nil {
				second.Discard()
			}
			if refused := errors.Is(err, repo.ErrNoSpace); refused != tt.refuse {
				t.Errorf("beside 600 of 1000 bytes: got %v, want a refusal: %t", err, tt.refuse)
			}
		})
	}
}
