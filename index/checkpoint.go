package index

import (
	"context"
	"sync"
	"time"

	"packhouse/journal"
)

// When a checkpoint is made: the rows that are in the log alone are moved into the file. bbolt writes whole pages and its list of free
// pages with each commit, so it is given many rows at once, sorted, and seldom.
const (
	checkpointRows = 16 << 10               // as soon as there are so many rows,
	checkpointIdle = time.Second            // or when nothing was changed for this long,
	checkpointAge  = 5 * time.Second        // or when the oldest row has waited for this long
	checkpointTick = 250 * time.Millisecond // how often the two are looked at

	// checkpointRetry is how long after one that failed the next is made, unless somebody waits for it.
	checkpointRetry = 5 * time.Second

	// checkpointStep is how many rows go into the file with one commit of bbolt: the disk must have time for others between two.
	checkpointStep = 4 << 10

	// maxPendingRows and maxPendingBytes bound the rows that are in the log alone. Who adds to them waits for a checkpoint: they lie in
	// memory, and are read again when the index is opened after a crash.
	maxPendingRows  = 256 << 10
	maxPendingBytes = 256 << 20
)

// pending is the rows that are in the log and not in the file.
type pending struct {
	mu      sync.Mutex
	done    sync.Cond // of a checkpoint; its lock is mu
	most    int       // rows: maxPendingRows, but in tests
	step    int       // rows: checkpointStep, but in tests
	over    *overlay  // over the file of the current snapshot; readers see it, so it is replaced, never changed
	next    *overlay  // rows since the running checkpoint began; nil: none runs
	awaited bool      // the commit loop waits for the next checkpoint that ends
	applied journal.Position
	end     journal.Position // of the log, as far as over has it
	since   time.Time        // the oldest row of over; zero: there are none
	last    time.Time        // the newest
	tries   int              // checkpoints that ended
	tried   time.Time        // when the last of them did
	retry   time.Duration    // checkpointRetry, but in tests
	closing bool             // no rewrite begins any more

	// interrupt ends the rewrite that runs, whose end checkpoints wait for; nil: none does.
	interrupt context.CancelFunc
	err       error // of the last of them

	// checkpointing is held over one checkpoint, and whatever else calls bbolt once the index is open.
	checkpointing sync.Mutex
	ended         bool          // bbolt is called no more, the index is closed; guarded by checkpointing
	due           chan struct{} // a checkpoint is to be made, or there are rows now; capacity 1
	stop          chan struct{} // closed when the index is
	stopped       chan struct{} // closed when checkpointLoop has returned
}

func (p *pending) init() {
	p.done.L = &p.mu
	p.over, p.most, p.step, p.retry = new(overlay), maxPendingRows, checkpointStep, checkpointRetry
	p.due, p.stop, p.stopped = make(chan struct{}, 1), make(chan struct{}), make(chan struct{})
}

// full tells whether nothing may be added. p.mu is held.
func (p *pending) full() bool {
	return p.over.rows >= p.most || p.over.size >= maxPendingBytes || p.end-p.applied >= maxPendingBytes
}

// isDue tells whether a checkpoint is to be made now. p.mu is held.
func (p *pending) isDue(now time.Time) bool {
	switch {
	case p.over.rows == 0 || p.awaited:
		return true
	case p.err != nil && now.Sub(p.tried) < p.retry:
		return false
	}
	return p.over.rows >= checkpointRows || p.full() || now.Sub(p.last) >= checkpointIdle || now.Sub(p.since) >= checkpointAge
}

// wake lets the checkpoint loop look at what there is.
func (p *pending) wake() {
	select {
	case p.due <- struct{}{}:
	default:
	}
}

// showRows lets readers see the rows of a transaction, which are durable.
func (x *Index) showRows(t *tx, rows []rowID, end journal.Position) {
	p := &x.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over == t.base {
		p.over = t.over
	} else { // a checkpoint has ended meanwhile
		p.over = p.over.copy()
		p.over.take(t.over, rows)
	}
	if p.next != nil {
		p.next.take(t.over, rows)
	}
	p.end, p.last = end, time.Now()
	first := p.since.IsZero()
	if first {
		p.since = p.last
	}
	x.snapshots.publishOverlay(p.over)
	if first || p.over.rows >= checkpointRows {
		p.wake()
	}
}

// awaitCheckpoint waits while too much is pending. It returns why that does not become less.
func (x *Index) awaitCheckpoint() error {
	p := &x.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	for tries := p.tries; p.full(); p.done.Wait() {
		if p.tries > tries && p.err != nil {
			return p.err
		}
		p.awaited = true
		p.wake()
		if p.interrupt != nil {
			p.interrupt()
		}
	}
	return nil
}

// checkpointLoop makes the checkpoints of an open index.
func (x *Index) checkpointLoop() {
	p := &x.pending
	defer close(p.stopped)
	for {
		select {
		case <-p.stop:
			return
		case <-p.due:
		}
		if !x.untilDue() {
			return
		}
		switch x.Checkpoint() {
		case nil:
			x.rewriteIfSparse()
		default: // who needs it is told by awaitCheckpoint
			x.tryAgain()
		}
	}
}

// tryAgain has a checkpoint that failed made later, unless the index takes no changes any more.
func (x *Index) tryAgain() {
	p := &x.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil && firstError(x.Failed(), x.moved(), x.Lost()) == nil {
		p.wake()
	}
}

// untilDue waits until a checkpoint is to be made; false: until the index is closed.
func (x *Index) untilDue() bool {
	p := &x.pending
	tick := time.NewTicker(checkpointTick)
	defer tick.Stop()
	for {
		p.mu.Lock()
		due := p.isDue(time.Now())
		p.mu.Unlock()
		if due {
			return true
		}
		select {
		case <-p.stop:
			return false
		case <-p.due:
		case <-tick.C:
		}
	}
}

// Checkpoint moves what is in the log alone into the file, and removes the segments of the log that are not needed after it.
// All groups that were acknowledged when it was called are in the file when it returns nil. Errors are those of Apply; the rows then
// stay in the log, where they are as durable.
func (x *Index) Checkpoint() error {
	if x.log == nil {
		return nil
	}
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	return x.checkpoint()
}

// checkpointed makes a checkpoint, and returns a view of which the file is a state by itself: it is not of a moment between two steps.
// The caller releases it.
func (x *Index) checkpointed() (*view, error) {
	x.pending.checkpointing.Lock()
	defer x.pending.checkpointing.Unlock()
	if x.log != nil {
		if err := x.checkpoint(); err != nil {
			return nil, err
		}
	}
	return x.snapshots.acquire()
}

// checkpoint is Checkpoint while pending.checkpointing is held.
func (x *Index) checkpoint() error {
	p := &x.pending
	if p.ended {
		return ErrClosed
	}
	err := firstError(x.Failed(), x.moved(), x.Lost())
	p.mu.Lock()
	over, end := p.over, p.end
	if err == nil && over.rows > 0 {
		p.next = new(overlay)
		p.mu.Unlock()
		err = x.writeRows(over, end)
		p.mu.Lock()
	}
	if err == nil && p.next != nil {
		p.over, p.applied, p.since = p.next, end, p.last
		if p.over.rows == 0 {
			p.since = time.Time{}
		} else {
			p.wake()
		}
		x.snapshots.publishOverlay(p.over)
	}
	if err != nil {
		err = x.outcome(err)
	}
	p.next, p.awaited, p.err, p.tried = nil, false, err, time.Now()
	p.tries++
	p.done.Broadcast()
	p.mu.Unlock()
	if err != nil {
		return err
	}
	return x.removeSegments()
}

// LogStatus says how far the file is behind the log.
type LogStatus struct {
	Segments    int   // files of the log
	Bytes       int64 // of these
	PendingRows int   // rows that are in the log alone
	Pending     int64 // bytes of the log that are read when the index is opened now
	// Err is why the last checkpoint could not be made; nil: it was, or there was none yet. Groups go on to be accepted until too
	// much is pending.
	Err error
}

// LogStatus answers in a time that depends on the number of segments. It is zero where there is no log.
func (x *Index) LogStatus() (s LogStatus) {
	if x.log == nil {
		return s
	}
	p := &x.pending
	p.mu.Lock()
	defer p.mu.Unlock()
	s.PendingRows, s.Pending, s.Err = p.over.rows, int64(p.end-p.applied), p.err
	for _, one := range x.log.Segments() {
		s.Segments++
		s.Bytes += x.sizeOf(one)
	}
	return s
}

// writeRows puts the rows of an overlay into the file, in order and in steps: after a crash between two of them the log has all
// rows still, as the last step alone moves the position up to which the file has them. Readers see no difference, the rows of the overlay hide those of
// the file.
func (x *Index) writeRows(over *overlay, end journal.Position) error {
	most := x.pending.step
	if x.log == nil {
		most = over.rows + 1 // nothing else has them
	}
	step := make([]fileRow, 0, min(over.rows+1, most))
	for id := bucketMeta; id < bucketEnd; id++ {
		if over.tables[id] == nil {
			continue
		}
		iter := over.tables[id].Iter()
		for iter.Next() {
			if len(step) == most {
				if err := x.writeStep(step); err != nil {
					return err
				}
				step = step[:0]
			}
			step = append(step, fileRow{id, asBytes(iter.Key()), iter.Value()})
		}
	}
	if x.log != nil {
		step = append(step, fileRow{bucketMeta, appliedRow, encodeApplied(applied{end, x.log.Identity()})})
	}
	return x.writeStep(step)
}

// A fileRow is a row as it is to be in the file; value nil: it is not to be there.
type fileRow struct {
	bucket     bucketID
	key, value []byte
}

// writeStep changes rows of the file with one commit of bbolt.
func (x *Index) writeStep(rows []fileRow) error {
	err := x.write(rows)
	if err == errMapFull {
		return x.remap(rows)
	}
	if err == nil {
		x.show()
		err = x.Lost()
	}
	return err
}
