package holder

import (
	"errors"
	"os"
	"path/filepath"
	"sync"

	"packhouse/repo/layout"
)

// maxLog is the size in bytes at which the log of a background holder is renamed to log.1.
const maxLog = 1 << 20

// Log is the log file of a process without a terminal. Its size is bounded, and an error in it does not stop the process.
type Log struct {
	path string
	mu   sync.Mutex // held over one line
	f    *os.File   // guarded by mu
	size int64      // guarded by mu
}

// OpenLog opens the log of the claim's holder for appending.
func (c *Claim) OpenLog() (*Log, error) {
	l := &Log{path: filepath.Join(c.Dir, layout.OwnDir, "log")}
	return l, l.openLocked()
}

func (l *Log) openLocked() error {
	f, err := os.OpenFile(l.path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return errors.Join(err, f.Close())
	}
	l.f, l.size = f, info.Size()
	return nil
}

// Write appends a line.
func (l *Log) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.size >= maxLog {
		if err := errors.Join(l.f.Close(), os.Rename(l.path, l.path+".1"), l.openLocked()); err != nil {
			return 0, err
		}
	}
	n, err := l.f.Write(line)
	l.size += int64(n)
	return n, err
}

// Close closes the file.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.f.Close()
}
