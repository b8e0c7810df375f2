package repo

import (
	"context"
	"errors"
	"sync"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/journal"
	"packhouse/repo/layout"
)

// A vacuum wins back what the log takes beyond what is live in it. A segment goes when nothing in it is needed; one of which
// less than half is live, or rows of what is, is emptied first: what is live is stored again at the end of the log, under the
// same refs. Until that is durable the refs lead to the old place, and the segment is unlinked by the checkpoint that follows,
// so that after a crash at any moment there are one or two copies, of which one is referred to.

const (
	vacuumBatch = 2 << 20 // bytes that one transaction stores again: a writer waits for no more than that
	vacuumRefs  = 1024    // and at most so many items

	// rowsOf is about what the rows of an item take that are stored again with it. Without them, a segment of items of a hundred bytes
	// would be as sparse after a vacuum as before, and emptied again and again.
	rowsOf = 512
)

// shortAgain is how long after a vacuum because the disk was short the next one begins.
const shortAgain = time.Second

// vacuum is the state between two of them.
type vacuum struct {
	one   sync.Mutex    // held over one
	short chan struct{} // the disk is short: one is wanted now; capacity 1

	mu   sync.Mutex                // held for a look at left
	left map[journal.Position]bool // segments that could not be emptied, as something in them cannot be read; guarded by mu
}

// soon asks for a vacuum.
func (v *vacuum) soon() {
	select {
	case v.short <- struct{}{}:
	default:
	}
}

// vacuumWhenShort makes a vacuum when the disk was short, until ctx ends: small items that were removed take their space until
// then, and who is refused for want of space is told to remove some.
func (r *Repository) vacuumWhenShort(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-r.vacuum.short:
		}
		report, err := r.Vacuum(ctx, nil, nil)
		if report.Segments > 0 {
			r.env.Logger.Info("the disk was short: segments of the log were emptied", "repository", r.Name(), "segments", report.Segments, "freed", report.Freed, "written", report.Moved)
		}
		if err != nil && ctx.Err() == nil && !errors.Is(err, ErrReadOnly) {
			r.env.Logger.Warn("the disk is short, and the log could not be emptied of what is not needed", "repository", r.Name(), "error", err)
		}
		if rest(ctx, shortAgain) != nil {
			return
		}
	}
}

// passOver leaves a segment to the first vacuum after the next start.
func (v *vacuum) passOver(first journal.Position) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.left == nil {
		v.left = make(map[journal.Position]bool)
	}
	v.left[first] = true
}

func (v *vacuum) passesOver(first journal.Position) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.left[first]
}

// LogUsage is what the log of a repository takes.
type LogUsage struct {
	Segments int64
	Bytes    int64 // on the disk
	Items    int64 // that lie in it, also of those that can be restored
	Live     int64 // their sizes
}

// LogUsage answers in a time that depends on the number of segments.
func (r *Repository) LogUsage() (u LogUsage, err error) {
	segments, err := r.index.Segments()
	for _, s := range segments {
		u.Segments++
		u.Bytes += s.Bytes
		u.Items += s.Blobs
		u.Live += s.Live
	}
	return u, r.translate(err)
}

// VacuumReport is what a vacuum did.
type VacuumReport struct {
	Segments   int64 // that were emptied and are gone
	Freed      int64 // bytes that they took
	Items      int64 // that were stored again
	Moved      int64 // their sizes
	Unreadable int64 // items that cannot be read: their segments stay
}

// Sparse tells how many segments a vacuum would empty, and what is live in them, in bytes.
func (r *Repository) Sparse() (segments, live int64, err error) {
	all, err := r.sparse()
	for _, s := range all {
		live += s.Live
	}
	return int64(len(all)), live, r.translate(err)
}

// sparse are the segments of which less than half is live, with rows, but for those that could not be emptied.
func (r *Repository) sparse() (sparse []index.LogSegment, err error) {
	all, err := r.index.Segments()
	if err != nil {
		return nil, err
	}
	for _, s := range all[:max(len(all)-1, 0)] { // the last one is being written to
		if s.Blobs > 0 && s.Live+s.Blobs*rowsOf < s.Bytes/2 && !r.vacuum.passesOver(s.First) {
			sparse = append(sparse, s)
		}
	}
	return sparse, nil
}

// Vacuum empties the segments that Sparse counts. pace, unless nil, is called before each read with its length in bytes, and may
// wait; progress, unless nil, with what was done so far. It rests as long as it
// works, and ends with ctx, between two transactions: what was moved until then stays moved. An item that cannot be
// read keeps its segment; one of which the bytes are wrong is marked as damaged, as by Verify.
// Errors: ErrReadOnly and others of any change, ErrNoSpace, ErrCorrupt of the index, ctx.Err().
func (r *Repository) Vacuum(ctx context.Context, pace func(n int64) error, progress func(VacuumReport)) (report VacuumReport, err error) {
	r.vacuum.one.Lock()
	defer r.vacuum.one.Unlock()
	if err := r.writable(); err != nil {
		return report, err
	}
	// What a damaged index says is no reason to remove anything.
	if err := errors.Join(r.index.Damage(), r.index.Checkpoint()); err != nil { // to know what is applied
		return report, r.translate(err)
	}
	sparse, err := r.sparse()
	if err != nil {
		return report, r.translate(err)
	}
	for _, s := range sparse {
		w := &emptying{r: r, segment: s, report: &report, pace: pace, progress: progress}
		if err := w.run(ctx); err != nil {
			return report, r.translate(err)
		}
	}
	return report, nil
}

// emptying is of one segment.
type emptying struct {
	r        *Repository
	segment  index.LogSegment
	report   *VacuumReport
	pace     func(n int64) error
	progress func(VacuumReport)
	stays    map[string]bool // refs of what cannot be read
}

// run stores again what is live, and makes the checkpoint that unlinks the segment.
func (w *emptying) run(ctx context.Context) error {
	w.stays = make(map[string]bool)
	for {
		began := time.Now()
		more, err := w.some(ctx)
		if w.progress != nil {
			w.progress(*w.report)
		}
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if err := rest(ctx, time.Since(began)); err != nil {
			return err
		}
	}
	if err := w.r.index.Checkpoint(); err != nil {
		return err
	}
	if len(w.stays) > 0 {
		w.r.vacuum.passOver(w.segment.First)
		w.r.env.Logger.Warn("a segment of the log stays, as items in it cannot be read",
			"repository", w.r.Name(), "segment", w.segment.First, "items", len(w.stays))
		return nil
	}
	w.report.Segments++
	w.report.Freed += w.segment.Bytes
	return nil
}

// some stores one batch again; more is false when nothing is left that can be read.
func (w *emptying) some(ctx context.Context) (more bool, err error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	// Those that stay come again each time: there must be place for others beside them.
	refs, err := w.r.index.Payloads(w.segment.First, vacuumRefs+len(w.stays))
	if err != nil {
		return false, err
	}
	var batch []index.Mutation
	bytes := 0
	for _, ref := range refs {
		if w.stays[ref] {
			continue
		}
		if at, ok := journal.ParseRef(ref); ok && w.pace != nil {
			if err := w.pace(at.Length); err != nil {
				return false, err
			}
		}
		payload, err := w.r.payload(ctx, ref)
		switch {
		case errors.Is(err, blobstore.ErrNotFound): // removed meanwhile
			continue
		case errors.Is(err, errUnreadable):
			w.stays[ref] = true
			w.report.Unreadable++ // it stays where it is
			continue
		case err != nil:
			return false, err
		}
		batch = append(batch, index.Relocate{Ref: ref, Payload: payload})
		if bytes += len(payload); int64(bytes) >= min(vacuumBatch, w.segment.Bytes/8) { // much less than a segment, whatever that has
			break
		}
	}
	if len(batch) == 0 {
		return false, nil
	}
	return true, w.store(ctx, batch)
}

// store applies a batch; those whose item was removed meanwhile are left out.
func (w *emptying) store(ctx context.Context, batch []index.Mutation) error {
	_, err := w.r.apply(ctx, batch...)
	switch {
	case err == nil:
		for _, m := range batch {
			w.report.Items++
			w.report.Moved += int64(len(m.(index.Relocate).Payload))
		}
		return nil
	case !refused(err):
		return err
	case len(batch) == 1:
		if errors.Is(err, index.ErrConflict) {
			return nil
		}
		return err
	}
	for i := range batch {
		if err := w.store(ctx, batch[i:i+1]); err != nil {
			return err
		}
	}
	return nil
}

// errUnreadable is of a payload that must stay where it is.
var errUnreadable = errors.New("payload cannot be read")

// payload reads and checks one. Of what cannot be read the item is verified, which marks it if its bytes are wrong.
func (r *Repository) payload(ctx context.Context, ref string) ([]byte, error) {
	b, bad := layout.Payloads{Index: r.index}.Payload(ref, false, nil)
	if bad == nil || errors.Is(bad, index.ErrClosed) || errors.Is(bad, index.ErrCorrupt) {
		return b, bad
	}
	key, there, err := r.index.HasRef(ref)
	switch {
	case err != nil:
		return nil, err
	case !there:
		return nil, blobstore.ErrNotFound // it was removed meanwhile
	}
	if err := r.Attached(); err != nil {
		return nil, err
	}
	r.env.Logger.Error("an item in the log cannot be read", "repository", r.Name(), "key", key, "error", bad)
	if entry, err := r.index.Get(key); err == nil && entry.Item.Ref == ref { // else it is in the trash, or kept
		if err := r.Verify(ctx, entry, nil); err != nil && ctx.Err() != nil {
			return nil, err
		}
	}
	return nil, errUnreadable
}

// rest waits, or until ctx ends.
func rest(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}
