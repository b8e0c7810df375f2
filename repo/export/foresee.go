package export

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/keys"
	"packhouse/repo/transfer"
)

// becomes is what an entry becomes.
type becomes uint8

const (
	directory becomes = iota
	link              // or a copy, where the kernel refuses
	copied
	leftOut
	problem // nothing, for a reason that is told
)

var (
	errMissing = errors.New("its file is missing")
	errDamaged = errors.New("its stored bytes are damaged")
)

// foresee says what an entry becomes, as far as the index knows.
func (x *run) foresee(e index.Entry) (becomes, error) {
	switch {
	case e.Dir:
		return directory, nil
	case keys.Coordination(e.Key):
		return leftOut, nil
	case e.Item.Flags&index.FlagMissing != 0:
		return problem, errMissing
	case e.Item.Flags&index.FlagDamaged != 0:
		return problem, errDamaged
	}
	if err := adopt.Unfit(x.Layout, e.Key); err != nil {
		return problem, err
	}
	if x.links && repo.InFile(e.Item) {
		return link, nil
	}
	return copied, nil
}

// Look says what Run would do, as far as the index knows, and changes nothing. Errors: as Run, before it makes anything.
func Look(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	x := newRun(o)
	if err := o.check(); err != nil {
		return x.report, err
	}
	if err := x.pin(ctx); err != nil {
		return x.report, err
	}
	defer x.pinned.Release()
	err := x.pinned.Each(func(e index.Entry) error {
		switch becomes, err := x.foresee(e); becomes {
		case link:
			x.done(&x.report.Linked, e)
		case copied:
			x.done(&x.report.Copied, e)
		case leftOut:
			x.leaveOut(e)
		case problem:
			x.tell(e, err)
		}
		return nil
	})
	if err == nil {
		err = x.copiesFit(x.report.Copied)
	}
	return x.report, err
}

// spareSpace is what an export leaves free, beside the names of its files.
const spareSpace = 64 << 20

// fits looks whether the copies fit before the first is made. What an earlier run has copied takes no more space, and what can be cloned takes none.
func (x *run) fits() error {
	var needed, whole Amount
	var first index.Entry // that may be cloned
	err := x.pinned.Each(func(e index.Entry) error {
		becomes, _ := x.foresee(e)
		switch {
		case becomes != copied || x.staged(e):
		case repo.InFile(e.Item):
			if whole.Add(e.Item.Size); e.Item.Size > first.Item.Size {
				first = e
			}
		default:
			needed.Add(e.Item.Size)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if whole.Items > 0 {
		cloned, err := x.clone(first, filepath.Join(copies(x.Dir), "trial"+unfinished))
		if err = errors.Join(err, ignoreMissing(x.FS.Remove(filepath.Join(copies(x.Dir), "trial"+unfinished)))); err != nil && !errors.Is(err, repo.ErrNotFound) {
			return transfer.Failed(err)
		}
		if !cloned {
			needed.Items += whole.Items
			needed.Bytes += whole.Bytes
		}
	}
	return x.copiesFit(needed)
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// copiesFit wants space for copies.
func (x *run) copiesFit(copies Amount) error {
	free, _, err := x.FS.Space(filepath.Dir(x.Dir))
	if err != nil {
		return transfer.Failed(err)
	}
	if need := copies.Bytes + copies.Items*perCopy + spareSpace; copies.Items > 0 && free < need {
		return fmt.Errorf("%w: copies of %d items need %d bytes, of which %d are free", repo.ErrNoSpace, copies.Items, need, free)
	}
	return nil
}

// perCopy is about what a file takes beside its bytes: half a block.
const perCopy = 2 << 10
