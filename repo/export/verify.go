package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"runtime"

	"github.com/zeebo/blake3"
	"golang.org/x/sync/errgroup"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/transfer"
)

// verify reads all files of the tree, and compares them with the items. The file of an item that is damaged goes, as if that had been known; a copy that is not
// what was written ends the export, because then nothing that is written there can be relied on. The state must still be pinned.
func (x *run) verify(ctx context.Context) error {
	x.mu.Lock()
	x.progress = Progress{Step: "reading what was written", ItemsTotal: x.progress.ItemsTotal, BytesTotal: x.progress.BytesTotal}
	x.mu.Unlock()
	workers, ctx := errgroup.WithContext(ctx)
	workers.SetLimit(runtime.GOMAXPROCS(0))
	err := x.pinned.Each(func(e index.Entry) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if becomes, _ := x.foresee(e); becomes == link || becomes == copied {
			workers.Go(func() error { return x.verifyItem(ctx, e) })
		}
		return nil
	})
	if workErr := workers.Wait(); workErr != nil {
		err = workErr // which has ended the other
	}
	if err == nil && x.dropped.Load() {
		err = x.sync()
	}
	return err
}

func (x *run) verifyItem(ctx context.Context, e index.Entry) error {
	path := x.path(e.Key)
	got, err := x.hash(ctx, path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // it was told why
	}
	if err != nil {
		return fmt.Errorf("%s: what was written cannot be read: %w", e.Key, transfer.Failed(err))
	}
	want, err := x.pinned.BLAKE3(e)
	if err == nil && got != want {
		err = x.pinned.Recheck(e)
	}
	switch {
	case errors.Is(err, repo.ErrCorrupt), errors.Is(err, repo.ErrNotFound):
		if err := x.FS.Remove(path); err != nil {
			return transfer.Failed(err)
		}
		x.dropped.Store(true)
		x.tell(e, err)
	case err != nil:
		return err
	case got != want:
		return fmt.Errorf("%s: what was written reads as something else: the disk of %s, or the memory of this machine, is not reliable", e.Key, filepath.Base(x.Dir))
	default:
		x.done(&x.report.Verified, e)
	}
	return nil
}

// hash reads a file from the disk, as far as it can be told to forget what it has of it in memory.
func (x *run) hash(ctx context.Context, path string) (sum [32]byte, err error) {
	file, err := x.FS.Open(path)
	if err != nil {
		return sum, err
	}
	defer file.Close() // it is only read
	info, err := file.Stat()
	if err != nil {
		return sum, err
	}
	if adviser, ok := file.(vfs.Adviser); ok && !x.links { // what is linked may be what clients read
		_ = adviser.DontNeed(0, 0) // a hint
	}
	hasher := blake3.New()
	if _, err := io.CopyBuffer(transfer.Paced(ctx, hasher, x.pace), onlyReader{file}, make([]byte, min(max(info.Size(), 1), 256<<10))); err != nil {
		return sum, err
	}
	return [32]byte(hasher.Sum(nil)), nil
}

// onlyReader hides what else a file can do, so that it is read through the buffer.
type onlyReader struct{ io.Reader }
