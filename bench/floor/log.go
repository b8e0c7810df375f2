package floor

import (
	"encoding/binary"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	_ "packhouse/internal/platform" // Linux only
)

// log is a file to which records are appended: a length of four bytes, then the bytes. Those that come while one
// sync runs share the next. It is safe for concurrent use.
type log struct {
	file  *os.File
	queue chan record
	ended sync.WaitGroup
}

type record struct {
	body []byte
	done chan<- error
}

// openLog begins a new log, over an old one.
func openLog(path string) (*log, error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	l := &log{file: file, queue: make(chan record, 1024)}
	l.ended.Go(l.run)
	return l, nil
}

// append returns when body is on stable storage.
func (l *log) append(body []byte) error {
	done := make(chan error, 1)
	l.queue <- record{body, done}
	return <-done
}

// close ends the log when nobody appends any more.
func (l *log) close() error {
	close(l.queue)
	l.ended.Wait()
	return l.file.Close()
}

func (l *log) run() {
	var buffer []byte
	var waiting []chan<- error
	for first := range l.queue {
		buffer, waiting = first.encode(buffer[:0]), append(waiting[:0], first.done)
		for more := true; more; {
			select {
			case r, ok := <-l.queue:
				if more = ok; ok {
					buffer, waiting = r.encode(buffer), append(waiting, r.done)
				}
			default:
				more = false
			}
		}
		_, err := l.file.Write(buffer)
		if err == nil {
			err = unix.Fdatasync(int(l.file.Fd()))
		}
		for _, done := range waiting {
			done <- err
		}
	}
}

func (r record) encode(b []byte) []byte {
	return append(binary.LittleEndian.AppendUint32(b, uint32(len(r.body))), r.body...)
}
