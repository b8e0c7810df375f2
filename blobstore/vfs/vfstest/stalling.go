package vfstest

import (
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"packhouse/blobstore/vfs"
)

// Stalling passes calls on to FS, but those that concern a stalled directory wait until it is released, as those at a disk do that does not
// answer: also reads, and calls on files that are open. It is safe for concurrent use.
type Stalling struct {
	vfs.FS

	mu      sync.Mutex
	dir     string        // that is stalled, with all below; "": none
	release chan struct{} // closed when it no longer is
	waiting int           // calls that wait
}

var _ vfs.FS = (*Stalling)(nil)

// NewStalling returns a Stalling in which nothing waits yet.
func NewStalling(inner vfs.FS) *Stalling { return &Stalling{FS: inner} }

// Stall lets all calls below dir wait from now on; the returned function releases them.
func (s *Stalling) Stall(dir string) (release func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dir, s.release = filepath.Clean(dir), make(chan struct{})
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.dir = ""
		close(s.release)
	})
}

// Waiting is how many calls wait.
func (s *Stalling) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waiting
}

// wait returns when name is not stalled.
func (s *Stalling) wait(name string) {
	name = filepath.Clean(name)
	s.mu.Lock()
	if s.dir == "" || name != s.dir && !strings.HasPrefix(name, s.dir+"/") {
		s.mu.Unlock()
		return
	}
	s.waiting++
	release := s.release
	s.mu.Unlock()
	<-release
	s.mu.Lock()
	s.waiting--
	s.mu.Unlock()
}

func (s *Stalling) file(name string, open func(string) (vfs.File, error)) (vfs.File, error) {
	s.wait(name)
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &stallingFile{f, s, name}, nil
}

func (s *Stalling) Create(name string) (vfs.File, error)    { return s.file(name, s.FS.Create) }
func (s *Stalling) Open(name string) (vfs.File, error)      { return s.file(name, s.FS.Open) }
func (s *Stalling) OpenWrite(name string) (vfs.File, error) { return s.file(name, s.FS.OpenWrite) }

func (s *Stalling) Link(oldname, newname string) error {
	s.wait(newname)
	return s.FS.Link(oldname, newname)
}

func (s *Stalling) Rename(oldname, newname string) error {
	s.wait(newname)
	return s.FS.Rename(oldname, newname)
}

func (s *Stalling) Remove(name string) error {
	s.wait(name)
	return s.FS.Remove(name)
}

func (s *Stalling) RemoveAll(name string) error {
	s.wait(name)
	return s.FS.RemoveAll(name)
}

func (s *Stalling) Mkdir(name string) error {
	s.wait(name)
	return s.FS.Mkdir(name)
}

func (s *Stalling) ReadDir(name string) ([]fs.DirEntry, error) {
	s.wait(name)
	return s.FS.ReadDir(name)
}

func (s *Stalling) Stat(name string) (fs.FileInfo, error) {
	s.wait(name)
	return s.FS.Stat(name)
}

func (s *Stalling) SyncDir(name string) error {
	s.wait(name)
	return s.FS.SyncDir(name)
}

func (s *Stalling) Space(name string) (free, total int64, err error) {
	s.wait(name)
	return s.FS.Space(name)
}

// stallingFile is an open file.
type stallingFile struct {
	vfs.File
	s    *Stalling
	name string
}

func (f *stallingFile) Read(p []byte) (int, error) {
	f.s.wait(f.name)
	return f.File.Read(p)
}

func (f *stallingFile) ReadAt(p []byte, off int64) (int, error) {
	f.s.wait(f.name)
	return f.File.ReadAt(p, off)
}

func (f *stallingFile) Write(p []byte) (int, error) {
	f.s.wait(f.name)
	return f.File.Write(p)
}

func (f *stallingFile) WriteAt(p []byte, off int64) (int, error) {
	f.s.wait(f.name)
	return f.File.WriteAt(p, off)
}

func (f *stallingFile) Truncate(size int64) error {
	f.s.wait(f.name)
	return f.File.Truncate(size)
}

func (f *stallingFile) Sync() error {
	f.s.wait(f.name)
	return f.File.Sync()
}

func (f *stallingFile) Stat() (fs.FileInfo, error) {
	f.s.wait(f.name)
	return f.File.Stat()
}
