// Package journal is a stand-in.
package journal

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"

	"packhouse/blobstore/vfs"
)

type Position int64
type Options struct {
	Dir      string
	FS       vfs.FS
	ReadOnly bool
}
type Kind uint8

const KindRows Kind = 1
const MaxBody = 16 << 20

var ErrNotFound, ErrCorrupt, ErrVersion, ErrNoSpace = errors.New("no log"), errors.New("damaged"), errors.New("version"), errors.New("space")

type Log struct {
	f   *os.File
	end Position
}
type Record struct {
	Kind     Kind
	Body     []byte
	Payloads [][]byte
}
type Replayed struct {
	Kind Kind
	Last bool
	Body []byte
}
type Appended struct{ Group, End Position }
type Payload struct {
	Segment Position
	Offset  int
	Length  int
}

func PayloadSize(n int) int { return n + 1 }
func (p Payload) Ref() string {
	b := binary.BigEndian.AppendUint64([]byte{2}, uint64(p.Segment))
	b = binary.BigEndian.AppendUint32(b, uint32(p.Offset))
	return string(binary.BigEndian.AppendUint32(b, uint32(p.Length)))
}
func ParseRef(s string) (Payload, bool) {
	if len(s) != 17 || s[0] != 2 {
		return Payload{}, false
	}
	b := []byte(s)
	return Payload{Position(binary.BigEndian.Uint64(b[1:])), int(binary.BigEndian.Uint32(b[9:])), int(binary.BigEndian.Uint32(b[13:]))}, true
}
func (l *Log) Place(n int) (Payload, error) { return Payload{0, int(l.end) + 9, 0}, nil }
func (l *Log) ReadPayload(p Payload) ([]byte, error) {
	b := make([]byte, p.Length)
	_, err := l.f.ReadAt(b, int64(p.Segment)+int64(p.Offset))
	return b, err
}

func Create(o Options, first Position) error {
	if err := o.FS.Mkdir(o.Dir); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	f, err := os.Create(filepath.Join(o.Dir, "0"))
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close(), o.FS.SyncDir(o.Dir), o.FS.SyncDir(filepath.Dir(o.Dir)))
}
func Open(o Options) (*Log, error) {
	flag := os.O_RDWR
	if o.ReadOnly {
		flag = os.O_RDONLY
	}
	f, err := os.OpenFile(filepath.Join(o.Dir, "0"), flag, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil, ErrNotFound
	}
	return &Log{f: f}, err
}
func (l *Log) Replay(ctx context.Context, from Position, fn func(Replayed) error) error {
	all, err := io.ReadAll(l.f)
	if err != nil {
		return err
	}
	for {
		b := all[l.end:]
		if len(b) < 9 || int(binary.LittleEndian.Uint32(b)) > len(b)-9 {
			return nil
		}
		n := int(binary.LittleEndian.Uint32(b))
		if crc32.ChecksumIEEE(b[9:9+n]) != binary.LittleEndian.Uint32(b[5:]) {
			return nil
		}
		if l.end >= from {
			if err := fn(Replayed{KindRows, b[4] == 1, b[9 : 9+n]}); err != nil {
				return err
			}
		}
		l.end += Position(9 + n)
	}
}
func (l *Log) Append(r []Record) (Appended, error) {
	start := l.end
	var b []byte
	for i, one := range r {
		for _, p := range one.Payloads {
			one.Body = append(append(one.Body, p...), 0)
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(one.Body)))
		last := byte(0)
		if i == len(r)-1 {
			last = 1
		}
		_ = last
		b = append(b, last)
		b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(one.Body))
		b = append(b, one.Body...)
	}
	if _, err := l.f.WriteAt(b, int64(l.end)); err != nil {
		return Appended{}, err
	}
	l.end += Position(len(b))
	return Appended{start, l.end}, l.f.Sync()
}
func (l *Log) End() Position           { return l.end }
func (l *Log) Remove(p Position) error { return nil }

type Segment struct{ First, End Position }

func (l *Log) Segments() []Segment { return []Segment{{0, l.end}} }
func (l *Log) Close() error        { return l.f.Close() }

func Extend(o Options) (Position, error) {
	l, err := Open(o)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	err = l.Replay(context.Background(), 0, func(Replayed) error { return nil })
	return l.End(), err
}

func Exists(o Options) (bool, error) {
	_, err := os.Stat(filepath.Join(o.Dir, "0"))
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
