package layout

import (
	"bufio"
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"path/filepath"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
)

// The list of adopted files, format 1: which file of a directory of another server became which blob, under which key. It is written and
// synced before the first file is taken in, so that an index can be made from it and the blobs. Integers are little-endian:
//
//	header    magic 8 B "PHADOPT\n" | format u16 1 | length u32 | JSON of Adoption | crc32c u32 of what is before
//	blocks    length u32, 1 to 1 MiB | records, whole | crc32c u32 of both
//	end       0 u32 | records u64 | bytes of the files u64 | crc32c u32 of the three
//
//	record    <n>ref | flags u8 | size i64 | modified i64 Unix ms | <n>algorithm | <u16 n>key
//
// <n> is a length byte, <u16 n> a length of 16 bits. Records are in the order of their keys, part by part. A list without its end, or with a
// block whose checksum is wrong, is damaged: ErrAdoptionList. It takes its name when it is whole, so a crash leaves none such.

// ErrAdoptionList means that a list of adopted files is damaged.
var ErrAdoptionList = errors.New("the list of adopted files is damaged")

const (
	adoptionMagic   = "PHADOPT\n"
	adoptionFormat1 = 1
	adoptionBlock   = 64 << 10 // bytes after which a block ends
	maxAdoption     = 1 << 20  // bytes of a header or a block
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Adoption is what a list says of all its files.
type Adoption struct {
	Dialect string `json:"dialect"`
	Layout  string `json:"layout"` // of which server
	Source  string `json:"source"` // the directory, absolute
	Method  string `json:"method"` // as in Origin; "" of the first lists: MethodLink
	Began   int64  `json:"began"`  // Unix ms
}

// How files are taken in.
const (
	MethodLink = "link" // the files there are those of the repository, too
	MethodCopy = "copy" // as a clone where the file system can
)

// Origin is what the meta value MetaAdopted says, in JSON: where the repository was taken in from.
type Origin struct {
	Layout string    `json:"layout"`
	Source string    `json:"source"`
	Method string    `json:"method"`
	At     time.Time `json:"at"`
	// Finished is when what was adopted was removed from the source; zero: it was not.
	Finished time.Time `json:"finished,omitzero"`
}

// Origin is that of the list's files.
func (a Adoption) Origin() Origin {
	return Origin{Layout: a.Layout, Source: a.Source, Method: cmp.Or(a.Method, MethodLink), At: time.UnixMilli(a.Began).UTC()}
}

// Shared tells whether files of the source are those of the repository, too, as far as the repository knows.
func (o *Origin) Shared() bool { return o.Method == MethodLink && o.Finished.IsZero() }

// Flags of an adopted file.
const (
	AdoptedExempt = 1 << 0 // a coordination object that quotas do not count
	AdoptedBackup = 1 << 1 // its time is that of the last backup
)

// Adopted is one adopted file.
type Adopted struct {
	Ref       blobstore.Ref
	Key       string
	Size      int64 // bytes
	Modified  time.Time
	Algorithm string // of the digest that the last part of the key is, in hexadecimal; "": it is none
	Flags     uint8
}

// Item is the item that the file, which is in the list of an adoption, becomes while nothing is known of its bytes. One whose time is in the
// future is taken for one that was stored when the adoption began: else no plan could remove it, a guard would hold it until then, and
// no backup would ever seem too old.
func (a Adopted) Item(in Adoption) index.Item {
	stored := a.Modified
	if began := time.UnixMilli(in.Began); stored.After(began) {
		stored = began
	}
	item := index.Item{
		Ref: string(a.Ref), Size: a.Size, Created: stored, Modified: stored, Flags: index.FlagUnverified,
	}
	if sum, err := hex.DecodeString(path.Base(a.Key)); a.Algorithm != "" && err == nil {
		item.Algorithm, item.Sum = a.Algorithm, sum
	}
	return item
}

// Label is the label of a copy of the file, which is in the list of an adoption.
func (a Adopted) Label(in Adoption) ([]byte, error) {
	return EncodeLabel(in.Dialect, a.Key, a.Item(in), a.Flags&AdoptedExempt != 0)
}

// AdoptionList is where the list of a repository lies.
func AdoptionList(dir string) string { return filepath.Join(dir, AdoptedDir, "list") }

// IsAdopting tells whether files of another server are being taken in to make a repository of dir, which has no index yet.
func IsAdopting(fsys vfs.FS, dir string) bool {
	_, adopting := fsys.Stat(filepath.Join(dir, AdoptingFile))
	_, index := fsys.Stat(filepath.Join(dir, IndexFile))
	return adopting == nil && index != nil
}

// AdoptionWriter writes a list.
type AdoptionWriter struct {
	fs    vfs.FS
	dir   string
	file  vfs.File
	out   *bufio.Writer
	block []byte
	count uint64
	bytes uint64
}

// NewAdoptionList begins the list of the repository in dir. It has to be ended by Commit or Abort.
func NewAdoptionList(fsys vfs.FS, dir string, a Adoption) (*AdoptionWriter, error) {
	text, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	made := filepath.Join(dir, AdoptedDir)
	if err := IgnoreExisting(fsys.Mkdir(made)); err != nil {
		return nil, err
	}
	w := &AdoptionWriter{fs: fsys, dir: dir}
	if err := IgnoreMissing(fsys.Remove(w.partial())); err != nil {
		return nil, err
	}
	if w.file, err = fsys.Create(w.partial()); err != nil {
		return nil, err
	}
	w.out = bufio.NewWriterSize(w.file, adoptionBlock)
	b := append([]byte(adoptionMagic), adoptionFormat1, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	b = append(b, text...)
	return w, w.sealed(b)
}

func (w *AdoptionWriter) partial() string { return AdoptionList(w.dir) + ".new" }

// sealed writes bytes and their checksum.
func (w *AdoptionWriter) sealed(b []byte) error {
	_, err := w.out.Write(binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli)))
	return err
}

// Add appends a file.
func (w *AdoptionWriter) Add(a Adopted) error {
	if len(w.block) == 0 {
		w.block = append(w.block, 0, 0, 0, 0)
	}
	b := append(w.block, byte(len(a.Ref)))
	b = append(b, a.Ref...)
	b = append(b, a.Flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Size))
	b = binary.LittleEndian.AppendUint64(b, uint64(a.Modified.UnixMilli()))
	b = append(b, byte(len(a.Algorithm)))
	b = append(b, a.Algorithm...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(a.Key)))
	w.block = append(b, a.Key...)
	w.count++
	w.bytes += uint64(a.Size)
	if len(w.block) < adoptionBlock {
		return nil
	}
	return w.flush()
}

func (w *AdoptionWriter) flush() error {
	if len(w.block) == 0 {
		return nil
	}
	binary.LittleEndian.PutUint32(w.block, uint32(len(w.block)-4))
	err := w.sealed(w.block)
	w.block = w.block[:0]
	return err
}

// Commit ends the list, and makes it that of the repository, durably, in the place of an earlier one.
func (w *AdoptionWriter) Commit() error {
	err := w.flush()
	if err == nil {
		b := binary.LittleEndian.AppendUint64(make([]byte, 4), w.count)
		err = w.sealed(binary.LittleEndian.AppendUint64(b, w.bytes))
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
	if err := w.fs.Rename(w.partial(), AdoptionList(w.dir)); err != nil {
		return err
	}
	return errors.Join(w.fs.SyncDir(filepath.Dir(w.partial())), w.fs.SyncDir(w.dir))
}

// Abort drops the list.
func (w *AdoptionWriter) Abort() error {
	return errors.Join(w.file.Close(), w.fs.Remove(w.partial()))
}

// AdoptionReader reads a list from its beginning, one block at a time.
type AdoptionReader struct {
	Adoption
	file  vfs.File
	in    *bufio.Reader
	block []byte // what is left of it
	ended bool
	count uint64
	bytes uint64
}

// OpenAdoptionList opens the list of the repository in dir; fs.ErrNotExist: nothing was adopted.
func OpenAdoptionList(fsys vfs.FS, dir string) (*AdoptionReader, error) {
	file, err := fsys.Open(AdoptionList(dir))
	if err != nil {
		return nil, vfs.WithoutPath(err)
	}
	r := &AdoptionReader{file: file, in: bufio.NewReaderSize(file, adoptionBlock)}
	if err := r.header(); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

func (r *AdoptionReader) header() error {
	head := make([]byte, 14)
	if err := r.full(head); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(head[10:])
	if string(head[:8]) != adoptionMagic || length > maxAdoption {
		return fmt.Errorf("%w: header", ErrAdoptionList)
	}
	if format := binary.LittleEndian.Uint16(head[8:]); format != adoptionFormat1 {
		return fmt.Errorf("%w: list of adopted files of format %d, known is %d", blobstore.ErrNewer, format, adoptionFormat1)
	}
	text, err := r.sealed(head, length)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &r.Adoption); err != nil {
		return fmt.Errorf("%w: header: %v", ErrAdoptionList, err)
	}
	return nil
}

// sealed reads length bytes behind those of head, and compares the checksum of both.
func (r *AdoptionReader) sealed(head []byte, length uint32) ([]byte, error) {
	b := make([]byte, length+4)
	if err := r.full(b); err != nil {
		return nil, err
	}
	crc := crc32.Update(crc32.Checksum(head, castagnoli), castagnoli, b[:length])
	if recorded := binary.LittleEndian.Uint32(b[length:]); crc != recorded {
		return nil, fmt.Errorf("%w: crc32c %08x, recorded %08x", ErrAdoptionList, crc, recorded)
	}
	return b[:length], nil
}

func (r *AdoptionReader) full(b []byte) error {
	_, err := io.ReadFull(r.in, b)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		return fmt.Errorf("%w: it ends early", ErrAdoptionList)
	}
	return vfs.WithoutPath(err)
}

// Next returns the next file; io.EOF after the last one.
func (r *AdoptionReader) Next() (Adopted, error) {
	for len(r.block) == 0 {
		if r.ended {
			return Adopted{}, io.EOF
		}
		if err := r.nextBlock(); err != nil {
			return Adopted{}, err
		}
	}
	a, err := r.record()
	r.count++
	r.bytes += uint64(a.Size)
	return a, err
}

func (r *AdoptionReader) nextBlock() (err error) {
	head := make([]byte, 4)
	if err := r.full(head); err != nil {
		return err
	}
	length := binary.LittleEndian.Uint32(head)
	if length > maxAdoption {
		return fmt.Errorf("%w: block of %d bytes", ErrAdoptionList, length)
	}
	if length > 0 {
		r.block, err = r.sealed(head, length)
		return err
	}
	end, err := r.sealed(head, 16)
	if err == nil && (binary.LittleEndian.Uint64(end) != r.count || binary.LittleEndian.Uint64(end[8:]) != r.bytes) {
		err = fmt.Errorf("%w: it has %d files, recorded %d", ErrAdoptionList, r.count, binary.LittleEndian.Uint64(end))
	}
	r.ended = true
	return err
}

func (r *AdoptionReader) record() (a Adopted, err error) {
	take := func(n int) []byte {
		if n > len(r.block) {
			err, r.block = fmt.Errorf("%w: record", ErrAdoptionList), nil
			return make([]byte, n)
		}
		b := r.block[:n]
		r.block = r.block[n:]
		return b
	}
	a.Ref = blobstore.Ref(take(int(take(1)[0])))
	a.Flags = take(1)[0]
	a.Size = int64(binary.LittleEndian.Uint64(take(8)))
	a.Modified = time.UnixMilli(int64(binary.LittleEndian.Uint64(take(8))))
	a.Algorithm = string(take(int(take(1)[0])))
	a.Key = string(take(int(binary.LittleEndian.Uint16(take(2)))))
	if err == nil && a.Size < 0 {
		err = fmt.Errorf("%w: record", ErrAdoptionList)
	}
	return a, err
}

// Close closes the list.
func (r *AdoptionReader) Close() error { return r.file.Close() }
