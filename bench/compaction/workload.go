package compaction

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
	"packhouse/repo/layout"
)

// Workload is a set of packs in V'Ger's format, with blobs of which a part is unused.
type Workload struct {
	Dir       string // an empty directory; it needs twice Bytes
	Bytes     int64  // of all packs
	PackBytes int64  // of one pack
	MinBlob   int64  // bytes; sizes are spread evenly over their logarithm
	MaxBlob   int64
	Dead      float64 // part of the blobs
	Seed      uint64
}

// Default is the workload of the figures in docs/compaction.md.
func Default(dir string, bytes int64) Workload {
	return Workload{Dir: dir, Bytes: bytes, PackBytes: 64 << 20, MinBlob: 8 << 10, MaxBlob: 4 << 20, Dead: 0.5, Seed: 1}
}

// pack is one source with its live blobs, as a client knows them.
type pack struct {
	Key  string     `json:"key"`
	Size int64      `json:"size"`
	Keep [][2]int64 `json:"keep"` // offset and length
}

// live is the size of the pack that keeps only what lives.
func (p *pack) live() int64 {
	n := int64(9)
	for _, k := range p.Keep {
		n += 4 + k[1]
	}
	return n
}

const (
	repository = "source"
	plansFile  = "packs.json"
)

// Prepare creates the packs in a repository below Dir.
func (c Workload) Prepare(ctx context.Context, progress func(done int64)) (err error) {
	set := datadir.Open(datadir.Options{Dir: c.Dir})
	defer func() { err = errors.Join(err, set.Close()) }()
	r, err := set.Create(ctx, repository, "vger")
	if err != nil {
		return err
	}
	a := r.As(repo.Principal{Name: "bench"})
	blake3, err := digest.Lookup(digest.BLAKE3)
	if err != nil {
		return err
	}
	var packs []pack
	done := int64(0)
	err = c.Packs(func(body []byte, keep [][2]int64) error {
		h := blake3.New()
		h.Write(body)
		sum := fmt.Sprintf("%x", h.Sum(nil))
		p := pack{Key: "packs/" + sum[:2] + "/" + sum, Size: int64(len(body)), Keep: keep}
		if _, err := a.Put(ctx, repo.PutRequest{Key: p.Key, Body: &reader{body}, Size: p.Size}); err != nil {
			return err
		}
		packs = append(packs, p)
		done += p.Size
		progress(done)
		return nil
	})
	if err != nil {
		return err
	}
	text, err := json.Marshal(packs)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(c.Dir, plansFile), text, 0o600)
}

type reader struct{ b []byte }

func (r *reader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// Packs generates all packs, one after the other, and passes each to use: its bytes and, as offset and length, its blobs that are
// in use. It ends with the first error of use.
func (c Workload) Packs(use func(body []byte, keep [][2]int64) error) error {
	var seed [32]byte
	binary.LittleEndian.PutUint64(seed[:], c.Seed)
	source := rand.NewChaCha8(seed)
	random := rand.New(source)
	for done := int64(0); done < c.Bytes; {
		body, keep := c.makePack(source, random, min(c.PackBytes, c.Bytes-done))
		if err := use(body, keep); err != nil {
			return err
		}
		done += int64(len(body))
	}
	return nil
}

// makePack makes one pack of about size bytes.
func (c Workload) makePack(source *rand.ChaCha8, random *rand.Rand, size int64) (body []byte, keep [][2]int64) {
	body = append(make([]byte, 0, size+c.MaxBlob), "VGERPACK\x01"...)
	for int64(len(body)) < size {
		spread := math.Log(float64(c.MaxBlob) / float64(c.MinBlob))
		n := int64(float64(c.MinBlob) * math.Exp(random.Float64()*spread))
		body = binary.LittleEndian.AppendUint32(body, uint32(n))
		at := int64(len(body))
		body = body[:at+n]
		_, _ = source.Read(body[at:]) // never fails
		if random.Float64() >= c.Dead {
			keep = append(keep, [2]int64{at, n})
		}
	}
	return body, keep
}

func (c Workload) packs() ([]pack, error) {
	text, err := os.ReadFile(filepath.Join(c.Dir, plansFile))
	if err != nil {
		return nil, err
	}
	var packs []pack
	return packs, json.Unmarshal(text, &packs)
}

// clone copies the repository: blobs, which nothing changes, by a second name.
func (c Workload) clone(name string) (dir string, err error) {
	dir = filepath.Join(c.Dir, name)
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	from := filepath.Join(c.Dir, repository)
	return dir, filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		inside, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		to := filepath.Join(dir, repository, inside)
		switch {
		case d.IsDir():
			return os.MkdirAll(to, 0o700)
		case inside == layout.IndexFile, filepath.Dir(inside) == index.LogDir: // they are changed where they lie
			body, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			return os.WriteFile(to, body, 0o600)
		}
		dropCache(path)
		return os.Link(path, to)
	})
}

// operations is the plan of a client that wants packs compacted.
func operations(packs []pack, algorithm digest.Algorithm, add func(compact.Operation) error) error {
	for _, p := range packs {
		op := compact.Operation{
			Frame: compact.VGerPack, Naming: compact.Naming{Algorithm: algorithm, Prefix: "packs", Levels: 1}, Deletes: []string{p.Key},
		}
		for _, k := range p.Keep {
			op.Ranges = append(op.Ranges, compact.Range{Key: p.Key, Offset: k[0], Length: k[1]})
		}
		if err := add(op); err != nil {
			return err
		}
	}
	return nil
}
