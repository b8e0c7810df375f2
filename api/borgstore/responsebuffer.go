package borgstore

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// bufferMemory is how many bytes of a response are kept in memory; a listing of some 6,000 entries.
const bufferMemory = 1 << 20

// responseBuffer holds a response until its length is known: in memory, and from bufferMemory on in a temporary
// file that has no name any more.
type responseBuffer struct {
	dir    string
	memory bytes.Buffer
	file   *os.File // nil until memory is full
	size   int64
}

func newResponseBuffer(dir string) *responseBuffer { return &responseBuffer{dir: dir} }

func (s *responseBuffer) write(p []byte) error {
	s.size += int64(len(p))
	s.memory.Write(p)
	if s.memory.Len() < bufferMemory {
		return nil
	}
	return s.spill()
}

// spill moves what is in memory to the file.
func (s *responseBuffer) spill() error {
	if s.file == nil {
		file, err := os.CreateTemp(s.dir, "packhouse-*")
		if err != nil {
			return fmt.Errorf("temporary file for a response: %w", err)
		}
		s.file = file
		if err := os.Remove(file.Name()); err != nil {
			return fmt.Errorf("temporary file for a response: %w", err)
		}
	}
	if _, err := s.memory.WriteTo(s.file); err != nil {
		return fmt.Errorf("temporary file for a response: %w", err)
	}
	s.memory.Reset()
	return nil
}

// reader reads what was written, from its start, in a form that can be sent by sendfile.
func (s *responseBuffer) reader() (io.Reader, error) {
	if s.file == nil {
		return bytes.NewReader(s.memory.Bytes()), nil
	}
	if err := s.spill(); err != nil {
		return nil, err
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("temporary file for a response: %w", err)
	}
	return io.LimitReader(s.file, s.size), nil
}

func (s *responseBuffer) close() {
	if s.file != nil {
		// It has no name and nobody waits for its bytes: nothing depends on the outcome.
		_ = s.file.Close()
	}
}
