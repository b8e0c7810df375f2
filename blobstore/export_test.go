package blobstore

import "encoding/binary"

// What the black-box tests reach of the package's insides.

const (
	FixedSize  = fixedSize
	MaxTrailer = maxTrailer
	MaxTries   = maxTries
	BlockSize  = blockSize
	WindowSize = windowSize
)

var (
	ParseTrailer  = parseTrailer
	AppendTrailer = appendTrailer
)

// NewGroupSync returns the wait of a groupSync.
func NewGroupSync(sync func() error) func() error { return newGroupSync(sync).wait }

// RefOf is the reference to the blob in a file of that name.
func RefOf(name string) Ref { return refTo(name, kindFile) }

// TrailedRefOf is RefOf of a file of format 1.
func TrailedRefOf(name string) Ref { return refTo(name, kindTrailed) }

func refTo(name string, kind byte) Ref {
	id, ok := parseName(name)
	if !ok {
		panic(name)
	}
	return id.refTo(kind)
}

// AppendSums appends a file of checksums for a payload.
func AppendSums(b []byte, info Info, trailed bool, label, payload []byte) []byte {
	h := header{info: info, label: label}
	if trailed {
		h.flags = flagTrailer
	}
	var blocks blockSummer
	_, _ = blocks.Write(payload)
	return appendSums(b, h, blocks.all())
}

// ParseSums reads all of a file of checksums.
func ParseSums(file []byte) (info Info, trailed bool, label, sums []byte, err error) {
	r, err := newSumsReader(file, nil, nil)
	if err != nil {
		return Info{}, false, nil, nil, err
	}
	for block := range blockCount(r.header.info.Size) {
		sum, err := r.sum(block)
		if err != nil {
			return Info{}, false, nil, nil, err
		}
		sums = binary.LittleEndian.AppendUint32(sums, sum)
	}
	return r.header.info, r.header.flags&flagTrailer != 0, r.header.label, sums, nil
}

var ErrSums = errSums
