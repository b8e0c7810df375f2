package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"packhouse/blobstore/vfs"
	"packhouse/repo/keys"
	"packhouse/repo/layout"
)

// Problem is a file that is in the way of an adoption.
type Problem struct {
	Key string `json:"key"` // the path of the file below the source, or of a directory, with a slash at its end
	Why string `json:"why"`
}

func (p Problem) String() string { return oneLine(p.Key) + ": " + p.Why }

// oneLine is a name for an error: quoted if it has what a terminal would obey, as names of a foreign directory may.
func oneLine(name string) string {
	if strings.ContainsFunc(name, func(c rune) bool { return !strconv.IsPrint(c) || c == utf8.RuneError }) {
		return strconv.Quote(name)
	}
	return name
}

// Survey is what a look at the source found.
type Survey struct {
	Layout  string
	Dialect string
	Files   int64 // that become items
	Bytes   int64
	Skipped int64     // unfinished uploads, and the server's own files
	Oldest  time.Time // when the oldest was stored
	Newest  string    // the path of the newest that completed a backup
	Backup  time.Time // when that was stored; zero: there is none
	// Method is how files are taken in: "link", or where the source is on another file system "copy".
	Method string
	// Problems are the first of the files that cannot be taken in; Refused is the number of all.
	Problems []Problem
	Refused  int64
	// Current are the first of the locks and sessions that were touched a moment ago, with their age.
	Current []Problem
	// Server is the program that serves the directory now, and Process its number, as far as command lines show it; "": none does.
	Server  string
	Process int

	// Copies are the files that cannot be linked, because they lie on another file system or mount; Clones tells that all of them can be cloned.
	Copies Copies
	Clones bool
	// Short says what the disk of the data directory has too little of; "": nothing.
	Short string

	foreign foreign
	owners  map[uint32]bool // of the files
	kinds   []*kind         // in the order in which they were found
}

// Copies are files and their bytes.
type Copies struct {
	Files int64 `json:"files"`
	Bytes int64 `json:"bytes"`
}

// kind are files that the kernel lets one link, or not, alike.
type kind struct {
	place   place
	first   string // the path of one, below the source
	largest string // that of the largest
	size    int64  // of that
	Copies
}

// place is what a link depends on: the mount of a file, and its owner.
type place struct {
	device, mount uint64
	owner         uint32
}

// Err says in one line why the source cannot be adopted; nil: it can.
func (s *Survey) Err(force bool) error {
	switch {
	case s.Refused == 1:
		return errors.New(s.Problems[0].String())
	case s.Refused > 1:
		return fmt.Errorf("%d files cannot be adopted; the first is %v", s.Refused, s.Problems[0])
	case s.Files == 0:
		return fmt.Errorf("there is nothing to adopt in the directory")
	case s.Short != "":
		return errors.New(s.Short)
	case s.Server != "" && !force:
		return fmt.Errorf("%s serves the directory (process %d): stop it first, or use --force when it does not use it", s.Server, s.Process)
	case len(s.Current) > 0 && !force:
		return fmt.Errorf("%v: the directory may be in use: stop its server and its clients, or use --force when none runs", s.Current[0])
	}
	return nil
}

// shownProblems is how many of a kind a survey keeps.
const shownProblems = 20

// Look looks at all files of the source, and tries what the kernel could refuse: it gives one file of each owner and each mount a name in the data
// directory, and takes it back. It changes nothing else. What cannot be taken in is in the survey; an error is one of the directory
// itself. Errors: of a directory whose layout is not known, ctx.Err(), I/O.
func Look(ctx context.Context, o Options) (*Survey, error) {
	o = o.withDefaults()
	source, err := openSource(o)
	if err != nil {
		return nil, err
	}
	defer source.Close() // it is only read
	return look(ctx, o, source)
}

func look(ctx context.Context, o Options, source vfs.Tree) (*Survey, error) {
	l, err := byName(o.FS, o.Source, o.Layout)
	if err != nil {
		return nil, err
	}
	s := &Survey{foreign: l, Method: layout.MethodLink}
	s.Layout, s.Dialect = l.names()
	rights, err := ownRights()
	if err != nil {
		return nil, err
	}
	here, err := deviceOf(o.FS, o.target()+"/.")
	if err != nil {
		return nil, err
	}
	s.Server, s.Process = running(o.Source)
	s.owners = make(map[uint32]bool)
	now := o.Now()
	kinds := make(map[place]*kind)
	w := &walker{tree: source, foreign: l, refuse: s.refuse}
	w.skip = func(string, fs.FileInfo) { s.Skipped++ }
	w.take = func(f found) error {
		if st, ok := f.info.Sys().(*syscall.Stat_t); ok {
			link := uint64(st.Dev) == here
			if why := rights.refusal(o.path(f.path), st, link); why != "" {
				s.refuse(f.path, why)
			} else if p, ok := f.info.(vfs.Placed); ok && link && p.Fixed() {
				s.refuse(f.path, "it has the attribute immutable or append-only, and so it cannot be linked: take that away first (lsattr; chattr -i -a)")
			}
			s.owners[st.Uid] = true
			at := place{device: uint64(st.Dev), owner: st.Uid}
			if p, ok := f.info.(vfs.Placed); ok {
				at.mount = p.Mount()
			}
			k := kinds[at]
			if k == nil {
				k = &kind{place: at, first: f.path, largest: f.path}
				kinds[at] = k
				s.kinds = append(s.kinds, k)
			}
			if k.Files++; f.info.Size() > k.size {
				k.largest, k.size = f.path, f.info.Size()
			}
			k.Bytes += f.info.Size()
		}
		if age := now.Sub(f.info.ModTime()); l.current(f.path, age) && len(s.Current) < shownProblems {
			s.Current = append(s.Current, Problem{f.path, fmt.Sprintf("touched %v ago", max(age, 0).Round(time.Second))})
		}
		stored := f.info.ModTime()
		if stored.After(now) { // as layout.Adopted.Item has it
			stored = now
		}
		if l.backup(f.path) && stored.After(s.Backup) {
			s.Newest, s.Backup = f.path, stored
		}
		if s.Files == 0 || stored.Before(s.Oldest) {
			s.Oldest = stored
		}
		s.Files++
		s.Bytes += f.info.Size()
		if s.Files%1024 == 0 {
			o.Progress(Progress{Step: "looking at the files", Files: s.Files, Bytes: s.Bytes})
		}
		return nil
	}
	if err := w.walk(ctx); err != nil {
		return nil, err
	}
	return s, s.try(o, source, here)
}

// refuse notes what cannot be taken in.
func (s *Survey) refuse(key, why string) {
	if s.Refused++; s.Refused <= shownProblems {
		s.Problems = append(s.Problems, Problem{key, why})
	}
}

// deviceOf is the file system of a directory.
func deviceOf(fsys vfs.FS, dir string) (uint64, error) {
	info, err := fsys.Stat(dir)
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return uint64(st.Dev), nil
	}
	return 0, nil // tests
}

// exempt tells whether quotas do not count an item.
func exempt(key string, size int64) bool {
	return keys.Coordination(key) && size <= keys.MaxCoordination
}
