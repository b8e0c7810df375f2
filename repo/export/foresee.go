package export

import (
	"cmp"
	"context"
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

// foresee says what an entry becomes, as far as the index knows.
func (x *run) foresee(e index.Entry) (becomes, error) {
	switch {
	case e.Dir:
		return directory, nil
	case keys.Coordination(e.Key):
		return leftOut, nil
	}
	if err := cmp.Or(transfer.Unfit(e.Item), adopt.Unfit(x.Layout, e.Key)); err != nil {
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
		err = transfer.Fits(x.FS, filepath.Dir(x.Dir), x.report.Copied)
	}
	return x.report, err
}

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
		cloned, err := x.cloner.Try(x.FS, x.pinned, first, filepath.Join(copies(x.Dir), "trial"+unfinished))
		if err != nil {
			return err
		}
		if !cloned {
			needed.Items += whole.Items
			needed.Bytes += whole.Bytes
		}
	}
	return transfer.Fits(x.FS, filepath.Dir(x.Dir), needed)
}
