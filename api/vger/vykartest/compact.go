package vykartest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
)

// Compaction is what a Compact did, also one that ended with an error.
type Compaction struct {
	Packs      int   // that were listed
	Orphans    int   // of those: not in the index
	Operations int   // that were asked for
	Batches    int   // requests with them that were answered
	Repacked   int   // packs of which something was kept
	Deleted    int   // packs of which nothing was kept
	Dead       int64 // bytes that the plan was to win
	Moved      bool  // an entry of the index moved
	Saved      bool  // the index was stored
}

type (
	keptBlob struct {
		Offset int64 `json:"offset"`
		Length int64 `json:"length"`
	}
	operation struct {
		Source string     `json:"source_pack"`
		Keep   []keptBlob `json:"keep_blobs"`
		Delete bool       `json:"delete_after"`
	}
	plan struct {
		Operations []operation `json:"operations"`
		Protocol   int         `json:"protocol_version"`
	}
	outcome struct {
		Source  string  `json:"source_pack"`
		New     *string `json:"new_pack"`
		Offsets []int64 `json:"new_offsets"`
		Deleted bool    `json:"deleted"`
	}
	outcomes struct {
		Completed []outcome `json:"completed"`
	}
)

// output is what an operation adds to a plan's output.
func (o operation) output() int64 {
	if len(o.Keep) == 0 {
		return 0
	}
	n := int64(packHeader)
	for _, blob := range o.Keep {
		n += 4 + blob.Length
	}
	return n
}

// candidate is a pack that is worth compacting.
type candidate struct {
	key  string
	keep []placed
	dead int64
}

// Compact removes dead chunks and orphaned packs.
func (c *Client) Compact() (Compaction, error) {
	r, err := c.Open()
	if err != nil {
		return Compaction{}, err
	}
	return r.Compact()
}

// Compact is Client.Compact with the view of an opened repository.
func (r *Repository) Compact() (done Compaction, err error) {
	err = r.maintain(func() error {
		chosen, err := r.survey(&done)
		if err != nil {
			return err
		}
		return r.repack(chosen, &done)
	})
	return done, err
}

// survey lists the packs, asks for the size of each, and chooses those to compact: most dead bytes first.
func (r *Repository) survey(done *Compaction) ([]candidate, error) {
	keys, err := r.listPacks()
	if err != nil {
		return nil, err
	}
	indexed := r.index.byPack()
	var chosen []candidate
	for _, key := range keys {
		name, ok := parsePackKey(key)
		if !ok {
			continue
		}
		done.Packs++
		size, err := r.c.size(key)
		if isKilled(err) {
			return nil, err
		}
		if err != nil {
			continue // it vanished, or its size is not known: the client leaves it alone
		}
		payload := size - packHeader
		chunks, ok := indexed[name]
		if !ok {
			done.Orphans++
			if payload > 0 {
				chosen = append(chosen, candidate{key, nil, payload})
			}
			continue
		}
		live := int64(0)
		for _, chunk := range chunks {
			live += 4 + chunk.Length
		}
		dead := payload - live
		if dead <= 0 || float64(dead)/float64(payload)*100 < r.c.o.Threshold {
			continue
		}
		chosen = append(chosen, candidate{key, chunks, dead})
	}
	slices.SortStableFunc(chosen, func(a, b candidate) int { return cmp.Compare(b.dead, a.dead) })
	return chosen, nil
}

// listPacks lists the packs, shard by shard or at once.
func (r *Repository) listPacks() ([]string, error) {
	if r.c.o.OneList {
		return r.c.list("packs/")
	}
	var all []string
	for shard := range 256 {
		keys, err := r.c.list(fmt.Sprintf("packs/%02x/", shard))
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	return all, nil
}

// repack asks for the plan in batches and applies what was answered to the index, which it stores whatever became
// of later batches.
func (r *Repository) repack(chosen []candidate, done *Compaction) error {
	byKey := make(map[string]candidate)
	var operations []operation
	for _, pack := range chosen {
		o := operation{pack.key, []keptBlob{}, true}
		for _, chunk := range pack.keep {
			o.Keep = append(o.Keep, keptBlob{chunk.Offset, chunk.Length})
		}
		operations = append(operations, o)
		byKey[pack.key] = pack
		done.Dead += pack.dead
	}
	done.Operations = len(operations)
	var failed error
	applied := false
	for _, batch := range r.batches(operations) {
		var got outcomes
		if failed = r.c.postJSON("?repack", plan{batch, 1}, &got); failed != nil {
			break
		}
		done.Batches++
		any, err := r.applyAll(batch, got, byKey, done)
		applied = applied || any
		if failed = err; failed != nil {
			break
		}
	}
	if isKilled(failed) || !applied && failed != nil {
		return failed
	}
	done.Saved = r.dirty
	if err := r.save(); err != nil {
		done.Saved = false
		return errors.Join(err, failed)
	}
	return failed
}

// batches cuts a plan where the output of one request would become too large. The first generations do not.
func (r *Repository) batches(operations []operation) [][]operation {
	if len(operations) == 0 {
		return nil
	}
	if r.c.ttl() {
		return [][]operation{operations}
	}
	var all [][]operation
	var batch []operation
	size := int64(0)
	for _, o := range operations {
		if n := o.output(); len(batch) > 0 && size+n > r.c.o.Batch {
			all = append(all, batch)
			batch, size = nil, 0
		}
		size += o.output()
		batch = append(batch, o)
	}
	return append(all, batch)
}

// applyAll moves the entries of the index for each operation of a batch.
func (r *Repository) applyAll(batch []operation, got outcomes, byKey map[string]candidate, done *Compaction) (applied bool, err error) {
	results := make(map[string]outcome)
	for _, o := range got.Completed {
		results[o.Source] = o
	}
	for _, o := range batch {
		result, ok := results[o.Source]
		if !ok {
			return applied, fmt.Errorf("repack: no result for %s: %w", o.Source, ErrDamaged)
		}
		if err := r.apply(byKey[o.Source], result, done); err != nil {
			return applied, err
		}
		applied = true
	}
	return applied, nil
}

func (r *Repository) apply(pack candidate, result outcome, done *Compaction) error {
	if len(pack.keep) == 0 {
		if result.Deleted {
			done.Deleted++
		}
		return nil
	}
	if result.New == nil {
		return fmt.Errorf("repack: no new pack for %s: %w", pack.key, ErrDamaged)
	}
	name, ok := parsePackKey(*result.New)
	if !ok || len(result.Offsets) != len(pack.keep) {
		return fmt.Errorf("repack: %s with %d offsets for %d blobs of %s: %w", *result.New, len(result.Offsets), len(pack.keep), pack.key, ErrDamaged)
	}
	for i, chunk := range pack.keep {
		p := r.index.Chunks[chunk.id]
		p.Pack, p.Offset, p.Length = name, result.Offsets[i], chunk.Length
		r.index.Chunks[chunk.id] = p
	}
	done.Repacked++
	done.Moved, r.dirty = true, true
	return nil
}
