package vfstest

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"packhouse/blobstore/vfs"
)

// ErrCrashed is what every call to a Lossy returns after its Crash.
var ErrCrashed = errors.New("the machine has crashed")

// Lossy is the operating system's file system below one directory, with a strict model of durability: bytes of a file are durable
// only after its Sync, an entry of a directory (a new name, a removal) only after SyncDir of that directory. Crash drops everything
// else: each block of 512 bytes that was written or cut off since the file's last Sync by itself, and the size of the file. Its syncs do not
// reach the disk.
//
// Files that were not written through it, such as a database's, keep their bytes in any case; they are kept or dropped with
// their directory. A directory that is moved is in its old place until the directory of the new one is synced, as a journal commits both
// entries together. Calls outside of the directory are passed on, and are not dropped.
//
// Removed files are kept next to the directory until the test ends. It is safe for concurrent use.
type Lossy struct {
	inner vfs.FS
	root  string

	mu      sync.Mutex // held over every call, so that Crash comes between two
	crashed bool
	grave   string     // directory where removed things wait, beside root; empty: not made yet
	changes []*change  // not yet durable, oldest first
	files   []*written // made or opened for writing here
	graves  int        // how many names grave has had
}

var (
	_ vfs.FS               = (*Lossy)(nil)
	_ vfs.FileSystemSyncer = (*Lossy)(nil)
)

// change is one entry that differs from what is on disk.
type change struct {
	dir, name string // the entry
	saved     string // in the grave: what it was before; empty: it was not there
	from      string // of a moved directory: where it was
	tied      bool   // to the change before it: a rename within dir is durable whole
}

// NewLossy returns a file system below dir, which exists and is durable with all it
// holds. After a Crash, another one on the same dir is the restarted machine.
func NewLossy(t testing.TB, dir string) *Lossy {
	t.Helper()
	l := &Lossy{inner: vfs.OS(), root: filepath.Clean(dir)}
	t.Cleanup(func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.grave == "" {
			return
		}
		if err := os.RemoveAll(l.grave); err != nil {
			t.Error(err)
		}
	})
	return l
}

// Crash drops what was not synced, and ends the file system. With a source of randomness some of it stays: of each directory the
// older ones of its changes, of each file any of the sizes that it had since its Sync, and in each block the result of any of the
// writes since then, or of none. With nil nothing stays.
func (l *Lossy) Crash(random *rand.Rand) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	l.crashed = true
	kept := l.keep(random)
	for i := len(l.changes) - 1; i >= 0; i-- {
		if c := l.changes[i]; !kept[c] {
			if err := l.revert(c); err != nil {
				return err
			}
		}
	}
	for _, file := range l.files {
		if err := file.crash(random); err != nil {
			return err
		}
	}
	return nil
}

// keep chooses the changes that happen to be durable.
func (l *Lossy) keep(random *rand.Rand) map[*change]bool {
	kept := make(map[*change]bool)
	if random == nil {
		return kept
	}
	pending := make(map[string]int)
	for _, c := range l.changes {
		pending[c.dir]++
	}
	left := make(map[string]int)
	for i, c := range l.changes {
		if _, chosen := left[c.dir]; !chosen {
			left[c.dir] = random.IntN(pending[c.dir] + 1)
		}
		if left[c.dir] > 0 {
			left[c.dir]--
			kept[c] = true
		}
		if c.tied {
			kept[c] = kept[l.changes[i-1]]
		}
	}
	return kept
}

// revert makes an entry what it was before.
func (l *Lossy) revert(c *change) error {
	name := filepath.Join(c.dir, c.name)
	if c.from != "" {
		if err := os.Rename(name, c.from); err != nil {
			return err
		}
		l.rebase(name, c.from)
	} else if err := os.RemoveAll(name); err != nil {
		return err
	}
	if c.saved == "" {
		return nil
	}
	l.rebase(c.saved, name)
	return os.Rename(c.saved, name)
}

// rebase follows a directory from one path to another.
func (l *Lossy) rebase(from, to string) {
	for _, c := range l.changes {
		for _, path := range []*string{&c.dir, &c.from} {
			if *path == from && path == &c.dir {
				*path = to
			} else if rest, ok := strings.CutPrefix(*path, from+"/"); ok {
				*path = filepath.Join(to, rest)
			}
		}
	}
}

// inside tells whether Lossy looks after the entry name.
func (l *Lossy) inside(name string) bool {
	return strings.HasPrefix(filepath.Clean(name), l.root+"/")
}

// change carries out a call on the entry name, and notes that before it the entry was saved (a
// name in the grave, or empty).
func (l *Lossy) change(name, saved string, call func() error) error {
	if err := call(); err != nil {
		return err
	}
	if l.inside(name) {
		l.changes = append(l.changes, &change{dir: filepath.Dir(name), name: filepath.Base(name), saved: saved})
	}
	return nil
}

// newGrave returns a free name.
func (l *Lossy) newGrave() (string, error) {
	if l.grave == "" {
		dir, err := os.MkdirTemp(filepath.Dir(l.root), filepath.Base(l.root)+"-grave-")
		if err != nil {
			return "", err
		}
		l.grave = dir
	}
	l.graves++
	return filepath.Join(l.grave, strconv.Itoa(l.graves)), nil
}

func (l *Lossy) Create(name string) (file vfs.File, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return nil, ErrCrashed
	}
	err = l.change(name, "", func() error {
		file, err = l.inner.Create(name)
		return err
	})
	if err != nil || !l.inside(name) {
		return file, err
	}
	return l.follow(name, file)
}

// OpenWrite takes a file that was not made here as durable with all it holds.
func (l *Lossy) OpenWrite(name string) (vfs.File, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return nil, ErrCrashed
	}
	file, err := l.inner.OpenWrite(name)
	if err != nil || !l.inside(name) {
		return file, err
	}
	return l.follow(name, file)
}

// follow begins to look after a file, or finds what is known of it.
func (l *Lossy) follow(name string, file vfs.File) (vfs.File, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	for _, w := range l.files {
		if os.SameFile(w.info, info) {
			return &lossyFile{File: file, l: l, written: w}, nil
		}
	}
	w := &written{info: info, size: info.Size()}
	if w.saved, err = l.copyEntry(name); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	l.files = append(l.files, w)
	return &lossyFile{File: file, l: l, written: w}, nil
}

func (l *Lossy) Link(oldname, newname string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	return l.change(newname, "", func() error { return l.inner.Link(oldname, newname) })
}

func (l *Lossy) Mkdir(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	return l.change(name, "", func() error { return l.inner.Mkdir(name) })
}

func (l *Lossy) Remove(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	if !l.inside(name) {
		return l.inner.Remove(name)
	}
	if entries, err := os.ReadDir(name); err == nil && len(entries) > 0 {
		return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	return l.bury(name)
}

func (l *Lossy) RemoveAll(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	if !l.inside(name) {
		return l.inner.RemoveAll(name)
	}
	if err := l.bury(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// bury removes an entry, whole, in a way that can be undone.
func (l *Lossy) bury(name string) error {
	saved, err := l.newGrave()
	if err != nil {
		return err
	}
	err = l.change(name, saved, func() error { return os.Rename(name, saved) })
	if err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: vfs.WithoutPath(err)}
	}
	l.rebase(name, saved)
	return nil
}

func (l *Lossy) Rename(oldname, newname string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	info, err := os.Lstat(oldname)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return l.renameDir(oldname, newname)
	}
	over := ""
	if l.inside(newname) {
		if over, err = l.copyEntry(newname); err != nil {
			return err
		}
	}
	moved := ""
	if l.inside(oldname) {
		if moved, err = l.copyEntry(oldname); err != nil {
			return err
		}
	}
	if err := l.change(newname, over, func() error { return l.inner.Rename(oldname, newname) }); err != nil {
		return err
	}
	if l.inside(oldname) {
		within := filepath.Dir(oldname) == filepath.Dir(newname)
		l.changes = append(l.changes, &change{
			dir: filepath.Dir(oldname), name: filepath.Base(oldname), saved: moved, tied: within,
		})
	}
	return nil
}

// copyEntry gives a file a second name in the grave; empty if there is no file.
func (l *Lossy) copyEntry(name string) (string, error) {
	saved, err := l.newGrave()
	if err != nil {
		return "", err
	}
	if err := os.Link(name, saved); errors.Is(err, fs.ErrNotExist) {
		return "", nil
	} else if err != nil {
		return "", err
	}
	return saved, nil
}

func (l *Lossy) renameDir(oldname, newname string) error {
	if l.inside(oldname) != l.inside(newname) {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: errors.ErrUnsupported}
	}
	if err := l.inner.Rename(oldname, newname); err != nil || !l.inside(newname) {
		return err
	}
	l.rebase(filepath.Clean(oldname), filepath.Clean(newname)) // the changes before it
	l.changes = append(l.changes, &change{
		dir: filepath.Clean(filepath.Dir(newname)), name: filepath.Base(newname), from: filepath.Clean(oldname),
	})
	return nil
}

func (l *Lossy) SyncDir(name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "sync", Path: name, Err: syscall.ENOTDIR}
	}
	name = filepath.Clean(name)
	pending := l.changes[:0]
	for _, c := range l.changes {
		if c.dir != name {
			pending = append(pending, c)
		}
	}
	clear(l.changes[len(pending):])
	l.changes = pending
	return nil
}

// SyncFileSystem makes all of it durable. Like its other syncs it does not reach the disk.
func (l *Lossy) SyncFileSystem(string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return ErrCrashed
	}
	clear(l.changes)
	l.changes = l.changes[:0]
	for _, file := range l.files {
		file.synced()
	}
	return nil
}

func (l *Lossy) Open(name string) (vfs.File, error) {
	return alive(l, func() (vfs.File, error) { return l.inner.Open(name) })
}

func (l *Lossy) ReadDir(name string) ([]fs.DirEntry, error) {
	return alive(l, func() ([]fs.DirEntry, error) { return l.inner.ReadDir(name) })
}

func (l *Lossy) Stat(name string) (fs.FileInfo, error) {
	return alive(l, func() (fs.FileInfo, error) { return l.inner.Stat(name) })
}

func (l *Lossy) Space(name string) (free, total int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return 0, 0, ErrCrashed
	}
	return l.inner.Space(name)
}

func (l *Lossy) Inodes(name string) (free, total int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return 0, 0, ErrCrashed
	}
	return l.inner.Inodes(name)
}

// alive is a call that changes nothing.
func alive[T any](l *Lossy, call func() (T, error)) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		var none T
		return none, ErrCrashed
	}
	return call()
}
