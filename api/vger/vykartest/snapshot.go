package vykartest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Snapshot is the content of an object below snapshots/. The list of its files' chunks is itself a chunk, in a pack of
// its own kind, so that a client must read packs to know what a snapshot refers to.
type Snapshot struct {
	ID   string `json:"id"` // 64 hexadecimal digits
	Name string `json:"name"`
	Tree ID     `json:"tree"` // the chunk with the list
	Time string `json:"time"`
}

func (s Snapshot) key() string { return "snapshots/" + s.ID }

// encodeTree lists chunks, once each.
func encodeTree(chunks []ID) []byte {
	b := []byte("tree\n")
	for _, id := range chunks {
		b = append(b, id[:]...)
	}
	return b
}

// DecodeTree reads the list of a snapshot's chunks.
func DecodeTree(b []byte) ([]ID, error) {
	rest, ok := strings.CutPrefix(string(b), "tree\n")
	if !ok || len(rest)%len(ID{}) != 0 {
		return nil, fmt.Errorf("tree of %d bytes: %w", len(b), ErrDamaged)
	}
	var chunks []ID
	for ; len(rest) > 0; rest = rest[len(ID{}):] {
		chunks = append(chunks, ID([]byte(rest[:len(ID{})])))
	}
	return chunks, nil
}

func decodeSnapshot(b []byte) (Snapshot, error) {
	var s Snapshot
	if err := json.Unmarshal(b, &s); err != nil {
		return s, fmt.Errorf("snapshot of %d bytes: %w: %w", len(b), ErrDamaged, err)
	}
	return s, nil
}

// manifest is the list of snapshots in repositories of format 1.
type manifest struct {
	Nonce     string     `json:"nonce"`
	Snapshots []Snapshot `json:"snapshots"`
}

// refresh lists the snapshots and reads those that the machine does not know. strict: one that vanishes meanwhile
// is an error.
func (r *Repository) refresh(strict bool) error {
	if r.c.ttl() {
		return r.readManifest()
	}
	keys, err := r.c.list("snapshots/")
	if err != nil {
		return err
	}
	known := r.c.o.Cache.snapshots
	now := make(map[string]Snapshot)
	for _, key := range keys {
		if s, ok := known[key]; ok {
			now[key] = s
			continue
		}
		s, err := r.snapshot(key)
		if err != nil && (strict || isKilled(err)) {
			return err
		}
		if err == nil {
			now[key] = s
		}
	}
	r.c.o.Cache.snapshots = now
	r.snapshots = slices.SortedFunc(maps.Values(now), func(a, b Snapshot) int { return strings.Compare(a.Name, b.Name) })
	return nil
}

// snapshot reads one.
func (r *Repository) snapshot(key string) (Snapshot, error) {
	b, err := r.c.get(key)
	if err != nil {
		return Snapshot{}, err
	}
	return decodeSnapshot(b)
}

func (r *Repository) readManifest() error {
	b, err := r.c.get("manifest")
	if err != nil {
		return err
	}
	var m manifest
	if err := json.Unmarshal(b, &m); err != nil {
		return fmt.Errorf("manifest: %w: %w", ErrDamaged, err)
	}
	r.snapshots = m.Snapshots
	return nil
}

// putManifest stores the list of snapshots of format 1.
func (r *Repository) putManifest() error {
	b, err := json.Marshal(manifest{r.c.hex(8), r.snapshots})
	if err != nil {
		return err
	}
	return r.c.put("manifest", b)
}

// named finds a snapshot by its name.
func (r *Repository) named(name string) (Snapshot, bool) {
	for _, s := range r.snapshots {
		if s.Name == name {
			return s, true
		}
	}
	return Snapshot{}, false
}

// Snapshots are the names of all snapshots as they were when the repository was opened.
func (r *Repository) Snapshots() []string {
	var names []string
	for _, s := range r.snapshots {
		names = append(names, s.Name)
	}
	return names
}

// tree reads what a snapshot refers to. The place of the list is that in the given index.
func (r *Repository) tree(s Snapshot, x *Index) ([]ID, error) {
	b, err := r.chunk(s.Tree, x)
	if err != nil {
		return nil, fmt.Errorf("snapshot %s: %w", s.Name, err)
	}
	return DecodeTree(b)
}

// chunk reads a chunk by a range, and compares its hash.
func (r *Repository) chunk(id ID, x *Index) ([]byte, error) {
	p, ok := x.Chunks[id]
	if !ok {
		return nil, fmt.Errorf("chunk %s: %w", id, ErrUnknown)
	}
	if p.Length == 0 {
		return nil, nil
	}
	b, err := r.c.getRange(p.Pack.PackKey(), p.Offset, p.Length)
	if err == nil && hash(b) != id {
		err = fmt.Errorf("chunk %s in pack %s: %w", id, p.Pack, ErrDamaged)
	}
	return b, err
}
