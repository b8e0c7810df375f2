package journal

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Record is what AppendRecords appends.
type Record struct {
	Kind     Kind
	Body     []byte
	Payloads [][]byte
}

// Appended says where a group lies.
type Appended struct {
	Position Position   // where the group begins; its first record is there, or at the start of the next segment
	End      Position   // where the next group begins
	Payloads []Position // of all records, in order
}

// AppendRecords appends records as one group, for callers that have no need to know the places of payloads before.
// Errors: as Append and as of the methods of Group.
func (l *Log) AppendRecords(ctx context.Context, records []Record) (Appended, error) {
	for {
		done, err := l.tryRecords(ctx, records)
		if !errors.Is(err, ErrStale) {
			return done, err
		} // else another was appended meanwhile
	}
}

// tryRecords is AppendRecords where no other group is appended meanwhile, else ErrStale.
func (l *Log) tryRecords(ctx context.Context, records []Record) (Appended, error) {
	var g Group
	if err := l.Begin(&g, nil); err != nil {
		return Appended{}, err
	}
	done := Appended{Position: g.Start()}
	for _, r := range records {
		for _, p := range r.Payloads {
			at, err := g.Payload(p)
			if err != nil {
				return Appended{}, err
			}
			done.Payloads = append(done.Payloads, at)
		}
		if err := g.Record(r.Kind, r.Body); err != nil {
			return Appended{}, err
		}
	}
	if err := l.Append(ctx, &g); err != nil {
		return Appended{}, err
	}
	done.End = g.End()
	return done, nil
}

// Append writes a group and makes it durable: whole when it returns nil, whole or not at all after a crash. The cost is one
// write and one sync for each segment that the group lies in, which is one but for every some thousandth; it waits for the
// making of a segment only when that is not done yet. The end of ctx is looked at before the first write only.
//
// After ErrNoSpace nothing was appended, what was written of the group is gone for good, and groups may be begun anew. After
// ErrFailed it is not known whether the group is there: the next Open tells. ErrStale: the group was begun behind one that
// was not appended, or that another was appended behind. Other errors are of what came before the first write.
func (l *Log) Append(ctx context.Context, g *Group) error {
	if err := g.seal(l.o.Now()); err != nil {
		return err
	}
	select {
	case l.turn <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	l.began.Store(max(1, int64(time.Since(l.since))))
	defer func() {
		l.began.Store(0)
		<-l.turn
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := l.isNext(g); err != nil {
		return err
	}
	if err := l.reach(ctx, g.at); err != nil {
		return err
	}
	for _, p := range g.parts {
		if err := l.openTail(p.segment); err != nil {
			return err
		}
	}
	for _, p := range g.parts {
		if err := l.write(p.segment.file, g.buffer[p.from:p.to], int64(p.at-p.segment.first)); err != nil {
			return l.takeBack(g, err)
		}
	}
	for _, p := range g.parts {
		if err := p.segment.file.Sync(); err != nil {
			return l.fail("sync the log", err)
		}
	}
	return l.appended(g)
}

// isNext tells whether a group may be appended now.
func (l *Log) isNext(g *Group) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.readyLocked(); err != nil {
		return err
	}
	if g.log != l || g.generation != l.generation || g.start != l.end {
		return ErrStale
	}
	return nil
}

// takeBack makes sure that nothing of a group that could not be written for lack of space is ever taken for a part of
// another one: the file in which it begins ends before it, durably, and only then are the other segments it reached
// unlinked. Groups that were begun behind it lose their places, as the segments behind this one will be others.
func (l *Log) takeBack(g *Group, cause error) error {
	if !errors.Is(cause, ErrNoSpace) || errors.Is(cause, ErrFailed) {
		return cause
	}
	l.mu.Lock()
	l.pauseLocked()
	l.generation++
	l.mu.Unlock()
	err := l.cutTo(l.tails[0], g.start)
	if err == nil {
		err = l.removeSpares()
	}
	l.mu.Lock()
	l.resumeLocked()
	l.mu.Unlock()
	if err != nil {
		if !errors.Is(err, ErrFailed) {
			err = l.fail("take back what was written", err)
		}
		return fmt.Errorf("%w; before that: %w", err, cause)
	}
	return cause
}

// appended makes a durable group the end of the log.
func (l *Log) appended(g *Group) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	for l.tails[0] != g.segment {
		if closeErr := l.leaveLocked(); err == nil {
			err = closeErr
		}
	}
	l.end = g.at
	l.durable.Store(int64(g.at))
	if err != nil {
		_ = l.failLocked("close a segment of the log", err) // the group is durable
	}
	l.goOnLocked()
	return nil
}

// leaveLocked goes on to the next segment, which has records by now.
func (l *Log) leaveLocked() error {
	full := l.tails[0]
	l.tails = l.tails[1:]
	var err error
	if full.file != nil {
		err = full.file.Close()
	}
	if full.filler != nil {
		if closeErr := full.filler.Close(); err == nil {
			err = closeErr
		}
	}
	full.file, full.filler = nil, nil
	old := *l.segments.Load()
	segments := append(old[:len(old):len(old)], &segment{first: l.tails[0].first})
	l.segments.Store(&segments)
	return err
}
