package vykartest

import "fmt"

// Delete removes snapshots, as prune does: the objects first, then what they alone refer to in the index. Failures of
// the second half are warnings to the client.
func (c *Client) Delete(names ...string) (warnings []error, err error) {
	r, err := c.Open()
	if err != nil {
		return nil, err
	}
	return r.Delete(names...)
}

// Delete is Client.Delete with the view of an opened repository.
func (r *Repository) Delete(names ...string) (warnings []error, err error) {
	err = r.maintain(func() error {
		var targets []Snapshot
		for _, name := range names {
			s, ok := r.named(name)
			if !ok {
				return fmt.Errorf("snapshot %s: %w", name, ErrMissing)
			}
			if s, err = r.snapshot(s.key()); err != nil {
				return err
			}
			targets = append(targets, s)
		}
		if r.c.ttl() {
			warnings, err = r.deleteTTL(targets)
			return err
		}
		for _, s := range targets {
			if err := r.fence(); err != nil {
				return err
			}
			if err := r.c.remove(s.key()); err != nil {
				return err
			}
		}
		for _, s := range targets {
			if err := r.forget(s); isKilled(err) {
				return err
			} else if err != nil {
				warnings = append(warnings, err)
			}
		}
		if err := r.save(); isKilled(err) {
			return err
		} else if err != nil {
			warnings = append(warnings, err)
		}
		return nil
	})
	return warnings, err
}

// forget takes the references of a snapshot out of the index.
func (r *Repository) forget(s Snapshot) error {
	chunks, err := r.tree(s, r.index)
	if err != nil {
		return err
	}
	for _, id := range chunks {
		r.index.release(id)
	}
	r.index.release(s.Tree)
	r.dirty = true
	for i, other := range r.snapshots {
		if other.ID == s.ID {
			r.snapshots = append(r.snapshots[:i:i], r.snapshots[i+1:]...)
			break
		}
	}
	return nil
}

// deleteTTL removes snapshots of format 1: manifest and index first, then the objects as far as that works.
func (r *Repository) deleteTTL(targets []Snapshot) (warnings []error, err error) {
	for _, s := range targets {
		if err := r.forget(s); err != nil {
			return nil, err
		}
	}
	if err := r.save(); err != nil {
		return nil, err
	}
	for _, s := range targets {
		if err := r.c.remove(s.key()); isKilled(err) {
			return nil, err
		} else if err != nil {
			warnings = append(warnings, err)
		}
	}
	return warnings, nil
}

// DeleteRepository removes everything that there is.
func (c *Client) DeleteRepository() error {
	keys, err := c.list("")
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return fmt.Errorf("repository: %w", ErrMissing)
	}
	return c.postJSON("?batch-delete&cleanup-dirs", keys, nil)
}
