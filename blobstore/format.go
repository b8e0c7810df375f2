package blobstore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// The trailer of a file of format 1, which is read and not written any more; doc.go has the layout.
const (
	format1   = 1 // the first: label, size and BLAKE3 of the payload
	fixedSize = 60
	magic     = "PHBLOB\r\n"

	// MaxLabel is the most bytes a label may have.
	MaxLabel = 4096

	maxTrailer = MaxLabel + fixedSize
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// parseTrailer reads the trailer of a file of fileSize bytes that ends with tail; tail must hold
// maxTrailer bytes, or the whole file if that is shorter. The label is part of tail, not a copy.
// A sound trailer of another format is ErrNewer; anything else but what doc.go describes is ErrCorrupt.
func parseTrailer(tail []byte, fileSize int64) (label []byte, info Info, err error) {
	damaged := func(what string, args ...any) ([]byte, Info, error) {
		return nil, Info{}, fmt.Errorf("%w: trailer: %s", ErrCorrupt, fmt.Sprintf(what, args...))
	}
	if len(tail) < fixedSize {
		return damaged("%d bytes are too few", len(tail))
	}
	fixed := tail[len(tail)-fixedSize:]
	if string(fixed[52:]) != magic {
		return damaged("no magic number")
	}
	length := int64(binary.LittleEndian.Uint32(fixed))
	if length > MaxLabel || length > int64(len(tail)-fixedSize) {
		return damaged("label of %d bytes", length)
	}
	covered := tail[int64(len(tail)-fixedSize)-length : len(tail)-fixedSize+48]
	if got, want := crc32.Checksum(covered, castagnoli), binary.LittleEndian.Uint32(fixed[48:]); got != want {
		return damaged("crc32c %08x, recorded %08x", got, want)
	}
	if format := binary.LittleEndian.Uint16(fixed[44:]); format != format1 {
		return nil, Info{}, fmt.Errorf("%w: trailer of format %d, known is %d", ErrNewer, format, format1)
	}
	if flags := binary.LittleEndian.Uint16(fixed[46:]); flags != 0 {
		return nil, Info{}, fmt.Errorf("%w: trailer with unknown flags %#x", ErrNewer, flags)
	}
	size := binary.LittleEndian.Uint64(fixed[4:])
	if want := uint64(fileSize - fixedSize - length); size != want {
		return damaged("payload of %d bytes, recorded %d", want, size)
	}
	info.Size = int64(size)
	copy(info.BLAKE3[:], fixed[12:44])
	return covered[:length], info, nil
}
