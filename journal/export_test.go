package journal

import "time"

// What tests calculate with.
const (
	SegmentHeaderSize = segmentHeaderSize
	RecordHeaderSize  = recordHeaderSize
	AheadBytes        = aheadBytes
)

// Seal completes a group and returns its parts as they will lie in files.
func (g *Group) Seal(now time.Time) ([][]byte, error) {
	err := g.seal(now)
	var parts [][]byte
	for _, p := range g.parts {
		parts = append(parts, g.buffer[p.from:p.to])
	}
	return parts, err
}
