package vykartest

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Repository is one that a process has opened, with the snapshots, and where loaded the index, as they were then. What a
// command does with it goes by that view, however old it is.
type Repository struct {
	c         *Client
	generated uint64 // as index.gen said
	snapshots []Snapshot
	index     *Index // nil: not loaded
	dirty     bool   // index has changes that are not stored
	held      *lock  // nil: none
	session   string // registered; "": none
}

func isKilled(err error) bool { return errors.Is(err, ErrKilled) }

// config is a config object as msgpack, of encryption "none". Only version and mode mean something here.
func config(format int) []byte {
	b := []byte{0x97, byte(format), 0xc4, 32}
	b = append(b, make([]byte, 32)...)
	b = append(b, 0x93, 1, 2, 3)
	b = append(b, "\xa4none"...)
	return append(b, 0xcd, 1, 0, 1, 2)
}

// Init makes the repository. ErrExists.
func (c *Client) Init() error {
	there, err := c.exists("config")
	if err != nil {
		return err
	}
	if there {
		return fmt.Errorf("repository: %w", ErrExists)
	}
	if err := c.acknowledged(request{method: "POST", target: "?init", body: []byte{}}); err != nil {
		return err
	}
	if err := c.put("config", config(c.o.Format)); err != nil {
		return err
	}
	r := &Repository{c: c, index: &Index{Chunks: make(map[ID]Place)}}
	if c.ttl() {
		if err := r.putManifest(); err != nil {
			return err
		}
		return c.put("index", r.index.Encode())
	}
	if err := c.put("index", r.index.Encode()); err != nil {
		return err
	}
	return c.put("index.gen", make([]byte, 8))
}

// Open reads the repository's config and list of snapshots, and the index.
func (c *Client) Open() (*Repository, error) {
	r, err := c.open()
	if err != nil {
		return nil, err
	}
	return r, r.load()
}

// open is Open without the index.
func (c *Client) open() (*Repository, error) {
	b, err := c.get("config")
	if err != nil {
		return nil, err
	}
	if len(b) < 2 || b[1] != byte(c.o.Format) {
		return nil, fmt.Errorf("config: format: %w", ErrDamaged)
	}
	r := &Repository{c: c}
	if !c.ttl() {
		if b, err := c.get("index.gen"); err == nil && len(b) == 8 {
			r.generated = binary.LittleEndian.Uint64(b)
		} else if err != nil && !errors.Is(err, ErrMissing) {
			return nil, err
		}
	}
	return r, r.refresh(false)
}

// load reads the index, and stores index.gen as far as that works.
func (r *Repository) load() error {
	x, err := r.readIndex()
	if err != nil {
		return err
	}
	r.index = x
	if !r.c.ttl() {
		if err := r.putGeneration(); isKilled(err) {
			return err
		}
	}
	return nil
}

// readIndex reads the index; a missing one is empty.
func (r *Repository) readIndex() (*Index, error) {
	b, err := r.c.get("index")
	if errors.Is(err, ErrMissing) {
		return &Index{Chunks: make(map[ID]Place)}, nil
	}
	if err != nil {
		return nil, err
	}
	return DecodeIndex(b)
}

func (r *Repository) putGeneration() error {
	return r.c.put("index.gen", binary.LittleEndian.AppendUint64(nil, r.index.Generation))
}

// Index is the index as this process has it. It must not be modified.
func (r *Repository) Index() *Index { return r.index }

// save stores the index if it has changed. Only the index itself must succeed.
func (r *Repository) save() error {
	if !r.dirty {
		return nil
	}
	r.index.Generation = r.c.o.Random.Uint64()
	if r.c.ttl() {
		if err := r.putManifest(); err != nil {
			return err
		}
	} else if err := r.fence(); err != nil {
		return err
	}
	if err := r.c.put("index", r.index.Encode()); err != nil {
		return err
	}
	r.dirty = false
	if r.c.ttl() {
		return nil
	}
	if err := r.putGeneration(); isKilled(err) {
		return err
	}
	return nil
}
