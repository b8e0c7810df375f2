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

func (b *responseBuffer) write(p []byte) error {
	b.size += int64(len(p))
	b.memory.Write(p)
	if b.memory.Len() < bufferMemory {
		return nil
	}
	return b.spill()
}

// spill moves what is in memory to the file.
func (b *responseBuffer) spill() error {
	if b.file == nil {
		file, err := os.CreateTemp(b.dir, "packhouse-*")
		if err != nil {
			return fmt.Errorf("temporary file for a response: %w", err)
		}
		b.file = file
		if err := os.Remove(file.Name()); err != nil {
			return fmt.Errorf("temporary file for a response: %w", err)
		}
	}
	if _, err := b.memory.WriteTo(b.file); err != nil {
		return fmt.Errorf("temporary file for a response: %w", err)
	}
	b.memory.Reset()
	return nil
}

// reader reads what was written, from its start, in a form that can be sent by sendfile.
func (b *responseBuffer) reader() (io.Reader, error) {
	if b.file == nil {
		return bytes.NewReader(b.memory.Bytes()), nil
	}
	if err := b.spill(); err != nil {
		return nil, err
	}
	if _, err := b.file.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("temporary file for a response: %w", err)
	}
	return io.LimitReader(b.file, b.size), nil
}

func (b *responseBuffer) close() {
	if b.file != nil {
		// It has no name and nobody waits for its bytes: nothing depends on the outcome.
		_ = b.file.Close()
	}
}
