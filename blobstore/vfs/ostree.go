package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

var (
	_ TreeOpener = osFS{}
	_ Tree       = (*osTree)(nil)
	_ Placed     = (*statInfo)(nil)
)

// osTree is a directory by its descriptor, which is used through conn, as that of dirFS is.
type osTree struct {
	at   string // for errors
	file *os.File
	conn syscall.RawConn
}

// OpenTree implements TreeOpener.
func (osFS) OpenTree(name string) (Tree, error) {
	name = filepath.Clean(name)
	if !filepath.IsAbs(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: unix.EINVAL}
	}
	fd, err := retried(func() (int, error) {
		return openat2(unix.AT_FDCWD, name, unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
	})
	if withoutOpenat2(err) {
		fd, err = stepwise(unix.AT_FDCWD, "/", name)
	}
	return newTree(name, fd, err)
}

const openDirectory = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC | unix.O_LARGEFILE

func openat2(dir int, name string, resolve uint64) (int, error) {
	return unix.Openat2(dir, name, &unix.OpenHow{Flags: openDirectory, Resolve: resolve})
}

// withoutOpenat2 tells whether openat2 is not to be had: Linux before 5.6, or a filter of system calls that refuses those which it does not know.
// EAGAIN is what a rename elsewhere may cause.
func withoutOpenat2(err error) bool {
	return err == unix.ENOSYS || err == unix.EPERM || err == unix.EAGAIN
}

// stepwise opens a directory below another one, part by part, and follows no symbolic link; first is opened before them, relative to dir.
func stepwise(dir int, first, name string) (int, error) {
	at, err := retried(func() (int, error) { return unix.Openat(dir, first, openDirectory, 0) })
	for part := range strings.SplitSeq(name, "/") {
		if err != nil {
			return -1, err
		}
		if part == "" || part == "." {
			continue
		}
		above := at
		at, err = retried(func() (int, error) { return unix.Openat(above, part, openDirectory|unix.O_NOFOLLOW, 0) })
		_ = unix.Close(above) // it was only read
	}
	return at, err
}

func retried(open func() (int, error)) (fd int, err error) {
	for {
		if fd, err = open(); err != unix.EINTR {
			return fd, err
		}
	}
}

func newTree(at string, fd int, err error) (Tree, error) {
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: at, Err: err}
	}
	file := os.NewFile(uintptr(fd), at)
	conn, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &osTree{at, file, conn}, nil
}

func (t *osTree) Dir(name string) (Tree, error) {
	at := filepath.Join(t.at, name)
	if !filepath.IsLocal(name) {
		return nil, &fs.PathError{Op: "open", Path: at, Err: unix.EINVAL}
	}
	fd := -1
	err := control(t.conn, "open", at, func(dir int) (err error) {
		fd, err = openat2(dir, name, unix.RESOLVE_BENEATH|unix.RESOLVE_NO_SYMLINKS|unix.RESOLVE_NO_MAGICLINKS)
		if withoutOpenat2(err) {
			fd, err = stepwise(dir, ".", name)
		}
		return err
	})
	return newTree(at, fd, WithoutPath(err))
}

// entry wants a name that has no directories in it.
func (t *osTree) entry(op, name string) error {
	if name == "" || name == "." || name == ".." || strings.Contains(name, "/") {
		return &fs.PathError{Op: op, Path: filepath.Join(t.at, name), Err: unix.EINVAL}
	}
	return nil
}

// do carries out a call for an entry.
func (t *osTree) do(op, name string, fn func(dir int) error) error {
	if err := t.entry(op, name); err != nil {
		return err
	}
	return control(t.conn, op, t.at+"/"+name, fn)
}

// readAtOnce is how many entries are read from the kernel with their own form of package os.
const readAtOnce = 1024

func (t *osTree) ReadDir() (entries []fs.DirEntry, err error) {
	// By a descriptor of its own, which has its own position.
	again, err := t.Dir(".")
	if err != nil {
		return nil, err
	}
	file := again.(*osTree).file
	defer file.Close() // it is only read
	for {
		some, err := file.ReadDir(readAtOnce)
		for _, entry := range some {
			entries = append(entries, &treeEntry{t, entry.Name(), entry.Type()})
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, nil
}

// treeEntry looks its file up where it was listed.
type treeEntry struct {
	t    *osTree
	name string
	mode fs.FileMode
}

func (e *treeEntry) Name() string               { return e.name }
func (e *treeEntry) IsDir() bool                { return e.mode.IsDir() }
func (e *treeEntry) Type() fs.FileMode          { return e.mode }
func (e *treeEntry) Info() (fs.FileInfo, error) { return e.t.Stat(e.name) }

func (t *osTree) Stat(name string) (fs.FileInfo, error) {
	info := &statInfo{name: name}
	err := t.do("stat", name, func(dir int) error { return info.read(dir) })
	if err != nil {
		return nil, err
	}
	return info, nil
}

func (t *osTree) Open(name string) (File, error) {
	fd := -1
	err := t.do("open", name, func(dir int) (err error) {
		// A pipe that has got the name must not be waited for.
		fd, err = unix.Openat(dir, name, unix.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC|unix.O_LARGEFILE, 0)
		return err
	})
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), t.at+"/"+name)
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: file.Name(), Err: unix.EINVAL}
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return osFile{file}, nil
}

func (t *osTree) Link(name, newname string) error {
	err := t.do("link", name, func(dir int) error { return unix.Linkat(dir, name, unix.AT_FDCWD, newname, 0) })
	if path, ok := err.(*fs.PathError); ok {
		return &os.LinkError{Op: "link", Old: path.Path, New: newname, Err: path.Err}
	}
	return err
}

func (t *osTree) Remove(name string) error {
	return t.do("remove", name, func(dir int) error { return removeAt(dir, name) })
}

func (t *osTree) Close() error { return t.file.Close() }

// statInfo is what statx says of a file.
type statInfo struct {
	name  string
	stat  syscall.Stat_t
	mount uint64
	fixed bool
}

const statMask = unix.STATX_BASIC_STATS | unix.STATX_MNT_ID

func (i *statInfo) read(dir int) error {
	var st unix.Statx_t
	err := unix.Statx(dir, i.name, unix.AT_SYMLINK_NOFOLLOW, statMask, &st)
	if err == unix.ENOSYS || err == unix.EPERM { // before Linux 4.11, or a filter of system calls
		return i.readOld(dir)
	}
	if err != nil {
		return err
	}
	i.stat.Dev, i.stat.Ino = unix.Mkdev(st.Dev_major, st.Dev_minor), st.Ino
	i.stat.Mode, i.stat.Uid, i.stat.Gid = uint32(st.Mode), st.Uid, st.Gid
	setLinks(&i.stat, uint64(st.Nlink))
	i.stat.Size = int64(st.Size)
	i.stat.Mtim = timespec(st.Mtime.Sec, int64(st.Mtime.Nsec))
	i.stat.Ctim = timespec(st.Ctime.Sec, int64(st.Ctime.Nsec))
	if st.Mask&unix.STATX_MNT_ID != 0 {
		i.mount = st.Mnt_id
	}
	i.fixed = st.Attributes&st.Attributes_mask&(unix.STATX_ATTR_IMMUTABLE|unix.STATX_ATTR_APPEND) != 0
	return nil
}

func (i *statInfo) readOld(dir int) error {
	var st unix.Stat_t
	if err := unix.Fstatat(dir, i.name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	i.stat.Dev, i.stat.Ino = uint64(st.Dev), st.Ino
	i.stat.Mode, i.stat.Uid, i.stat.Gid = st.Mode, st.Uid, st.Gid
	setLinks(&i.stat, uint64(st.Nlink))
	i.stat.Size = st.Size
	i.stat.Mtim = timespec(int64(st.Mtim.Sec), int64(st.Mtim.Nsec))
	i.stat.Ctim = timespec(int64(st.Ctim.Sec), int64(st.Ctim.Nsec))
	return nil
}

// setLinks sets the number of names, whose type differs from one architecture to the other.
func setLinks(st *syscall.Stat_t, n uint64) { setNumber(&st.Nlink, n) }

func setNumber[T uint32 | uint64](to *T, n uint64) { *to = T(n) }

func timespec(seconds, nanoseconds int64) syscall.Timespec {
	return syscall.NsecToTimespec(seconds*int64(time.Second) + nanoseconds)
}

func (i *statInfo) Name() string       { return i.name }
func (i *statInfo) Size() int64        { return i.stat.Size }
func (i *statInfo) Mode() fs.FileMode  { return fileMode(i.stat.Mode) }
func (i *statInfo) ModTime() time.Time { return time.Unix(i.stat.Mtim.Unix()) }
func (i *statInfo) IsDir() bool        { return i.Mode().IsDir() }
func (i *statInfo) Sys() any           { return &i.stat }
func (i *statInfo) Mount() uint64      { return i.mount }
func (i *statInfo) Fixed() bool        { return i.fixed }

// fileMode is the mode as package fs has it.
func fileMode(mode uint32) fs.FileMode {
	m := fs.FileMode(mode & 0o777)
	for _, bit := range []struct {
		unix uint32
		fs   fs.FileMode
	}{{unix.S_ISUID, fs.ModeSetuid}, {unix.S_ISGID, fs.ModeSetgid}, {unix.S_ISVTX, fs.ModeSticky}} {
		if mode&bit.unix != 0 {
			m |= bit.fs
		}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFREG:
		return m
	case unix.S_IFDIR:
		return m | fs.ModeDir
	case unix.S_IFLNK:
		return m | fs.ModeSymlink
	case unix.S_IFIFO:
		return m | fs.ModeNamedPipe
	case unix.S_IFSOCK:
		return m | fs.ModeSocket
	case unix.S_IFBLK:
		return m | fs.ModeDevice
	case unix.S_IFCHR:
		return m | fs.ModeDevice | fs.ModeCharDevice
	}
	return m | fs.ModeIrregular
}
