package logwriter

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
)

// FileOptions of OpenFile. All are required.
type FileOptions struct {
	Path string
	Size int64 // bytes from which on a new file is begun
	Keep int   // how many older files stay: Path.1, which is the youngest, to Path.Keep
}

// File is a log in files of a bounded size, mode 0600. A file that somebody has moved or removed is made anew. It is safe for
// concurrent use.
type File struct {
	o FileOptions

	mu   sync.Mutex // held over one Write
	file *os.File   // nil: it could not be opened again, or is closed
	size int64
	end  bool
}

// OpenFile opens a log for appending, and creates it if there is none.
func OpenFile(o FileOptions) (*File, error) {
	f := &File{o: o}
	return f, f.open()
}

func (f *File) open() error {
	file, err := os.OpenFile(f.o.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", f.o.Path)
	}
	if err != nil {
		return errors.Join(err, file.Close())
	}
	f.file, f.size = file, info.Size()
	return nil
}

// Write appends one line. A line is in one file as a whole, unless the disk is full.
func (f *File) Write(line []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.end {
		return 0, fs.ErrClosed
	}
	if f.file != nil && !f.there() {
		_ = f.file.Close() // what was written is where it was moved to
		f.file = nil
	}
	if f.file != nil && f.size > 0 && f.size+int64(len(line)) > f.o.Size {
		f.rotate()
	}
	if f.file == nil {
		if err := f.open(); err != nil {
			return 0, err
		}
	}
	n, err := f.file.Write(line)
	f.size += int64(n)
	return n, err
}

// there tells whether the file that is open is the one that has the name.
func (f *File) there() bool {
	named, err := os.Stat(f.o.Path)
	if err != nil {
		return false
	}
	open, err := f.file.Stat()
	return err == nil && os.SameFile(named, open)
}

// rotate gives the files their next names, so that the next line begins a new one. If that fails, the log goes on in the file
// that there is.
func (f *File) rotate() {
	for i := f.o.Keep; i > 0; i-- {
		from := f.o.Path
		if i > 1 {
			from = fmt.Sprintf("%s.%d", f.o.Path, i-1)
		}
		if err := os.Rename(from, fmt.Sprintf("%s.%d", f.o.Path, i)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return
		}
	}
	_ = f.file.Close() // every line was written
	f.file = nil
}

// Close ends the log.
func (f *File) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.end = true
	if f.file == nil {
		return nil
	}
	err := f.file.Close()
	f.file = nil
	return err
}
