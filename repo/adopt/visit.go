package adopt

import (
	"io/fs"
	"path"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// visitor looks files of a list up in a source, one directory after the other.
type visitor struct {
	layout string // of the source
	source vfs.Tree
	dir    string   // that tree is
	tree   vfs.Tree // nil: none is open
}

// enter opens a directory, unless it is the one that is open.
func (v *visitor) enter(dir string) (err error) {
	if v.tree != nil && v.dir == dir {
		return nil
	}
	v.leave()
	tree, err := v.source.Dir(dir)
	if err == nil {
		v.dir, v.tree = dir, tree
	}
	return err
}

func (v *visitor) leave() {
	if v.tree != nil {
		_ = v.tree.Close() // nothing of it needs to be durable
		v.tree = nil
	}
}

// stat looks at a file; v.tree is its directory then. Errors for which vfs.Replaced is true: it is not there, or not as a file of the source.
func (v *visitor) stat(a layout.Adopted) (fs.FileInfo, error) {
	at := Path(v.layout, a.Key)
	if err := v.enter(path.Dir(at)); err != nil {
		return nil, err
	}
	return v.tree.Stat(path.Base(at))
}

// unchanged tells whether a file is as it was when it was listed.
func unchanged(info fs.FileInfo, a layout.Adopted) bool {
	return info.Mode().IsRegular() && info.Size() == a.Size && info.ModTime().Truncate(time.Millisecond).Equal(a.Modified)
}
