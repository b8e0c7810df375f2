package journal

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// content verifies the payloads and the body of a record.
func (w *walk) content(h recordHeader) (broken *DamageError, err error) {
	off := int64(h.position - w.in.first)
	if off+h.size() > w.read.size {
		return w.broken(h.position, fmt.Sprintf("file ends within a record of %d bytes", h.size())), nil
	}
	what := ""
	if !w.rowsOnly {
		if what, err = w.entries(h); err != nil {
			return nil, err
		}
	}
	if what == "" && h.bodyBytes > 0 {
		at := h.position + Position(h.bodyAt())
		body, err := w.read.at(int64(at-w.in.first), int64(h.bodyBytes))
		if err != nil {
			return nil, err
		}
		if sum := sumOf(w.in.salt, at, body); sum != h.bodySum {
			what = fmt.Sprintf("body has crc32c %08x, recorded %08x", sum, h.bodySum)
		}
	}
	if what != "" {
		return w.broken(h.position, what), nil
	}
	return nil, nil
}

// entries verifies the payloads of a record and notes where they lie.
func (w *walk) entries(h recordHeader) (what string, err error) {
	at := h.position + recordHeaderSize
	end := at + Position(h.payloadBytes)
	sum := seed(w.in.salt, h.position)
	for n := range h.payloads {
		if end-at < 4 {
			return fmt.Sprintf("payload %d of %d begins behind the payloads", n+1, h.payloads), nil
		}
		b, err := w.read.at(int64(at-w.in.first), 4)
		if err != nil {
			return "", err
		}
		length := int64(binary.LittleEndian.Uint32(b))
		prefix := entryPrefix(length)
		if int64(end-at) < prefix+length {
			return fmt.Sprintf("payload %d of %d has %d bytes, more than its record", n+1, h.payloads, length), nil
		}
		sums, err := w.read.at(int64(at-w.in.first), prefix)
		if err != nil {
			return "", err
		}
		sum = crc32.Update(sum, castagnoli, sums)
		at += Position(prefix)
		w.sums = append(w.sums[:0], sums[4:]...)
		if what, err := w.blocks(at, length, w.sums); what != "" || err != nil {
			return what, err
		}
		w.payloads = append(w.payloads, Payload{at, length})
		at += Position(length)
	}
	switch {
	case at != end:
		return fmt.Sprintf("%d bytes behind the last payload", end-at), nil
	case h.payloads > 0 && sum != h.entriesSum:
		return fmt.Sprintf("lengths and sums of payloads have crc32c %08x, recorded %08x", sum, h.entriesSum), nil
	}
	return "", nil
}

// blocks verifies the bytes of a payload.
func (w *walk) blocks(at Position, length int64, sums []byte) (what string, err error) {
	for off := int64(0); off < length; off += blockSize {
		n := min(blockSize, length-off)
		b, err := w.read.at(int64(at-w.in.first)+off, n)
		if err != nil {
			return "", err
		}
		sum, want := sumOf(w.in.salt, at+Position(off), b), binary.LittleEndian.Uint32(sums[off/blockSize*4:])
		if sum != want {
			return fmt.Sprintf("payload at %d has crc32c %08x, recorded %08x", at, sum, want), nil
		}
	}
	return "", nil
}
