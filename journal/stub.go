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
func (l *Log) Close() error            { return l.f.Close() }

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
