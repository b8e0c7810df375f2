package export

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"packhouse/index"
	"packhouse/repo/transfer"
)

// A copy of more than resumeFrom bytes, which is as many as an item in the log has, is made in DIR.partial/copies first. It gets a name there when its bytes are on the disk, and the tree gets a second name of
// it: so what has a name is whole, also after the power was lost, and the next run takes it instead of making it again. The name is a hash of what
// the bytes depend on: the repository, the key, and the ref, which is that of a file and never has other bytes. Smaller items cost less to copy than to sync one by one.
const resumeFrom = 128 << 10

const unfinished = ".new" // ends the name of a copy that is being written

// stagedPath is where the copy of an item is that an interrupted run has completed; "": none is made there.
func (x *run) stagedPath(e index.Entry) string {
	if e.Item.Size <= resumeFrom {
		return ""
	}
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%x\x00%d", x.Repository.ID(), e.Key, e.Item.Ref, e.Item.Size))
	return filepath.Join(copies(x.Dir), hex.EncodeToString(sum[:]))
}

// staged tells whether the copy of an item is complete.
func (x *run) staged(e index.Entry) bool {
	path := x.stagedPath(e)
	if path == "" {
		return false
	}
	info, err := x.FS.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Size() == e.Item.Size
}

// made tells how the file of an item was made.
type made uint8

const (
	byClone made = iota
	byCopy
	byEarlierCopy
)

// copy makes the file of an item that is not linked. What is damaged leaves no file.
func (x *run) copy(ctx context.Context, e index.Entry, path string) (how made, err error) {
	how = byClone
	cloned, err := x.cloner.Clone(x.FS, x.pinned, e, path)
	if err == nil && !cloned {
		how, err = x.copyBytes(ctx, e, path)
	}
	if err != nil {
		return how, err
	}
	return how, x.setAttributes(path, x.file, e.Item.Modified)
}

// copyBytes makes the file path, checked while it is read, or as a second name of one that was made so.
func (x *run) copyBytes(ctx context.Context, e index.Entry, path string) (how made, err error) {
	staged := x.stagedPath(e)
	if staged == "" {
		return byCopy, x.write(ctx, e, path, false)
	}
	how = byEarlierCopy
	if !x.staged(e) {
		how = byCopy
		if err := x.stage(ctx, e, staged); err != nil {
			return how, err
		}
	}
	return how, transfer.Failed(x.FS.Link(staged, path))
}

// stage makes a copy that the next run takes if this one is interrupted.
func (x *run) stage(ctx context.Context, e index.Entry, staged string) error {
	if err := x.FS.Remove(staged); err != nil && !errors.Is(err, fs.ErrNotExist) { // it has another size
		return transfer.Failed(err)
	}
	if err := x.write(ctx, e, staged+unfinished, true); err != nil {
		return err
	}
	return transfer.Failed(x.FS.Rename(staged+unfinished, staged))
}

// write writes the bytes of an item to a new file, and if durable syncs them. After an error there is no file.
func (x *run) write(ctx context.Context, e index.Entry, path string, durable bool) error {
	return transfer.Copy(ctx, x.FS, x.pinned, e, path, transfer.CopyOptions{Durable: durable, Pace: x.pace})
}

// beginCopies makes the directory of copies, or removes from it what an earlier run has not finished.
func (x *run) beginCopies() error {
	err := x.FS.Mkdir(copies(x.Dir))
	if err == nil || !errors.Is(err, fs.ErrExist) {
		return transfer.Failed(err)
	}
	info, err := x.FS.Stat(copies(x.Dir))
	if err == nil && !info.IsDir() {
		err = inTheWay(x.Dir)
	}
	if err != nil {
		return transfer.Failed(err)
	}
	entries, err := x.FS.ReadDir(copies(x.Dir))
	for _, entry := range entries {
		if err == nil && strings.HasSuffix(entry.Name(), unfinished) {
			err = x.FS.Remove(filepath.Join(copies(x.Dir), entry.Name()))
		}
	}
	return transfer.Failed(err)
}
