package vfs

import (
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	_ "packhouse/internal/platform" // Linux only
)

// OS returns the operating system's file system.
func OS() FS { return osFS{} }

// OSForGroup is OS whose new files and directories the group of the process may read and write as well, but for what the umask takes away: modes
// 0660 and 0770.
func OSForGroup() FS { return osFS{group: true} }

type osFS struct{ group bool }

// fileMode and dirMode are those of what is made.
func (f osFS) fileMode() uint32 {
	if f.group {
		return 0o660
	}
	return 0o600
}

func (f osFS) dirMode() uint32 {
	if f.group {
		return 0o770
	}
	return 0o700
}

var (
	_ FS               = osFS{}
	_ ReadOnlyTeller   = osFS{}
	_ FileSystemSyncer = osFS{}
	_ AttributeSetter  = osFS{}
	_ File             = osFile{}
	_ OSFiler          = osFile{}
	_ Cloner           = osFile{}
)

func (f osFS) Create(name string) (File, error) {
	return wrap(open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW, f.fileMode()))
}

func (osFS) Open(name string) (File, error) {
	return wrap(open(name, unix.O_RDONLY|unix.O_NOFOLLOW, 0))
}

func (osFS) OpenWrite(name string) (File, error) {
	return wrap(open(name, unix.O_RDWR|unix.O_NOFOLLOW, 0))
}

// open opens a file and leaves it out of the runtime's poller, which cannot wait for regular files: os.OpenFile makes four
// system calls more with each, to find that out.
func open(name string, flags int, mode uint32) (*os.File, error) {
	for {
		fd, err := unix.Open(name, flags|unix.O_CLOEXEC|unix.O_LARGEFILE, mode)
		switch err {
		case nil:
			return os.NewFile(uintptr(fd), name), nil
		case unix.EINTR:
		default:
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
}

func (osFS) Link(oldname, newname string) error         { return os.Link(oldname, newname) }
func (osFS) Rename(oldname, newname string) error       { return os.Rename(oldname, newname) }
func (osFS) Remove(name string) error                   { return os.Remove(name) }
func (osFS) RemoveAll(name string) error                { return os.RemoveAll(name) }
func (f osFS) Mkdir(name string) error                  { return os.Mkdir(name, fs.FileMode(f.dirMode())) }
func (osFS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }
func (osFS) Stat(name string) (fs.FileInfo, error)      { return os.Lstat(name) }

func (osFS) SyncDir(name string) error {
	dir, err := open(name, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return err
	}
	err = dir.Sync()
	if closeErr := dir.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (osFS) SetAttributes(name string, mode fs.FileMode, modified time.Time) error {
	if err := os.Chmod(name, mode); err != nil || modified.IsZero() {
		return err
	}
	return os.Chtimes(name, modified, modified)
}

// SyncFileSystem is syncfs.
func (osFS) SyncFileSystem(name string) error {
	file, err := open(name, unix.O_RDONLY, 0)
	if err != nil {
		return err
	}
	err = osFile{file}.control("syncfs", unix.Syncfs)
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}

func (osFS) Space(name string) (free, total int64, err error) {
	st, err := statfs(name)
	if err != nil {
		return 0, 0, err
	}
	free, total = spaceOf(&st)
	return free, total, nil
}

func (osFS) Inodes(name string) (free, total int64, err error) {
	st, err := statfs(name)
	return int64(st.Ffree), int64(st.Files), err
}

// ReadOnly implements ReadOnlyTeller.
func (osFS) ReadOnly(name string) (bool, error) {
	st, err := statfs(name)
	return readOnly(&st), err
}

func statfs(name string) (st unix.Statfs_t, err error) {
	for {
		if err = unix.Statfs(name, &st); err != unix.EINTR {
			break
		}
	}
	if err != nil {
		err = &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return st, err
}

// spaceOf are the bytes that an unprivileged user may still write, and all of the file system.
func spaceOf(st *unix.Statfs_t) (free, total int64) {
	unit := blockUnit(st)
	return int64(st.Bavail) * unit, int64(st.Blocks) * unit
}

// osFile is an *os.File whose Sync is fdatasync.
type osFile struct{ *os.File }

func wrap(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// OSFile is the file itself.
func (f osFile) OSFile() *os.File { return f.File }
