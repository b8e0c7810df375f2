package adopt

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"packhouse/blobstore/vfs"
	"packhouse/internal/terminal"
	"packhouse/repo/layout"
)

// try tries what only the kernel knows: whether a file of each kind can be linked, or else cloned. Then it looks whether there is space. device is that
// of the data directory.
func (s *Survey) try(o Options, source vfs.Tree, device uint64) error {
	if s.Refused > 0 || s.Files == 0 {
		return nil // nothing will be done
	}
	linked := false
	copies := Copies{} // that take space
	for _, k := range s.kinds {
		why, err := "", errOther
		if k.place.device == device {
			why, err = tryLink(o, source, k.first)
		}
		switch {
		case err == nil && why == "":
			linked = true
			continue
		case err == nil:
			s.refuse(k.first, why)
			continue
		case !errors.Is(err, errOther):
			return fmt.Errorf("%s: %w", oneLine(k.first), vfs.WithoutPath(err))
		}
		s.Copies.Files += k.Files
		s.Copies.Bytes += k.Bytes
		if !clones(o, source, k.largest) { // what is empty has nothing that could be shared
			copies.Files += k.Files
			copies.Bytes += k.Bytes
		}
	}
	s.Clones = s.Copies.Files > 0 && copies.Files == 0
	if !linked && s.Refused == 0 {
		s.Method = layout.MethodCopy
	}
	return s.fits(o, copies)
}

// errOther means that a link is not possible between the two places, but a copy is.
var errOther = errors.New("another file system or mount")

// tryLink gives a file a name in the data directory and takes it back. why says in a line what the kernel refuses.
func tryLink(o Options, source vfs.Tree, key string) (why string, err error) {
	dir, err := source.Dir(path.Dir(key))
	if err != nil {
		return "", err
	}
	defer dir.Close() // it is only read
	trial := o.trialName()
	err = dir.Link(path.Base(key), trial)
	switch {
	case err == nil:
		return "", o.FS.Remove(trial)
	case vfs.OtherFileSystem(err), errors.Is(err, syscall.EMLINK), errors.Is(err, errors.ErrUnsupported):
		return "", errOther
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EROFS):
		return fmt.Sprintf("no name can be made for it in %s (%v): run this as the user of the server (sudo -u), and look whether the disk can be written to", o.target(), vfs.WithoutPath(err)), nil
	case errors.Is(err, fs.ErrPermission):
		return "the kernel refuses to link it: run this, and the server, as the user whom the directory belongs to (sudo -u), or as root", nil
	case vfs.NoSpace(err):
		return fmt.Sprintf("no name can be made for it in %s (%v): free some space there", o.target(), vfs.WithoutPath(err)), nil
	}
	return "", err
}

// clones tells whether a file of the source can be cloned, which needs no space.
func clones(o Options, source vfs.Tree, key string) (yes bool) {
	dir, err := source.Dir(path.Dir(key))
	if err != nil {
		return false
	}
	defer dir.Close() // it is only read
	file, err := dir.Open(path.Base(key))
	if err != nil {
		return false
	}
	defer file.Close() // it is only read
	name := o.trialName()
	trial, err := o.FS.Create(name)
	if err != nil {
		return false
	}
	cloner, ok := trial.(vfs.Cloner)
	yes = ok && cloner.CloneOf(file) == nil
	return errors.Join(trial.Close(), o.FS.Remove(name)) == nil && yes
}

// trialName is free, and in nobody's way where a crash leaves it.
func (o Options) trialName() string {
	if target := o.target(); target != o.Into {
		return filepath.Join(target, layout.AdoptingFile+"-"+rand.Text())
	}
	return filepath.Join(o.Into, ".adopt-"+strings.ToLower(rand.Text())) // no repository has such a name
}

// What an adoption takes on the disk of the data directory.
const (
	perFile    = 768      // bytes of each file's rows, of its place in the list, and of its name
	perCopy    = 8 << 10  // bytes of a copy beside those that it has: the rest of a block, and its checksums
	spareSpace = 64 << 20 // bytes that are left free beside that
	inodes     = 300      // of the directories and of the index
)

// fits looks whether the disk has what is needed. What an interrupted adoption has made is there already, and not counted.
func (s *Survey) fits(o Options, copies Copies) error {
	if layout.IsAdopting(o.FS, o.dir()) {
		return nil
	}
	free, _, err := o.FS.Space(o.target())
	if err != nil {
		return vfs.WithoutPath(err)
	}
	if need := copies.Bytes + copies.Files*perCopy + s.Files*perFile + spareSpace; need > free {
		what := fmt.Sprintf("the names and the index of %d files", s.Files)
		if copies.Files > 0 {
			what += fmt.Sprintf(", and copies of %d that are on another file system or mount,", copies.Files)
		}
		s.Short = fmt.Sprintf("%s need %s in %s, of which %s are free: free some space there, or choose a data directory on the file system of the source",
			what, terminal.Bytes(need), o.target(), terminal.Bytes(free))
		return nil
	}
	// A clone is a file as well, and a copy that is none has its checksums in a file of their own.
	left, total, err := o.FS.Inodes(o.target())
	if need := s.Copies.Files + copies.Files + inodes; err == nil && total > 0 && need > left {
		s.Short = fmt.Sprintf("%d files and directories have to be made in %s, whose file system has inodes for %d: remove small files there, or choose a data directory on the file system of the source",
			need, o.target(), left)
	}
	return vfs.WithoutPath(err)
}
