package backup

import (
	"context"
	"errors"
	"path/filepath"

	"packhouse/repo/layout"
	"packhouse/repo/transfer"
)

// sweep removes what the state does not need, and counts what was found damaged and has been transferred again.
func (x *run) sweep(ctx context.Context) error {
	x.meter.Step("removing what is not needed any more")
	if err := x.FS.RemoveAll(filepath.Join(x.Dir, newDir)); err != nil {
		return transfer.Failed(err)
	}
	return errors.Join(x.sweepFiles(ctx, x.needed.Each), x.sweepDamaged())
}

// sweepFiles removes the files that are not among the hashes that each gives, in their order.
func (x *run) sweepFiles(ctx context.Context, each func(func(hash string, _ []byte) error) error) error {
	shard, hashes := 0, make(map[string]bool)
	// upTo sweeps the shards up to that one, of which hashes has all that are needed.
	upTo := func(next int) error {
		for ; shard < next; shard++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := x.sweepShard(shard, hashes); err != nil {
				return err
			}
			clear(hashes)
		}
		return nil
	}
	err := each(func(hash string, _ []byte) error {
		if err := upTo(int(shardOf(hash))); err != nil {
			return err
		}
		hashes[hash] = true
		return nil
	})
	if err == nil {
		err = upTo(256)
	}
	return err
}

func (x *run) sweepShard(shard int, needed map[string]bool) error {
	dir := filepath.Join(x.Dir, filesDir, shardName(shard))
	entries, err := x.FS.ReadDir(dir)
	if err != nil {
		return transfer.Failed(layout.IgnoreMissing(err))
	}
	for _, entry := range entries {
		if needed[entry.Name()] || !isHash(entry.Name()) {
			continue
		}
		info, err := entry.Info()
		if err == nil {
			err = x.FS.Remove(filepath.Join(dir, entry.Name()))
		}
		if layout.IgnoreMissing(err) != nil {
			return transfer.Failed(err)
		}
		if err == nil {
			x.report.Removed.Add(info.Size())
		}
	}
	return nil
}

// sweepDamaged removes the files that were found damaged, and that the backup has anew.
func (x *run) sweepDamaged() error {
	dir := filepath.Join(x.Dir, damagedDir)
	entries, err := x.FS.ReadDir(dir)
	if err != nil {
		return transfer.Failed(layout.IgnoreMissing(err))
	}
	left := false
	for _, entry := range entries {
		if !isHash(entry.Name()) {
			left = true
			continue
		}
		if _, err := x.FS.Stat(filePath(x.Dir, entry.Name())); err != nil {
			left = true // there is nothing better
			continue
		}
		if err := x.FS.Remove(filepath.Join(dir, entry.Name())); err != nil {
			return transfer.Failed(err)
		}
	}
	if left {
		return nil
	}
	return transfer.Failed(x.FS.Remove(dir))
}
