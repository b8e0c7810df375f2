package backup

import (
	"bufio"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/zeebo/blake3"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/keys"
)

// The list, format 1: JSON, an object a line, compressed with zstd, so that it can be read without Packhouse. The first line is a header. Each line
// that follows is a line, of one of the kinds below: writers, what is in the trash, then directories and items in the order of listings, each
// directory before what is in it. The last has the kind end. A list without it, or whose digest is wrong, is damaged: ErrList.

const (
	listFile = "items.jsonl.zst"
	format   = 1
	maxLine  = 1 << 20 // bytes
)

// ErrList means that the list of a backup is damaged.
var ErrList = errors.New("the list of the backup is damaged")

// header is the first line.
type header struct {
	Format     int               `json:"format"`
	Repository string            `json:"repository"` // its ID
	Name       string            `json:"name"`
	Dialect    string            `json:"dialect"`
	At         time.Time         `json:"at"`   // when the state was taken
	Meta       map[string][]byte `json:"meta"` // of Pinned.Meta
}

// The kinds of lines.
const (
	kindWriter  = "writer"  // Key has completed a backup, last at Modified
	kindRemoved = "removed" // an item in the trash
	kindDir     = "dir"
	kindItem    = "item"
	kindEnd     = "end"
)

// What is known of an item whose bytes are not in the backup.
const (
	stateMissing = "missing"
	stateDamaged = "damaged"
)

// line is one of the others. Times are Unix ms, sums are hexadecimal.
type line struct {
	Kind      string `json:"kind"`
	Key       string `json:"key,omitempty"`
	Size      int64  `json:"size,omitempty"`
	Created   int64  `json:"created,omitempty"`
	Modified  int64  `json:"modified,omitempty"`
	BLAKE3    string `json:"blake3,omitempty"` // and the name of the file; "": not known, as the item was never found sound
	Algorithm string `json:"alg,omitempty"`
	Sum       string `json:"sum,omitempty"`
	Writer    string `json:"writer,omitempty"`
	Exempt    bool   `json:"exempt,omitempty"`
	Uncounted bool   `json:"uncounted,omitempty"` // limits do not count it: it is the source of a compaction that was under way, or came back after one
	State     string `json:"state,omitempty"`     // "": its bytes are in the backup
	Ref       string `json:"ref,omitempty"`       // in the repository that was backed up

	Removed int64 `json:"removed,omitempty"` // of what is in the trash
	Expires int64 `json:"expires,omitempty"`

	Lines  int64  `json:"lines,omitempty"`  // of the end: how many there are before it
	Digest string `json:"digest,omitempty"` // BLAKE3 of all of them, uncompressed
}

// lineOf is the line of an item, but for its kind, BLAKE3 and State.
func lineOf(key string, item index.Item) line {
	return line{
		Key: key, Size: item.Size, Created: item.Created.UnixMilli(), Modified: item.Modified.UnixMilli(), Algorithm: item.Algorithm,
		Sum: hex.EncodeToString(item.Sum), Writer: item.Writer, Exempt: item.Flags&index.FlagExempt != 0,
		Uncounted: item.Flags&index.FlagReturned != 0 || item.Plan != 0, Ref: hex.EncodeToString([]byte(item.Ref)),
	}
}

// item is what a line says of one, without its ref.
func (l *line) item() (item index.Item, err error) {
	item = index.Item{Size: l.Size, Created: time.UnixMilli(l.Created), Modified: time.UnixMilli(l.Modified), Algorithm: l.Algorithm, Writer: l.Writer}
	if item.Sum, err = hex.DecodeString(l.Sum); err != nil {
		return item, err
	}
	sum, err := hex.DecodeString(l.BLAKE3)
	copy(item.BLAKE3[:], sum)
	return item, err
}

// here tells whether the bytes are in the backup.
func (l *line) here() bool { return (l.Kind == kindItem || l.Kind == kindRemoved) && l.State == "" }

// check wants a line to be one that can be taken at its word.
func (l *line) check() error {
	switch l.Kind {
	case kindWriter, kindEnd:
		return nil
	case kindDir:
		return keys.Check(l.Key)
	case kindItem, kindRemoved:
	default:
		return fmt.Errorf("a line of the kind %q", l.Kind)
	}
	_, err := l.item()
	switch {
	case err != nil:
		return err
	case l.Size < 0, l.State != "" && l.State != stateMissing && l.State != stateDamaged, l.State == "" && l.BLAKE3 == "", l.BLAKE3 != "" && !isHash(l.BLAKE3):
		return errors.New("an item that cannot be")
	}
	return keys.Check(l.Key)
}

// A listWriter writes a list under another name first. It must be ended by commit or abort.
type listWriter struct {
	fs     vfs.FS
	dir    string
	file   vfs.File
	out    *bufio.Writer
	zip    *zstd.Encoder
	digest *blake3.Hasher
	lines  int64
}

func newList(fsys vfs.FS, dir string, h header) (*listWriter, error) {
	w := &listWriter{fs: fsys, dir: dir, digest: blake3.New()}
	file, err := fsys.Create(w.partial())
	if err != nil {
		return nil, err
	}
	w.file, w.out = file, bufio.NewWriterSize(file, 64<<10)
	w.zip, err = zstd.NewWriter(w.out, zstd.WithEncoderConcurrency(1))
	if err == nil {
		err = w.write(h)
	}
	if err != nil {
		return nil, errors.Join(err, w.abort())
	}
	return w, nil
}

func (w *listWriter) partial() string { return filepath.Join(w.dir, newDir, listFile) }

// write appends a line.
func (w *listWriter) write(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if b = append(b, '\n'); len(b) > maxLine {
		return fmt.Errorf("a line of the list would have %d bytes, at most %d fit", len(b), maxLine)
	}
	w.lines++
	w.digest.Write(b) // never fails
	_, err = w.zip.Write(b)
	return err
}

// commit ends the list and makes it that of the directory, durably. What it names is durable already.
func (w *listWriter) commit() error {
	err := w.write(line{Kind: kindEnd, Lines: w.lines, Digest: hex.EncodeToString(w.digest.Sum(nil))})
	if err == nil {
		err = w.zip.Close()
	}
	if err == nil {
		err = w.out.Flush()
	}
	if err == nil {
		err = w.file.Sync()
	}
	if err = errors.Join(err, w.file.Close()); err != nil {
		return errors.Join(err, w.fs.Remove(w.partial()))
	}
	if err := w.fs.Rename(w.partial(), filepath.Join(w.dir, listFile)); err != nil {
		return err
	}
	return w.fs.SyncDir(w.dir)
}

// abort drops the list.
func (w *listWriter) abort() error {
	if w.zip != nil {
		_ = w.zip.Close() // it goes nowhere
	}
	return errors.Join(w.file.Close(), w.fs.Remove(w.partial()))
}

// A listReader reads a list from its beginning, one line at a time.
type listReader struct {
	header
	file   vfs.File
	unzip  *zstd.Decoder
	in     *bufio.Reader
	digest *blake3.Hasher
	lines  int64
	ended  bool
}

// openList opens the list of a backup; fs.ErrNotExist: it has no complete state.
func openList(fsys vfs.FS, dir string) (*listReader, error) {
	file, err := fsys.Open(filepath.Join(dir, listFile))
	if err != nil {
		return nil, vfs.WithoutPath(err)
	}
	r := &listReader{file: file, digest: blake3.New()}
	if r.unzip, err = zstd.NewReader(file, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(64<<20)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r.in = bufio.NewReaderSize(r.unzip, maxLine)
	if err := r.read(&r.header); err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if r.Format != format {
		err := fmt.Errorf("%w: list of a backup of format %d, known is %d", blobstore.ErrNewer, r.Format, format)
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// read decodes the next line, as it is. What the disk does not give is an I/O error, and no damage of the list.
func (r *listReader) read(v any) error {
	b, err := r.in.ReadSlice('\n')
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w: it ends early", ErrList)
	case errors.Is(err, bufio.ErrBufferFull):
		return fmt.Errorf("%w: a line of more than %d bytes", ErrList, maxLine)
	case err != nil:
		if cause := vfs.WithoutPath(err); cause != err {
			return fmt.Errorf("read the list of the backup: %w", cause)
		}
		return fmt.Errorf("%w: %v", ErrList, err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("%w: %v", ErrList, err)
	}
	if l, ok := v.(*line); !ok || l.Kind != kindEnd {
		r.lines++
		r.digest.Write(b) // never fails
	}
	return nil
}

// next returns the next line; io.EOF behind the last one, and then all of them were what was written.
func (r *listReader) next() (l line, err error) {
	if r.ended {
		return l, io.EOF
	}
	if err := r.read(&l); err != nil {
		return l, err
	}
	if err := l.check(); err != nil {
		return l, fmt.Errorf("%w: %v", ErrList, err)
	}
	if l.Kind != kindEnd {
		return l, nil
	}
	r.ended = true
	if digest := hex.EncodeToString(r.digest.Sum(nil)); digest != l.Digest || r.lines != l.Lines {
		return l, fmt.Errorf("%w: %d lines of the digest %s, recorded %d of %s", ErrList, r.lines, digest, l.Lines, l.Digest)
	}
	return l, io.EOF
}

// each calls fn for the lines until one call returns an error.
func (r *listReader) each(fn func(l line) error) error {
	for {
		l, err := r.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = fn(l)
		}
		if err != nil {
			return err
		}
	}
}

func (r *listReader) Close() error {
	r.unzip.Close()
	return r.file.Close()
}
