package adoption

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"packhouse/repo/adopt"
)

// Workload is a directory of BorgStore's layout with packs, as borg has them.
type Workload struct {
	Dir   string // an empty directory
	Files int    // packs
	Size  int64  // bytes of each, none of which takes space
}

// Figures of one way.
type Figures struct {
	Way    string  `json:"way"`
	Files  int     `json:"files"`
	Took   float64 `json:"seconds"`
	Memory int64   `json:"peak_memory"` // bytes resident, with the pages of the index that are mapped; 0: the kernel does not say
	// Steps are the seconds of each step of an adoption.
	Steps []Step `json:"steps,omitempty"`
}

// Step is a part of an adoption.
type Step struct {
	Name string  `json:"name"`
	Took float64 `json:"seconds"`
}

// Rate is files a second.
func (f Figures) Rate() float64 { return float64(f.Files) / f.Took }

// The ways.
const (
	Plain = "plain loop"
	Adopt = "adopt"
)

func (w Workload) source() string { return filepath.Join(w.Dir, "source") }

// Prepare makes the directory, durably, so that what is measured does not wait for it.
func (w Workload) Prepare(ctx context.Context, progress func(done int64)) error {
	source := w.source()
	if err := os.MkdirAll(filepath.Join(source, "config"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(source, "config", "manifest"), []byte("manifest"), 0o600); err != nil {
		return err
	}
	for shard := range 256 {
		if err := os.MkdirAll(filepath.Join(source, "packs", fmt.Sprintf("%02x", shard)), 0o700); err != nil {
			return err
		}
	}
	for n := range w.Files {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := w.sparse(pack(n)); err != nil {
			return err
		}
		if n%1024 == 0 {
			progress(int64(n))
		}
	}
	return syncFileSystem(source)
}

// pack is the name of a pack: 64 hexadecimal digits, in a directory of their first two.
func pack(n int) string {
	sum := sha256.Sum256(binary.LittleEndian.AppendUint64(nil, uint64(n)))
	return fmt.Sprintf("packs/%02x/%x", sum[0], sum)
}

func (w Workload) sparse(key string) error {
	file, err := os.OpenFile(filepath.Join(w.source(), key), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return errors.Join(file.Truncate(w.Size), file.Close())
}

func syncFileSystem(dir string) error {
	file, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("syncfs", unix.Syncfs(int(file.Fd()))), file.Close())
}

// Run carries out one way in a new directory, which it removes afterwards, and returns its figures.
func (w Workload) Run(ctx context.Context, way string) (f Figures, err error) {
	into := filepath.Join(w.Dir, "into")
	if err := os.Mkdir(into, 0o700); err != nil {
		return f, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(into), syncFileSystem(w.Dir)) }()
	run := map[string]func(context.Context, string) ([]Step, error){Plain: w.plain, Adopt: w.adopt}[way]
	if run == nil {
		return f, fmt.Errorf("unknown way %q", way)
	}
	debug.FreeOSMemory()
	resetPeak()
	began := time.Now()
	f.Steps, err = run(ctx, into)
	f.Way, f.Files, f.Took, f.Memory = way, w.Files, time.Since(began).Seconds(), peak()
	return f, err
}

// Rounds carries out the plain loop and an adoption in turns, and calls show with the figures of each round.
func (w Workload) Rounds(ctx context.Context, n int, show func(plain, adopted Figures) error) error {
	for range n {
		plain, err := w.Run(ctx, Plain)
		if err != nil {
			return err
		}
		adopted, err := w.Run(ctx, Adopt)
		if err != nil {
			return err
		}
		if err := show(plain, adopted); err != nil {
			return err
		}
	}
	return nil
}

// resetPeak makes the kernel forget how much memory this process had.
func resetPeak() { _ = os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) } // or the peak is that of all runs

// peak is the most memory that was resident.
func peak() (bytes int64) {
	text, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(text)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}

// plain is the least that must be done: it looks at each file, gives it a second name in one of 256 directories, and syncs these. It keeps no list and
// makes no index.
func (w Workload) plain(ctx context.Context, into string) ([]Step, error) {
	for shard := range 256 {
		if err := os.Mkdir(filepath.Join(into, fmt.Sprintf("%02x", shard)), 0o700); err != nil {
			return nil, err
		}
	}
	dirs, err := filepath.Glob(filepath.Join(w.source(), "packs", "*"))
	if err != nil {
		return nil, err
	}
	if err := syncFileSystem(w.source()); err != nil {
		return nil, err
	}
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	for _, dir := range dirs {
		workers.Go(func() error { return linkAll(ctx, dir, filepath.Join(into, filepath.Base(dir))) })
	}
	return nil, workers.Wait()
}

// linkAll links the files of a directory to another, and syncs that.
func linkAll(ctx context.Context, from, to string) error {
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := ctx.Err(); err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil || !info.Mode().IsRegular() {
			return errors.Join(err, fs.ErrInvalid)
		}
		if err := os.Link(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	dir, err := os.Open(to)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}

func (w Workload) adopt(ctx context.Context, into string) (steps []Step, err error) {
	began := time.Now()
	end := func(next string) {
		if n := len(steps); n > 0 {
			steps[n-1].Took = time.Since(began).Seconds()
		}
		if began = time.Now(); next != "" {
			steps = append(steps, Step{Name: next})
		}
	}
	_, err = adopt.Run(ctx, adopt.Options{Source: w.source(), Into: into, Name: "r", Progress: func(p adopt.Progress) {
		if len(steps) == 0 || steps[len(steps)-1].Name != p.Step {
			end(p.Step)
		}
	}})
	end("")
	return steps, err
}
