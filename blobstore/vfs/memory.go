package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"
)

// NewMemory creates a file system in memory, for few and small files: all of them together have at most size bytes, and a write beyond
// that is ENOSPC. It has a root directory, "/". Nothing in it is durable; syncs succeed.
func NewMemory(size int64) FS {
	return &memoryFS{size: size, nodes: map[string]*memoryNode{"/": {dir: true}}}
}

// memoryFS has a node for each name.
type memoryFS struct {
	size int64

	mu    sync.Mutex // held over every call
	used  int64
	nodes map[string]*memoryNode // by clean path
}

// memoryNode is a file, which may have several names, or a directory. Guarded by the file system's mutex.
type memoryNode struct {
	dir   bool
	bytes []byte
	links int
	open  int
	at    time.Time // of the last write
}

var (
	_ FS   = (*memoryFS)(nil)
	_ File = (*memoryFile)(nil)
)

func pathError(op, name string, err error) error { return &fs.PathError{Op: op, Path: name, Err: err} }

// look finds a node; nil: there is none.
func (m *memoryFS) look(name string) *memoryNode { return m.nodes[filepath.Clean(name)] }

// mayMake wants the name to be free, and its parent a directory.
func (m *memoryFS) mayMake(name string) error {
	if m.look(name) != nil {
		return syscall.EEXIST
	}
	if parent := m.look(filepath.Dir(filepath.Clean(name))); parent == nil || !parent.dir {
		return syscall.ENOENT
	}
	return nil
}

func (m *memoryFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mayMake(name); err != nil {
		return nil, pathError("open", name, err)
	}
	node := &memoryNode{links: 1, open: 1, at: time.Now()}
	m.nodes[filepath.Clean(name)] = node
	return &memoryFile{m: m, node: node, name: name, writes: true}, nil
}

func (m *memoryFS) Open(name string) (File, error) { return m.open(name, false) }

func (m *memoryFS) OpenWrite(name string) (File, error) { return m.open(name, true) }

func (m *memoryFS) open(name string, writes bool) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.look(name)
	if node == nil {
		return nil, pathError("open", name, syscall.ENOENT)
	}
	if node.dir {
		return nil, pathError("open", name, syscall.EISDIR)
	}
	node.open++
	return &memoryFile{m: m, node: node, name: name, writes: writes}, nil
}

func (m *memoryFS) Link(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.look(oldname)
	err := m.mayMake(newname)
	if node == nil || node.dir {
		err = syscall.ENOENT
	}
	if err != nil {
		return &os.LinkError{Op: "link", Old: oldname, New: newname, Err: err}
	}
	node.links++
	m.nodes[filepath.Clean(newname)] = node
	return nil
}

func (m *memoryFS) Rename(oldname, newname string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.look(oldname)
	switch {
	case node == nil:
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: syscall.ENOENT}
	case node.dir:
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: errors.ErrUnsupported}
	}
	if other := m.look(newname); other != nil && other != node {
		m.unlink(newname)
	}
	delete(m.nodes, filepath.Clean(oldname))
	m.nodes[filepath.Clean(newname)] = node
	return nil
}

// unlink takes a name away, and the bytes with the last one that nobody has open.
func (m *memoryFS) unlink(name string) {
	name = filepath.Clean(name)
	node := m.nodes[name]
	delete(m.nodes, name)
	node.links--
	m.forget(node)
}

func (m *memoryFS) forget(node *memoryNode) {
	if node.links <= 0 && node.open == 0 {
		m.used -= int64(len(node.bytes))
		node.bytes = nil
	}
}

func (m *memoryFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.look(name)
	if node == nil {
		return pathError("remove", name, syscall.ENOENT)
	}
	if node.dir && len(m.children(name)) > 0 {
		return pathError("remove", name, syscall.ENOTEMPTY)
	}
	m.unlink(name)
	return nil
}

func (m *memoryFS) RemoveAll(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	name = filepath.Clean(name)
	for other := range m.nodes {
		if other == name || strings.HasPrefix(other, name+"/") {
			m.unlink(other)
		}
	}
	return nil
}

func (m *memoryFS) Mkdir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.mayMake(name); err != nil {
		return pathError("mkdir", name, err)
	}
	m.nodes[filepath.Clean(name)] = &memoryNode{dir: true, links: 1, at: time.Now()}
	return nil
}

// children are the names in a directory, sorted.
func (m *memoryFS) children(dir string) (names []string) {
	dir = filepath.Clean(dir)
	for name := range m.nodes {
		if name != dir && filepath.Dir(name) == dir {
			names = append(names, filepath.Base(name))
		}
	}
	sort.Strings(names)
	return names
}

func (m *memoryFS) ReadDir(name string) ([]fs.DirEntry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.look(name)
	if node == nil {
		return nil, pathError("open", name, syscall.ENOENT)
	}
	if !node.dir {
		return nil, pathError("readdirent", name, syscall.ENOTDIR)
	}
	entries := []fs.DirEntry{}
	for _, child := range m.children(name) {
		entries = append(entries, fs.FileInfoToDirEntry(m.info(filepath.Join(name, child), m.look(filepath.Join(name, child)))))
	}
	return entries, nil
}

func (m *memoryFS) Stat(name string) (fs.FileInfo, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	node := m.look(name)
	if node == nil {
		return nil, pathError("lstat", name, syscall.ENOENT)
	}
	return m.info(name, node), nil
}

func (m *memoryFS) info(name string, node *memoryNode) fs.FileInfo {
	return memoryInfo{filepath.Base(name), int64(len(node.bytes)), node.dir, node.at}
}

func (m *memoryFS) SyncDir(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if node := m.look(name); node == nil || !node.dir {
		return pathError("open", name, syscall.ENOENT)
	}
	return nil
}

func (m *memoryFS) Space(string) (free, total int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.size - m.used, m.size, nil
}

// Inodes says that there is no limit but that of the bytes.
func (m *memoryFS) Inodes(string) (free, total int64, err error) { return 0, 0, nil }

type memoryInfo struct {
	name string
	size int64
	dir  bool
	at   time.Time
}

func (i memoryInfo) Name() string       { return i.name }
func (i memoryInfo) Size() int64        { return i.size }
func (i memoryInfo) ModTime() time.Time { return i.at }
func (i memoryInfo) IsDir() bool        { return i.dir }
func (i memoryInfo) Sys() any           { return nil }
func (i memoryInfo) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}

// memoryFile is an open file. Its Write appends, as no caller does otherwise. It is no Allocator: a file takes memory as it
// grows.
type memoryFile struct {
	m      *memoryFS
	node   *memoryNode
	name   string
	writes bool

	at     int64 // where the next Read begins; guarded by m.mu, like closed
	closed bool
}

func (f *memoryFile) Write(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.writeLocked(p, int64(len(f.node.bytes)))
}

func (f *memoryFile) WriteAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if off < 0 {
		return 0, pathError("write", f.name, syscall.EINVAL)
	}
	return f.writeLocked(p, off)
}

func (f *memoryFile) writeLocked(p []byte, off int64) (int, error) {
	size := int64(len(f.node.bytes))
	if len(p) > 0 {
		size = max(size, off+int64(len(p)))
	}
	if err := f.resizeLocked("write", size); err != nil {
		return 0, err
	}
	if len(p) == 0 {
		return 0, nil // it may be for behind the end
	}
	return copy(f.node.bytes[off:], p), nil
}

func (f *memoryFile) Truncate(size int64) error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if size < 0 {
		return pathError("truncate", f.name, syscall.EINVAL)
	}
	return f.resizeLocked("truncate", size)
}

// resizeLocked makes the file size bytes long, if it may be written.
func (f *memoryFile) resizeLocked(op string, size int64) error {
	grown := size - int64(len(f.node.bytes))
	switch {
	case f.closed:
		return pathError(op, f.name, fs.ErrClosed)
	case !f.writes:
		return pathError(op, f.name, syscall.EBADF)
	case f.m.used+grown > f.m.size:
		return pathError(op, f.name, syscall.ENOSPC)
	}
	f.m.used += grown
	if grown > 0 {
		f.node.bytes = append(f.node.bytes, make([]byte, grown)...)
	}
	f.node.bytes = f.node.bytes[:size]
	f.node.at = time.Now()
	return nil
}

func (f *memoryFile) Read(p []byte) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	n, err := f.readLocked(p, f.at)
	f.at += int64(n)
	if n > 0 && errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (f *memoryFile) ReadAt(p []byte, off int64) (int, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.readLocked(p, off)
}

func (f *memoryFile) readLocked(p []byte, off int64) (int, error) {
	switch {
	case f.closed:
		return 0, pathError("read", f.name, fs.ErrClosed)
	case off < 0:
		return 0, pathError("read", f.name, syscall.EINVAL)
	case off >= int64(len(f.node.bytes)):
		if len(p) == 0 {
			return 0, nil
		}
		return 0, io.EOF
	}
	n := copy(p, f.node.bytes[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (f *memoryFile) Seek(offset int64, whence int) (int64, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	switch whence {
	case io.SeekCurrent:
		offset += f.at
	case io.SeekEnd:
		offset += int64(len(f.node.bytes))
	}
	if offset < 0 {
		return 0, pathError("seek", f.name, syscall.EINVAL)
	}
	f.at = offset
	return offset, nil
}

func (f *memoryFile) Close() error {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	if f.closed {
		return pathError("close", f.name, fs.ErrClosed)
	}
	f.closed = true
	f.node.open--
	f.m.forget(f.node)
	return nil
}

func (f *memoryFile) Sync() error { return nil }

func (f *memoryFile) Stat() (fs.FileInfo, error) {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.m.info(f.name, f.node), nil
}
