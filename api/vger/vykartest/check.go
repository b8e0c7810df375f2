package vykartest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
)

// Depth is how much a Check reads.
type Depth int

const (
	Existence  Depth = iota // the server verifies the packs, the client the snapshots: `check`
	Contents                // the same, with where each chunk lies: `check --verify-data`
	Everything              // the client trusts no server and reads every pack: `check --verify-data --distrust-server`
)

type (
	verifyPack struct {
		Key   string     `json:"pack_key"`
		Size  int64      `json:"expected_size"`
		Blobs []keptBlob `json:"expected_blobs"`
	}
	verifyPlan struct {
		Packs    []verifyPack `json:"packs"`
		Protocol int          `json:"protocol_version"`
	}
	verified struct {
		Key    string  `json:"pack_key"`
		Hash   bool    `json:"hash_valid"`
		Header bool    `json:"header_valid"`
		Blobs  bool    `json:"blobs_valid"`
		Error  *string `json:"error"`
	}
	verification struct {
		Results   []verified `json:"results"`
		Truncated bool       `json:"truncated"`
	}
)

// Faults is what a check found: ErrMissing, ErrUnknown or ErrDamaged, one error for each fault.
type Faults []error

func (f Faults) Error() string { return fmt.Sprintf("%d faults, first: %v", len(f), f[0]) }

func (f Faults) Unwrap() []error { return f }

// Check reads the repository as far as depth says. When it could, but something is wrong, the error is Faults.
func (c *Client) Check(depth Depth) error {
	return c.reading(func(r *Repository) error {
		x, err := r.readIndex()
		if err != nil {
			return err
		}
		r.index = x
		return r.check(depth)
	})
}

// reading opens the repository for a command that only reads, in a session.
func (c *Client) reading(work func(r *Repository) error) error {
	session := ""
	if !c.ttl() {
		var err error
		if session, err = c.register(); err != nil {
			return err
		}
	}
	r, err := c.open()
	if err == nil {
		err = work(r)
	}
	if session != "" && !isKilled(err) {
		c.leave(session)
	}
	return err
}

func (r *Repository) check(depth Depth) error {
	var faults Faults
	packs := r.index.byPack()
	names := slices.SortedFunc(maps.Keys(packs), compareIDs)
	served := make(map[ID]bool)
	if depth != Everything {
		var err error
		if served, err = r.serverVerify(names, packs, depth == Contents, &faults); err != nil {
			return err
		}
	}
	for _, s := range r.snapshots {
		found, err := r.checkSnapshot(s)
		if err != nil {
			return err
		}
		faults = append(faults, found...)
	}
	for _, name := range names {
		if served[name] {
			continue
		}
		if err := r.checkPack(name, packs[name], depth); isKilled(err) {
			return err
		} else if err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return faults
	}
	return nil
}

// checkSnapshot wants every chunk of a snapshot to be in the index.
func (r *Repository) checkSnapshot(listed Snapshot) (faults Faults, err error) {
	s, err := r.snapshot(listed.key())
	var chunks []ID
	if err == nil {
		chunks, err = r.tree(s, r.index)
	}
	if isKilled(err) {
		return nil, err
	}
	if err != nil {
		return Faults{fmt.Errorf("snapshot %s: %w", listed.Name, err)}, nil
	}
	for _, id := range chunks {
		if _, ok := r.index.Chunks[id]; !ok {
			faults = append(faults, fmt.Errorf("snapshot %s: chunk %s: %w", s.Name, id, ErrUnknown))
		}
	}
	return faults, nil
}

// checkPack asks for a pack that the server has not verified, and reads it if it is to.
func (r *Repository) checkPack(name ID, chunks []placed, depth Depth) error {
	key := name.PackKey()
	if depth == Existence {
		there, err := r.c.exists(key)
		if err == nil && !there {
			err = fmt.Errorf("%s: %w", key, ErrMissing)
		}
		return err
	}
	if len(chunks) >= 3 {
		body, err := r.c.get(key)
		if err != nil {
			return err
		}
		if hash(body) != name {
			return fmt.Errorf("%s: %w", key, ErrDamaged)
		}
		for _, chunk := range chunks {
			end := chunk.Offset + chunk.Length
			if end > int64(len(body)) || hash(body[chunk.Offset:end]) != chunk.id {
				return fmt.Errorf("%s: chunk %s: %w", key, chunk.id, ErrDamaged)
			}
		}
		return nil
	}
	var faults []error
	for _, chunk := range chunks {
		_, err := r.chunk(chunk.id, r.index)
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

const (
	verifyCount = 100
	verifyBytes = 2 << 30
)

// serverVerify lets the server verify packs, in batches. It tells which packs it has answered for.
func (r *Repository) serverVerify(names []ID, packs map[ID][]placed, blobs bool, faults *Faults) (map[ID]bool, error) {
	served := make(map[ID]bool)
	for first := true; len(names) > 0; first = false {
		var p verifyPlan
		total := int64(0)
		for _, name := range names {
			v := verifyPack{name.PackKey(), packHeader, []keptBlob{}}
			for _, chunk := range packs[name] {
				v.Size += 4 + chunk.Length
				if blobs {
					v.Blobs = append(v.Blobs, keptBlob{chunk.Offset, chunk.Length})
				}
			}
			if len(p.Packs) > 0 && total+v.Size > verifyBytes || len(p.Packs) == verifyCount {
				break
			}
			total += v.Size
			p.Packs = append(p.Packs, v)
		}
		p.Protocol = 1
		var got verification
		if err := r.c.postJSON("?verify-packs", p, &got); isKilled(err) {
			return nil, err
		} else if err != nil {
			if first {
				return make(map[ID]bool), nil // the client checks by itself
			}
			return served, nil
		}
		covered := len(p.Packs)
		if got.Truncated {
			covered = min(len(got.Results), covered)
		}
		r.judge(p, got, covered, faults)
		for _, name := range names[:covered] {
			served[name] = true
		}
		names = names[max(covered, 1):]
	}
	return served, nil
}

// judge notes what the server found wrong, and what it did not answer for.
func (r *Repository) judge(p verifyPlan, got verification, covered int, faults *Faults) {
	results := make(map[string]verified)
	for _, v := range got.Results {
		results[v.Key] = v
	}
	for _, pack := range p.Packs[:covered] {
		v, ok := results[pack.Key]
		switch {
		case !ok:
			*faults = append(*faults, fmt.Errorf("%s: in the server's verification: %w", pack.Key, ErrMissing))
		case v.Error != nil:
			*faults = append(*faults, fmt.Errorf("%s: the server says %s: %w", pack.Key, *v.Error, ErrDamaged))
		case !v.Hash || !v.Header || !v.Blobs:
			*faults = append(*faults, fmt.Errorf("%s: the server says hash %v, header %v, blobs %v: %w", pack.Key, v.Hash, v.Header, v.Blobs, ErrDamaged))
		}
	}
}

// List reads every snapshot and returns their names.
func (c *Client) List() ([]string, error) {
	r, err := c.open()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, listed := range r.snapshots {
		s, err := r.snapshot(listed.key())
		if err != nil {
			return nil, err
		}
		names = append(names, s.Name)
	}
	return names, nil
}

// Restore reads the chunks of a snapshot, in its order.
func (c *Client) Restore(name string) (chunks [][]byte, err error) {
	err = c.reading(func(r *Repository) error {
		s, ok := r.named(name)
		if !ok {
			return fmt.Errorf("snapshot %s: %w", name, ErrMissing)
		}
		if s, err = r.snapshot(s.key()); err != nil {
			return err
		}
		if err := r.load(); err != nil {
			return err
		}
		ids, err := r.tree(s, r.index)
		if err != nil {
			return err
		}
		for _, id := range ids {
			chunk, err := r.chunk(id, r.index)
			if err != nil {
				return err
			}
			chunks = append(chunks, bytes.Clone(chunk))
		}
		return nil
	})
	return chunks, err
}
