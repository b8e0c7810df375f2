//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/binary"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
)

// tree is a directory of files for a backup; the same seed makes the same contents on every machine.
type tree struct {
	t     testing.TB
	dir   string
	files []string // relative names
	next  uint64   // seed of the next file written
}

// newTree makes n files with size bytes in all, of very different sizes, a few in each directory.
func newTree(t testing.TB, seed uint64, n int, size int64) *tree {
	t.Helper()
	tr := &tree{t: t, dir: filepath.Join(t.TempDir(), "tree"), next: seed << 32}
	mean := size / int64(n)
	random := rand.New(rand.NewPCG(seed, 1))
	for i := range n {
		// Half of the files are small, some large; together about size.
		bytes := random.Int64N(mean)
		if i%2 == 1 {
			bytes = mean/2 + random.Int64N(2*mean)
		}
		name := filepath.Join("d"+string(rune('a'+i%26)), "s"+string(rune('a'+i/26%26)), "f"+strconv.Itoa(i))
		tr.files = append(tr.files, name)
		tr.write(name, bytes)
	}
	return tr
}

// write fills a file with size bytes that do not compress.
func (tr *tree) write(name string, size int64) {
	tr.t.Helper()
	path := filepath.Join(tr.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.WriteFile(path, noise(tr.next, size), 0o644); err != nil {
		tr.t.Fatal(err)
	}
	tr.next++
}

// noise is size bytes that depend on seed alone.
func noise(seed uint64, size int64) []byte {
	var key [32]byte
	binary.LittleEndian.PutUint64(key[:], seed)
	body := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(body)
	return body
}

// change rewrites every stride-th file, beginning with the first-th, and puts a new one in the place of the next.
func (tr *tree) change(first, stride int) {
	tr.t.Helper()
	for i := first; i < len(tr.files); i += stride {
		tr.write(tr.files[i], tr.size(i)+1)
		if i+1 == len(tr.files) {
			continue
		}
		size := tr.size(i + 1)
		if err := os.Remove(filepath.Join(tr.dir, tr.files[i+1])); err != nil {
			tr.t.Fatal(err)
		}
		tr.files[i+1] += "n"
		tr.write(tr.files[i+1], size)
	}
}

// size is that of the i-th file.
func (tr *tree) size(i int) int64 {
	tr.t.Helper()
	info, err := os.Stat(filepath.Join(tr.dir, tr.files[i]))
	if err != nil {
		tr.t.Fatal(err)
	}
	return info.Size()
}

// picture is what a directory held: the digest of each file, by relative name, and the sum of their sizes.
type picture struct {
	digests map[string][sha256.Size]byte
	size    int64
}

// look takes a picture of what is below dir.
func look(t testing.TB, dir string) picture {
	t.Helper()
	p := picture{digests: make(map[string][sha256.Size]byte)}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		p.digests[name] = sha256.Sum256(body)
		p.size += int64(len(body))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// same demands that every file is as in want, byte by byte, and that there are no others.
func (p picture) same(t testing.TB, want picture) {
	t.Helper()
	wrong := 0
	for name, digest := range want.digests {
		if got, ok := p.digests[name]; !ok || got != digest {
			t.Errorf("%s: there %v, with the right bytes false", name, ok)
			if wrong++; wrong == 10 {
				t.Fatal("and more")
			}
		}
	}
	if len(p.digests) != len(want.digests) || p.size != want.size {
		t.Errorf("got %d files of %d bytes, want %d of %d", len(p.digests), p.size, len(want.digests), want.size)
	}
}
