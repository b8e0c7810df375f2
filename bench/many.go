package bench

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"packhouse/index"
)

// Many is a store with very many items in one directory: how long a server takes to be ready for it, and to
// list it.
type Many struct {
	Items int
	// Name is that of the i-th item; nil: 64 hex digits below "many/", as borg's packs are named.
	Name func(i int) string
}

func (c Many) name(i int) string {
	if c.Name != nil {
		return c.Name(i)
	}
	return directory + "/" + itemName(i)
}

// directory is where the items of Many are.
const directory = "many"

// SeedIndex puts the items into the index of a Packhouse repository that no process holds, with an empty file for
// each: the server looks whether there is one, but not into it.
func (c Many) SeedIndex(ctx context.Context, dir string) (err error) {
	x, err := index.Open(filepath.Join(dir, "index.db"), index.Options{})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	defer func() {
		if fault := x.Close(); err == nil {
			err = fault
		}
	}()
	now := time.Now()
	const batch = 20_000
	for i := 0; i < c.Items; {
		group := make([]index.Mutation, 0, batch)
		for ; i < c.Items && len(group) < batch; i++ {
			var id [16]byte
			binary.BigEndian.PutUint64(id[:], uint64(i))
			binary.BigEndian.PutUint64(id[8:], uint64(i)*0x9e3779b97f4a7c15)
			name := hex.EncodeToString(id[:])
			if err := os.WriteFile(filepath.Join(dir, "blobs", name[len(name)-2:], name), nil, 0o600); err != nil {
				return fmt.Errorf("seed: %w", err)
			}
			group = append(group, index.Put{Key: c.name(i), Limit: -1, Now: now, Item: index.Item{Ref: "\x01" + string(id[:])}})
		}
		if _, err := x.Apply(ctx, group...); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	return nil
}

// SeedFiles makes the items as the reference keeps them: an empty file each.
func (c Many) SeedFiles(ctx context.Context, dir string) error {
	dir = filepath.Join(dir, directory)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	for i := range c.Items {
		if err := ctx.Err(); err != nil {
			return err
		}
		f, err := os.Create(filepath.Join(dir, itemName(i)))
		if err != nil {
			return fmt.Errorf("seed: %w", err)
		}
		if err := f.Close(); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	return nil
}

// itemName has 64 characters, as the names of borg's packs.
func itemName(i int) string { return fmt.Sprintf("%064x", uint64(i)*0x9e3779b97f4a7c15) }

// Open measures the time from the start of the program to its first answer, and returns the server.
func (c Many) Open(ctx context.Context, p Program, dir string) (*Server, Result, error) {
	start := time.Now()
	s, err := p.Start(ctx, dir)
	if err != nil {
		return nil, Result{}, err
	}
	client := s.Client(1)
	defer client.Close()
	if err := client.Stat(ctx, c.name(0)); err != nil {
		return s, Result{}, err
	}
	took := float64(time.Since(start).Microseconds()) / 1000
	return s, Result{Workload: fmt.Sprintf("Open/items=%d", c.Items), Server: p.Name, N: 1, Metrics: []Metric{{took, "ms"}}}, nil
}

// List measures one listing of all items on a server that Open returned.
func (c Many) List(ctx context.Context, s *Server) (Result, error) {
	client := s.Client(1)
	defer client.Close()
	if _, err := client.List(ctx, directory); err != nil { // fills the page cache, for all servers alike
		return Result{}, err
	}
	start := time.Now()
	n, err := client.List(ctx, directory)
	if err != nil {
		return Result{}, err
	}
	took := time.Since(start)
	if n < int64(c.Items)*64 {
		return Result{}, fmt.Errorf("the listing has %d bytes, too few for %d names", n, c.Items)
	}
	peak, err := memory(s)
	return Result{Workload: fmt.Sprintf("List/items=%d", c.Items), Server: s.Program.Name, N: 1, Metrics: append([]Metric{
		{took.Seconds() * 1000, "ms"}, {float64(c.Items) / took.Seconds(), "items/s"},
	}, peak...)}, err
}
