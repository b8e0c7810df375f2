package vfstest

import (
	"errors"
	"io/fs"
	"path/filepath"

	"packhouse/blobstore/vfs"
)

// TreeHooks are called instead of methods of a tree and of its directories; do is the method. nil: the method itself. Paths are absolute.
type TreeHooks struct {
	Dir    func(path string, do func() (vfs.Tree, error)) (vfs.Tree, error)
	Link   func(oldname, newname string, do func() error) error
	Remove func(path string, do func() error) error
	Look   func(do func() error) error // of those that change nothing
}

// OpenTree opens a directory of inner, which is a TreeOpener, with hooks.
func OpenTree(inner vfs.FS, name string, hooks TreeHooks) (vfs.Tree, error) {
	tree, err := vfs.OpenTree(inner, name)
	if err != nil {
		return nil, err
	}
	return &hookedTree{tree, filepath.Clean(name), &hooks}, nil
}

type hookedTree struct {
	vfs.Tree
	at    string
	hooks *TreeHooks
}

func (t *hookedTree) Dir(name string) (vfs.Tree, error) {
	at := filepath.Join(t.at, name)
	do := func() (vfs.Tree, error) { return t.Tree.Dir(name) }
	hook := t.hooks.Dir
	if hook == nil {
		hook = func(_ string, do func() (vfs.Tree, error)) (vfs.Tree, error) { return do() }
	}
	below, err := hook(at, do)
	if err != nil {
		return nil, err
	}
	return &hookedTree{below, at, t.hooks}, nil
}

func (t *hookedTree) Link(name, newname string) error {
	link := func() error { return t.Tree.Link(name, newname) }
	if t.hooks.Link == nil {
		return link()
	}
	return t.hooks.Link(filepath.Join(t.at, name), newname, link)
}

func (t *hookedTree) Remove(name string) error {
	remove := func() error { return t.Tree.Remove(name) }
	if t.hooks.Remove == nil {
		return remove()
	}
	return t.hooks.Remove(filepath.Join(t.at, name), remove)
}

func (t *hookedTree) look(do func() error) error {
	if t.hooks.Look == nil {
		return do()
	}
	return t.hooks.Look(do)
}

func (t *hookedTree) ReadDir() (entries []fs.DirEntry, err error) {
	err = t.look(func() error {
		entries, err = t.Tree.ReadDir()
		return err
	})
	return entries, err
}

func (t *hookedTree) Stat(name string) (info fs.FileInfo, err error) {
	err = t.look(func() error {
		info, err = t.Tree.Stat(name)
		return err
	})
	return info, err
}

func (t *hookedTree) Open(name string) (file vfs.File, err error) {
	err = t.look(func() error {
		file, err = t.Tree.Open(name)
		return err
	})
	return file, err
}

// OpenTree counts links and removals in the directory.
func (f *Failing) OpenTree(name string) (vfs.Tree, error) {
	return OpenTree(f.FS, name, TreeHooks{
		Link: func(oldname, newname string, do func() error) error {
			return asLinkError(Link, oldname, newname, f.do(Link, newname, do))
		},
		Remove: func(path string, do func() error) error { return f.do(Remove, path, do) },
	})
}

// OpenTree opens a directory outside of that which Lossy looks after. Names that links make inside are lost as others are.
func (l *Lossy) OpenTree(name string) (vfs.Tree, error) {
	if l.inside(name) {
		return nil, &fs.PathError{Op: "open", Path: name, Err: errors.ErrUnsupported}
	}
	look := func(do func() error) error {
		_, err := alive(l, func() (any, error) { return nil, do() })
		return err
	}
	return OpenTree(l.inner, name, TreeHooks{
		Link: func(_, newname string, do func() error) error {
			return look(func() error { return l.change(newname, "", do) })
		},
		Remove: func(_ string, do func() error) error { return look(do) },
		Look:   look,
	})
}
