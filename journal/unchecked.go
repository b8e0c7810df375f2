package journal

// ReadPayloadUnchecked is ReadPayload of bytes that are wanted as they lie, whatever their sums say: to save what is left of them.
// Errors: those of OpenPayload, but for what the sums say.
func (l *Log) ReadPayloadUnchecked(at Position, length int64) ([]byte, error) {
	in, err := l.segmentOf(at, length)
	if err != nil {
		return nil, err
	}
	defer in.release()
	b := make([]byte, length)
	if err := in.readFull(b, int64(at-in.first)); err != nil {
		return nil, err
	}
	return b, nil
}

// Segment is where the segment begins in which the last payload of the group lies.
func (g *Group) Segment() Position { return g.segment.first }
