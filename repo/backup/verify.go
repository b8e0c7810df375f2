package backup

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
	"packhouse/repo/layout"
	"packhouse/repo/transfer"
)

// VerifyOptions of Verify. Dir is required.
type VerifyOptions struct {
	Dir      string                  // absolute
	FS       vfs.FS                  // nil means the operating system's
	Progress func(transfer.Progress) // called now and then, by one goroutine at a time; nil: by nobody
	Problem  func(transfer.Problem)  // called for each item with a problem, likewise
}

// Verified is what Verify has found.
type Verified struct {
	Repository string          `json:"repository"` // ID of the one that was backed up
	Name       string          `json:"name"`       // that it had
	Dialect    string          `json:"dialect"`
	At         time.Time       `json:"at"`       // when the state was taken
	Items      transfer.Amount `json:"items"`    // whose bytes are in the backup, without the trash
	Trash      transfer.Amount `json:"trash"`    // the same of the trash
	Problems   int64           `json:"problems"` // items whose bytes are missing or damaged
}

// Verify reads all files of a backup, compares them with the list, and changes nothing. Errors: ErrList; repo.ErrBusy while a Run writes;
// that there is no backup, or no complete state; ctx.Err(), else I/O. What a single file does not give is a problem and no error.
func Verify(ctx context.Context, o VerifyOptions) (Verified, error) {
	return o.look(ctx, readFile)
}

// look reads the list, and has check look at the file of each item.
func (o VerifyOptions) look(ctx context.Context, check func(ctx context.Context, fsys vfs.FS, path string, l line) error) (v Verified, err error) {
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	unlock, err := openBackup(o.FS, o.Dir)
	if err != nil {
		return v, err
	}
	defer unlock()
	items, bytes, err := totals(o.FS, o.Dir)
	if err != nil {
		return v, err
	}
	list, err := openState(o.FS, o.Dir)
	if err != nil {
		return v, err
	}
	defer list.Close() // it is only read
	v = Verified{Repository: list.Repository, Name: list.Name, Dialect: list.Dialect, At: list.At}
	m := &transfer.Meter{Report: o.Progress, Problem: o.Problem}
	m.Begin("reading the backup", items, bytes)
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	err = list.each(func(l line) error {
		if l.Kind != kindItem && l.Kind != kindRemoved {
			return ctx.Err()
		}
		workers.Go(func() error {
			err := l.whyNot()
			if err == nil {
				err = check(ctx, o.FS, filePath(o.Dir, l.BLAKE3), l)
			}
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case err != nil:
				m.Tell(l.Key, l.Size, err, func() { v.Problems++ })
			case l.Kind == kindRemoved:
				m.Pass(l.Size, func() { v.Trash.Add(l.Size) })
			default:
				m.Pass(l.Size, func() { v.Items.Add(l.Size) })
			}
			return nil
		})
		return ctx.Err()
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	return v, err
}

// whyNot says why the bytes of an item are not in the backup; nil: they are.
func (l *line) whyNot() error {
	switch l.State {
	case stateMissing:
		return errors.New("its file was missing in the repository")
	case stateDamaged:
		return errors.New("its bytes were damaged in the repository")
	}
	return nil
}

// openBackup locks the directory of a backup for reading.
func openBackup(fsys vfs.FS, dir string) (unlock func(), err error) {
	if !filepath.IsAbs(dir) {
		return nil, errRelative
	}
	if _, err := readOwner(fsys, dir); errors.Is(err, fs.ErrNotExist) {
		return nil, repo.Errorf(repo.ErrForeign, "the directory is no backup of a repository: there is no %s in it", ownerFile)
	} else if err != nil {
		return nil, err
	}
	unlock, err = lock(fsys, dir, unix.LOCK_SH)
	if errors.Is(err, fs.ErrNotExist) { // a copy of the directory
		return func() {}, nil
	}
	return unlock, err
}

// openState opens the list of a backup that has a complete state.
func openState(fsys vfs.FS, dir string) (*listReader, error) {
	list, err := openList(fsys, dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errors.New("the backup has no complete state: packhouse repo backup has not come to its end yet")
	}
	return list, err
}

// totals reads the whole list, and counts its items.
func totals(fsys vfs.FS, dir string) (items, bytes int64, err error) {
	list, err := openState(fsys, dir)
	if err != nil {
		return 0, 0, err
	}
	defer list.Close() // it is only read
	err = list.each(func(l line) error {
		if l.Kind == kindItem || l.Kind == kindRemoved {
			items++
			bytes += l.Size
		}
		return nil
	})
	return items, bytes, err
}

var (
	errNoFile = errors.New("its file is not in the backup")
	errNotIt  = errors.New("its file in the backup is not what was written")
)

// statFile wants the file of an item to be there, with its size.
func statFile(_ context.Context, fsys vfs.FS, path string, l line) error {
	info, err := fsys.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return errNoFile
	case err != nil:
		return vfs.WithoutPath(err)
	case !info.Mode().IsRegular() || info.Size() != l.Size:
		return errNotIt
	}
	return nil
}

// readFile wants the file of an item to have its bytes.
func readFile(ctx context.Context, fsys vfs.FS, path string, l line) error {
	if err := statFile(ctx, fsys, path, l); err != nil {
		return err
	}
	hash, unread, err := hashFile(ctx, fsys, path, nil)
	switch {
	case err != nil:
		return err
	case unread == nil && hash != l.BLAKE3:
		return errNotIt
	}
	return unread
}

// hashFile reads a file. unread says why it cannot be read, and err, of pace or ctx, why it was given up. pace is that of Options.
func hashFile(ctx context.Context, fsys vfs.FS, path string, pace func(ctx context.Context, n int64) error) (hash string, unread, err error) {
	file, err := fsys.Open(path)
	if err != nil {
		return "", vfs.WithoutPath(err), nil
	}
	defer file.Close() // it is only read
	if adviser, ok := file.(vfs.Adviser); ok {
		cached, err := adviser.Cached()
		if err == nil && !cached {
			defer func() { _ = adviser.DontNeed(0, 0) }() // it is not read again soon: clients need the memory
		}
	}
	hasher := blake3.New()
	paced := transfer.Paced(ctx, hasher, pace)
	buffer := make([]byte, 256<<10)
	for {
		n, err := file.Read(buffer)
		if _, err := paced.Write(buffer[:n]); err != nil {
			return "", nil, err
		}
		if err == io.EOF {
			return hex.EncodeToString(hasher.Sum(nil)), nil, nil
		}
		if err != nil {
			return "", fmt.Errorf("it cannot be read: %w", vfs.WithoutPath(err)), nil
		}
	}
}

// verify reads all files of the backup, and sets those aside that are not what their names say, or cannot be read. A list that is damaged is counted,
// too; it is written anew.
func (x *run) verify(ctx context.Context) error {
	var files transfer.Amount
	if err := x.eachFile(ctx, func(_ string, size int64) error {
		files.Add(size)
		return nil
	}); err != nil {
		return err
	}
	if _, _, err := totals(x.FS, x.Dir); errors.Is(err, ErrList) {
		x.meter.Tell(listFile, 0, err, func() { x.report.Damaged++ })
	}
	x.meter.Begin("reading the backup", files.Items, files.Bytes)
	workers, ctx := x.workers(ctx)
	err := x.eachFile(ctx, func(hash string, size int64) error {
		workers.Go(func() error {
			found, unread, err := hashFile(ctx, x.FS, filePath(x.Dir, hash), x.Pace)
			if err != nil {
				return err
			}
			if unread == nil && found == hash {
				x.meter.Pass(size, nil)
				return nil
			}
			if unread == nil {
				unread = errors.New("the file in the backup is not what was written")
			}
			x.meter.Tell(filesDir+"/"+hash, size, unread, func() { x.report.Damaged++ })
			return x.setAside(hash)
		})
		return ctx.Err()
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	return err
}

func (x *run) setAside(hash string) error {
	dir := filepath.Join(x.Dir, damagedDir)
	err := layout.IgnoreExisting(x.FS.Mkdir(dir))
	if err == nil {
		err = x.FS.Rename(filePath(x.Dir, hash), filepath.Join(dir, hash))
	}
	return transfer.Failed(err)
}

// eachFile calls fn for the files of the backup.
func (x *run) eachFile(ctx context.Context, fn func(hash string, size int64) error) error {
	for shard := range 256 {
		if err := ctx.Err(); err != nil {
			return err
		}
		entries, err := x.FS.ReadDir(filepath.Join(x.Dir, filesDir, shardName(shard)))
		if layout.IgnoreMissing(err) != nil {
			return transfer.Failed(err)
		}
		for _, entry := range entries {
			if !isHash(entry.Name()) {
				continue
			}
			info, err := entry.Info()
			if err == nil {
				err = fn(entry.Name(), info.Size())
			}
			if err != nil {
				return transfer.Failed(err)
			}
		}
	}
	return nil
}

// shardName is that of one of the directories in which files lie.
func shardName(shard int) string { return hex.EncodeToString([]byte{byte(shard)}) }
