// Package logwriter writes a log behind those who log: a reader of the log that stalls, or goes away, holds up nobody.
package logwriter

import "io"

// maxBytes is how much of the log may wait, in bytes.
const maxBytes = 4 << 20

// Writer is a Queue of lines, of which 4 MiB may wait.
type Writer struct{ *Queue[[]byte] }

// New returns a writer to w. lost, which may be nil, is called when lines flow again after some were lost, with their number; it may log.
func New(w io.Writer, lost func(lines int)) *Writer {
	return &Writer{NewQueue(Options[[]byte]{
		Write: func(line []byte) error { _, err := w.Write(line); return err },
		Most:  maxBytes, Size: func(line []byte) int { return len(line) }, Lost: lost,
	})}
}

// Write queues one line. It never waits, and never fails.
func (w *Writer) Write(line []byte) (int, error) {
	w.Add(append([]byte(nil), line...))
	return len(line), nil
}
