package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
)

// Suite runs all workloads against each program, one after the other.
type Suite struct {
	Dir     string // scratch space; stores are made and removed below it
	Scale   float64
	Out     io.Writer // results, as they come
	Notes   io.Writer // progress
	Servers []Program // the first is Packhouse
	VGer    Program   // Packhouse as a server of many repositories, for the V'Ger protocol
}

// scaled is n times Scale, at least 1.
func (u Suite) scaled(n int) int { return max(1, int(float64(n)*u.Scale)) }

// Run carries out the suite and returns all results.
func (u Suite) Run(ctx context.Context) ([]Result, error) {
	var results []Result
	for i, p := range u.Servers {
		keep := func(r Result) error {
			results = append(results, r)
			return r.Write(u.Out)
		}
		steps := []func(context.Context, Program, func(Result) error) error{u.puts, u.large, u.huge}
		if i == 0 {
			steps = append(steps, u.manyInIndex)
		} else {
			steps = append(steps, u.manyFiles)
		}
		for _, step := range steps {
			if err := step(ctx, p, keep); err != nil {
				return results, fmt.Errorf("%s: %w", p.Name, err)
			}
		}
	}
	keep := func(r Result) error {
		results = append(results, r)
		return r.Write(u.Out)
	}
	if err := errors.Join(u.packs(ctx, keep), u.keys(ctx, keep)); err != nil {
		return results, fmt.Errorf("%s: %w", u.VGer.Name, err)
	}
	return results, nil
}

// packs uploads and verifies packs of 32 MiB with each hash.
func (u Suite) packs(ctx context.Context, keep func(Result) error) error {
	for _, hash := range []string{"blake2b", "blake3"} {
		c := Packs{32 << 20, u.scaled(16), hash}
		fmt.Fprintf(u.Notes, "%s: %d packs named by %s\n", u.VGer.Name, c.N, hash)
		err := u.inVault(ctx, func(s *Server) error {
			put, verify, err := c.Run(ctx, s)
			if err != nil {
				return err
			}
			return errors.Join(keep(put), keep(verify))
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// keys lists few and very many packs, and asks for statistics.
func (u Suite) keys(ctx context.Context, keep func(Result) error) error {
	for _, items := range []int{u.scaled(1000), u.scaled(1_000_000)} {
		c := Many{Items: items, Name: packName}
		fmt.Fprintf(u.Notes, "%s: %d keys\n", u.VGer.Name, items)
		err := u.inVault(ctx, func(s *Server) error {
			list, stats, err := c.Keys(ctx, s)
			if err != nil {
				return err
			}
			return errors.Join(keep(list), keep(stats))
		}, func(dir string) error { return c.SeedIndex(ctx, dir) })
		if err != nil {
			return err
		}
	}
	return nil
}

// inVault runs use on a server with a V'Ger repository, which seed (if not nil) fills while no server runs.
func (u Suite) inVault(ctx context.Context, use func(*Server) error, seed func(dir string) error) (err error) {
	dir, err := os.MkdirTemp(u.Dir, "vger-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	data := filepath.Join(dir, "data")
	s, err := u.VGer.Start(ctx, data)
	if err != nil {
		return err
	}
	client := s.Client(1)
	err = client.InitVault(ctx)
	client.Close()
	if err == nil && seed != nil {
		if err := s.Stop(); err != nil {
			return err
		}
		if err := seed(filepath.Join(data, vault)); err != nil {
			return err
		}
		if s, err = u.VGer.Start(ctx, data); err != nil {
			return err
		}
	}
	if err == nil {
		err = use(s)
	}
	return errors.Join(err, s.Stop())
}

// with runs use on a new server with an empty store, and removes both.
func (u Suite) with(ctx context.Context, p Program, use func(*Server) error) (err error) {
	dir, err := os.MkdirTemp(u.Dir, "store-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s, err := p.Start(ctx, filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Stop()) }()
	client := s.Client(1)
	defer client.Close()
	if err := client.Create(ctx); err != nil {
		return err
	}
	return use(s)
}

func (u Suite) puts(ctx context.Context, p Program, keep func(Result) error) error {
	return u.with(ctx, p, func(s *Server) error {
		for _, c := range []Puts{{8 << 10, 1, u.scaled(1000)}, {8 << 10, 8, u.scaled(5000)}, {8 << 10, 64, u.scaled(10000)}} {
			if !p.Durable && c.Connections > 1 {
				c.N = u.scaled(1000) // it serves one request at a time; more would only take longer
			}
			fmt.Fprintf(u.Notes, "%s: %d puts over %d connections\n", p.Name, c.N, c.Connections)
			r, err := c.Run(ctx, s)
			if err != nil && p.Name != u.Servers[0].Name { // a peer that does not stand it is a result too
				if _, err := fmt.Fprintf(u.Out, "# %s: %s failed: %v\n", p.Name, c.name(), err); err != nil {
					return err
				}
				continue
			}
			if err != nil {
				return err
			}
			if err := keep(r); err != nil {
				return err
			}
		}
		return nil
	})
}

func (u Suite) large(ctx context.Context, p Program, keep func(Result) error) error {
	return u.upDown(ctx, p, Large{32 << 20, u.scaled(16)}, keep)
}

func (u Suite) huge(ctx context.Context, p Program, keep func(Result) error) error {
	return u.upDown(ctx, p, Large{max(1<<20, int64(512*u.Scale)<<20), 1}, keep)
}

func (u Suite) upDown(ctx context.Context, p Program, c Large, keep func(Result) error) error {
	fmt.Fprintf(u.Notes, "%s: %d items of %s up and down\n", p.Name, c.N, bytesText(c.Size))
	return u.with(ctx, p, func(s *Server) error {
		put, get, err := c.Run(ctx, s)
		if err != nil {
			return err
		}
		return errors.Join(keep(put), keep(get))
	})
}

func (u Suite) manyInIndex(ctx context.Context, p Program, keep func(Result) error) error {
	return u.many(ctx, p, keep, func(c Many, dir string) error {
		s, err := p.Start(ctx, dir)
		if err != nil {
			return err
		}
		client := s.Client(1)
		err = client.Create(ctx)
		client.Close()
		if err := errors.Join(err, s.Stop()); err != nil {
			return err
		}
		return c.SeedIndex(ctx, dir)
	})
}

func (u Suite) manyFiles(ctx context.Context, p Program, keep func(Result) error) error {
	return u.many(ctx, p, keep, func(c Many, dir string) error { return c.SeedFiles(ctx, dir) })
}

// many opens and lists a store with few and with very many items.
func (u Suite) many(ctx context.Context, p Program, keep func(Result) error, seed func(Many, string) error) error {
	for _, c := range []Many{{Items: u.scaled(1000)}, {Items: u.scaled(1_000_000)}} {
		fmt.Fprintf(u.Notes, "%s: %d items\n", p.Name, c.Items)
		if err := u.one(ctx, p, c, keep, seed); err != nil {
			return err
		}
	}
	return nil
}

func (u Suite) one(ctx context.Context, p Program, c Many, keep func(Result) error, seed func(Many, string) error) (err error) {
	dir, err := os.MkdirTemp(u.Dir, "store-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	store := filepath.Join(dir, "store")
	if err := seed(c, store); err != nil {
		return err
	}
	s, opened, err := c.Open(ctx, p, store)
	if s != nil {
		defer func() { err = errors.Join(err, s.Stop()) }()
	}
	if err != nil {
		return err
	}
	listed, err := c.List(ctx, s)
	if err != nil {
		return err
	}
	return errors.Join(keep(opened), keep(listed))
}
