package vykartest_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"packhouse/blobstore/vfs"
)

// disk is a file system in memory, of a size that a test chooses, which can lose what was not synced. The index and its log
// are files of the system: they and the directories above them are real.
type disk struct {
	root string

	mu       sync.Mutex
	entries  tree
	durable  tree  // as the last sync of each directory left them
	capacity int64 // bytes; negative: no bound
	total    int64 // bytes of all files; negative: to be counted
}

// tree is the entries of each directory by its path.
type tree map[string]map[string]*inode

func (t tree) get(name string) *inode { return t[filepath.Dir(name)][filepath.Base(name)] }

func (t tree) put(name string, file *inode) {
	dir := filepath.Dir(name)
	if t[dir] == nil {
		t[dir] = make(map[string]*inode)
	}
	t[dir][filepath.Base(name)] = file
}

func (t tree) remove(name string) { delete(t[filepath.Dir(name)], filepath.Base(name)) }

// move takes what lies below a directory to another, or away when there is none.
func (t tree) move(from, to string) {
	for _, dir := range slices.Collect(maps.Keys(t)) {
		rest, below := strings.CutPrefix(dir+"/", from+"/")
		if !below {
			continue
		}
		if to != "" {
			t[filepath.Join(to, rest)] = t[dir]
		}
		delete(t, dir)
	}
}

// inode is a file, or a directory, whose entries are those below its path.
type inode struct {
	dir    bool
	data   []byte
	synced int
}

var _ vfs.FS = (*disk)(nil)

func newDisk(root string) *disk {
	return &disk{root: root, capacity: -1, total: -1, entries: make(tree), durable: make(tree)}
}

// resize gives the file system another size.
func (d *disk) resize(capacity int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.capacity = capacity
}

// copyFrom makes the files those of another disk, whose server has stopped. They are written once: both may have them.
func (d *disk) copyFrom(other *disk) {
	other.mu.Lock()
	defer other.mu.Unlock()
	d.total = -1
	for dir, files := range other.entries {
		dir = d.root + strings.TrimPrefix(dir, other.root)
		d.entries[dir] = maps.Clone(files)
		d.durable[dir] = maps.Clone(files)
	}
}

// crash takes away what was not synced.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.entries, d.total = make(tree), -1
	for dir, files := range d.durable {
		d.entries[dir] = maps.Clone(files)
		for _, file := range files {
			file.data = file.data[:file.synced:file.synced]
		}
	}
}

// used is what the files hold, each counted once, with the index.
func (d *disk) used() int64 {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.usedLocked()
}

func (d *disk) usedLocked() int64 {
	if d.total < 0 {
		d.total = 0
		counted := make(map[*inode]bool)
		for _, files := range d.entries {
			for _, file := range files {
				if !counted[file] {
					counted[file] = true
					d.total += int64(len(file.data))
				}
			}
		}
	}
	total := d.total
	var index syscall.Stat_t // bbolt makes it longer than what is in it
	if err := syscall.Lstat(d.real("index.db"), &index); err == nil {
		total += index.Blocks * 512
	}
	return total
}

// blobs is the number of files with the bytes of blobs, with those of uploads under way.
func (d *disk) blobs() (n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for dir, files := range d.entries {
		if filepath.Dir(dir) == d.real("blobs") || dir == d.real("incoming") {
			for name := range files {
				if filepath.Ext(name) != ".sums" {
					n++
				}
			}
		}
	}
	return n
}

// real is a file of the repository's directory that is the system's.
func (d *disk) real(name string) string {
	return filepath.Join(d.root, "data", repositoryName, name)
}

// isReal tells whether a name is that of a file which is the index's, or was.
func isReal(name string) bool { return strings.HasPrefix(filepath.Base(name), "index.") }

// above tells whether a directory is that of the repository, or holds it.
func (d *disk) above(name string) bool {
	return strings.HasPrefix(d.real("x"), filepath.Clean(name)+"/")
}

func (d *disk) isDirLocked(name string) bool {
	name = filepath.Clean(name)
	if file := d.entries.get(name); file != nil {
		return file.dir
	}
	if !d.above(name) {
		return false
	}
	info, err := os.Lstat(name)
	return err == nil && info.IsDir()
}

func failed(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// makeLocked puts an entry where none is.
func (d *disk) makeLocked(op, name string, file *inode) error {
	name = filepath.Clean(name)
	switch {
	case !d.isDirLocked(filepath.Dir(name)):
		return failed(op, name, syscall.ENOENT)
	case d.entries.get(name) != nil || d.isDirLocked(name):
		return failed(op, name, syscall.EEXIST)
	}
	d.entries.put(name, file)
	return nil
}

func (d *disk) Create(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := new(inode)
	if err := d.makeLocked("open", name, file); err != nil {
		return nil, err
	}
	return &openFile{d: d, name: name, file: file, writing: true}, nil
}

// OpenWrite is for the log, which is the system's as the index is.
func (d *disk) OpenWrite(name string) (vfs.File, error) {
	return nil, failed("open", name, errors.ErrUnsupported)
}

func (d *disk) Open(name string) (vfs.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := d.entries.get(filepath.Clean(name))
	if file == nil || file.dir {
		return nil, failed("open", name, syscall.ENOENT)
	}
	return &openFile{d: d, name: name, file: file}, nil
}

func (d *disk) Link(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	file := d.entries.get(filepath.Clean(oldname))
	if file == nil || file.dir {
		return failed("link", oldname, syscall.ENOENT)
	}
	return d.makeLocked("link", newname, file)
}

func (d *disk) Rename(oldname, newname string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if isReal(oldname) {
		return os.Rename(oldname, newname)
	}
	oldname, newname = filepath.Clean(oldname), filepath.Clean(newname)
	file := d.entries.get(oldname)
	switch {
	case file == nil:
		return failed("rename", oldname, syscall.ENOENT)
	case !d.isDirLocked(filepath.Dir(newname)):
		return failed("rename", newname, syscall.ENOENT)
	}
	d.total = -1
	d.entries.remove(oldname)
	d.entries.put(newname, file)
	if file.dir {
		d.entries.move(oldname, newname)
	}
	return nil
}

func (d *disk) Remove(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if isReal(name) {
		return os.Remove(name)
	}
	name = filepath.Clean(name)
	file := d.entries.get(name)
	switch {
	case file == nil:
		return failed("remove", name, syscall.ENOENT)
	case file.dir && len(d.entries[name]) > 0:
		return failed("remove", name, syscall.ENOTEMPTY)
	}
	d.total = -1
	d.entries.remove(name)
	return nil
}

func (d *disk) RemoveAll(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if isReal(name) {
		return os.RemoveAll(name)
	}
	name = filepath.Clean(name)
	d.total = -1
	d.entries.remove(name)
	d.entries.move(name, "")
	return nil
}

func (d *disk) Mkdir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.above(name) {
		return os.Mkdir(name, 0o700)
	}
	return d.makeLocked("mkdir", name, &inode{dir: true})
}

// belowLocked are the entries of a directory.
func (d *disk) belowLocked(name string) []fs.DirEntry {
	var all []fs.DirEntry
	for entry, file := range d.entries[name] {
		all = append(all, fs.FileInfoToDirEntry(information{entry, len(file.data), file.dir}))
	}
	return all
}

func (d *disk) ReadDir(name string) ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = filepath.Clean(name)
	if !d.isDirLocked(name) {
		return nil, failed("open", name, syscall.ENOENT)
	}
	all := d.belowLocked(name)
	if d.above(name) {
		entries, err := os.ReadDir(name)
		if err != nil {
			return nil, err
		}
		all = append(all, entries...)
	}
	slices.SortFunc(all, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return all, nil
}

func (d *disk) Stat(name string) (fs.FileInfo, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if isReal(name) || d.above(name) {
		return os.Lstat(name)
	}
	file := d.entries.get(filepath.Clean(name))
	if file == nil {
		return nil, failed("lstat", name, syscall.ENOENT)
	}
	return information{filepath.Base(name), len(file.data), file.dir}, nil
}

func (d *disk) SyncDir(name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	name = filepath.Clean(name)
	if !d.isDirLocked(name) {
		return failed("open", name, syscall.ENOENT)
	}
	d.durable[name] = maps.Clone(d.entries[name])
	return nil
}

func (d *disk) Space(string) (free, total int64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.capacity < 0 {
		return 1 << 50, 1 << 51, nil
	}
	return max(d.capacity-d.usedLocked(), 0), d.capacity, nil
}

func (d *disk) Inodes(string) (free, total int64, err error) { return 0, 0, nil }

// information is that of an entry.
type information struct {
	name string
	size int
	dir  bool
}

func (i information) Name() string     { return i.name }
func (i information) Size() int64      { return int64(i.size) }
func (information) ModTime() time.Time { return time.Time{} }
func (i information) IsDir() bool      { return i.dir }
func (information) Sys() any           { return nil }

func (i information) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

// openFile is a file being written or read. Like the system's it may be read at the same time by many.
type openFile struct {
	d       *disk
	name    string
	file    *inode
	writing bool

	mu     sync.Mutex
	at     int64
	closed bool
}

func (f *openFile) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	switch {
	case f.closed || !f.writing:
		return 0, failed("write", f.name, fs.ErrClosed)
	case f.at != int64(len(f.file.data)):
		return 0, failed("write", f.name, errors.ErrUnsupported)
	case f.d.capacity >= 0 && f.d.capacity-f.d.usedLocked() < int64(len(p)):
		return 0, failed("write", f.name, syscall.ENOSPC)
	}
	// Readers may hold what was there: it is not written again.
	if f.d.total >= 0 {
		f.d.total += int64(len(p))
	}
	f.file.data = append(f.file.data, p...)
	f.at += int64(len(p))
	return len(p), nil
}

func (f *openFile) WriteAt([]byte, int64) (int, error) {
	return 0, failed("write", f.name, errors.ErrUnsupported)
}

func (f *openFile) Truncate(int64) error { return failed("truncate", f.name, errors.ErrUnsupported) }

func (f *openFile) content() *bytes.Reader {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	return bytes.NewReader(f.file.data)
}

func (f *openFile) ReadAt(p []byte, off int64) (int, error) { return f.content().ReadAt(p, off) }

func (f *openFile) Read(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	n, err := f.content().ReadAt(p, f.at)
	f.at += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

func (f *openFile) Seek(offset int64, whence int) (int64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += f.content().Size()
	}
	f.at = offset
	return offset, nil
}

func (f *openFile) Sync() error {
	f.d.mu.Lock()
	defer f.d.mu.Unlock()
	f.file.synced = len(f.file.data)
	return nil
}

func (f *openFile) Stat() (fs.FileInfo, error) {
	return information{filepath.Base(f.name), int(f.content().Size()), false}, nil
}

func (f *openFile) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return failed("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	return nil
}
