package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// Store is the repository of one server while workloads run on it. The server can be stopped, and started again on it.
type Store struct {
	Server Server

	dir     string // of the server's data
	names   *nameCache
	tls     *identity
	filled  map[namesKey]int // how many items of a series are there to be read
	process *process
	addr    string
	secure  bool   // the process speaks TLS
	profile string // directory of the profiles that the process makes; "": none
}

// newStore makes an empty repository below scratch, and seeds items.
func newStore(ctx context.Context, scratch string, s Server, names *nameCache, tls *identity, items int) (*Store, error) {
	dir, err := os.MkdirTemp(scratch, s.Info.Name+"-")
	if err != nil {
		return nil, err
	}
	store := &Store{Server: s, dir: dir, names: names, tls: tls, filled: make(map[namesKey]int)}
	if err := store.start(ctx, startOptions{}); err != nil {
		return nil, err
	}
	d, done := store.Connect(1)
	err = d.Create(ctx)
	done()
	if err = errors.Join(err, store.stop()); err != nil || items == 0 {
		return store, err
	}
	if s.Seed == nil {
		return store, unsupported("has no way to be filled with many items")
	}
	all := make([]string, items)
	for i := range all {
		all[i] = itemName(i)
	}
	return store, s.Seed(ctx, store.dir, all)
}

// startOptions are what differs between two starts.
type startOptions struct {
	tls           bool
	snapshotEvery time.Duration
	profile       string
}

// start runs the server, which does not run.
func (s *Store) start(ctx context.Context, o startOptions) error {
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	start := Start{Dir: s.dir, Addr: addr, SnapshotEvery: o.snapshotEvery}
	if s.profile = ""; s.Server.Profiles {
		s.profile, start.Profile = o.profile, o.profile
	}
	if o.tls {
		if !s.Server.TLS {
			return unsupported("does not speak TLS")
		}
		start.Certificate, start.Key = s.tls.certificate, s.tls.key
	}
	command, err := s.Server.Command(start)
	if err != nil {
		return err
	}
	s.addr, s.secure = addr, o.tls
	s.process, err = startProcess(ctx, s.Server.Info.Name, command, addr, s.dir+".log")
	return err
}

// stop ends the server if it runs.
func (s *Store) stop() error {
	p := s.process
	s.process = nil
	if p == nil || !p.alive() {
		return nil
	}
	return p.stop()
}

// kill ends the server without a chance to save anything.
func (s *Store) kill() error {
	p := s.process
	s.process = nil
	return p.kill()
}

// remove deletes everything.
func (s *Store) remove() error {
	return errors.Join(s.stop(), os.RemoveAll(s.dir))
}

// spread asks ext4 to lay each directory that is made in dir into another part of the disk, as it does with those of a
// root directory: without a journal it makes a file slowly where others were deleted lately, and one server's
// deletions are not to burden the next. Elsewhere it does nothing.
func spread(dir string) {
	f, err := os.Open(dir)
	if err != nil {
		return
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err == nil {
		const topDirectory = 0x20000                                                       // FS_TOPDIR_FL
		_ = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|topDirectory) // a wish
	}
}

// client is a client of the repository with up to that many connections.
func (s *Store) client(connections int) *Client {
	header := http.Header{}
	maps.Copy(header, s.Server.Header)
	if s.secure {
		return NewClient("https://"+s.addr+s.Server.Path, header, connections, s.tls.roots)
	}
	return NewClient("http://"+s.addr+s.Server.Path, header, connections, nil)
}

// Connect returns a driver with at most that many connections, and a function that closes them.
func (s *Store) Connect(connections int) (Driver, func()) {
	c := s.client(connections)
	return s.Server.Driver(c), c.Close
}

// settle waits until the server has nothing more to do, as it may after it was opened with very many items.
func (s *Store) settle(ctx context.Context) error {
	const step, quiet, longest = 50 * time.Millisecond, 0.003, 2 * time.Minute
	ctx, cancel := context.WithTimeout(ctx, longest)
	defer cancel()
	last := -1.0
	for {
		now, err := s.process.cpu()
		if err != nil {
			return err
		}
		if last >= 0 && now.Total()-last < quiet {
			return nil
		}
		last = now.Total()
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s is busy without requests: %w", s.Server.Info.Name, ctx.Err())
		case <-time.After(step):
		}
	}
}

// syncDisk waits until everything is on the disk that anybody wrote to the file system of the store: one server's
// unsynced writes are not to burden the next.
func (s *Store) syncDisk() error {
	f, err := os.Open(filepath.Dir(s.dir))
	if err != nil {
		return err
	}
	defer f.Close()
	return os.NewSyscallError("syncfs", unix.Syncfs(int(f.Fd())))
}

// dropCache asks the system to forget the pages of the store's large files, so that they are read from the disk.
func (s *Store) dropCache() error {
	if err := s.syncDisk(); err != nil {
		return err
	}
	return filepath.WalkDir(s.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		if info, err := entry.Info(); err != nil || info.Size() < 1<<20 {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		return os.NewSyscallError("fadvise", unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	})
}

// unsupported is why a server cannot be measured in a workload.
type unsupported string

func (u unsupported) Error() string { return string(u) }
