package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/shell"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// A server that is pointed at the directory of another one says whose it is. With --adopt it makes the repositories of it before it serves. They
// lie beside that directory, as nothing is written into it: what is below DIR.packhouse was adopted from DIR. Each start looks anew what is to be
// done: one that was interrupted is continued, and after the last it only serves, also when DIR has been removed.

// besideSuffix is what the name of the directory beside another server's ends with.
const besideSuffix = ".packhouse"

// source is a directory of another server of which a repository is to be made.
type source struct {
	dir  string // absolute
	name string // of the repository
}

// placement is where a server with --adopt has its repositories.
type placement struct {
	data    string   // the data directory
	root    string   // the repository at "/": clients of a server of one repository have a URL without a name; "": none
	sources []source // of which the repositories may not have been made yet
}

func addAdopt(flags *pflag.FlagSet, adopts *bool, what string) {
	flags.BoolVar(adopts, "adopt", false, "if "+what+" is the directory of another server: make a repository of it without copying, in a directory beside it, DIR"+besideSuffix+", and serve that; see packhouse adopt")
}

// placeBeside tells where a server of many repositories has them. dir is the data directory that was asked for, mounted the repository that the configuration
// has at "/".
func placeBeside(dir, mounted string) (placement, error) {
	dir, err := datadir.ResolveDir(dir)
	if err != nil {
		return placement{}, fmt.Errorf("data directory: %w", err)
	}
	here, there := placement{data: dir}, placement{data: dir + besideSuffix, root: nameFor(dir, mounted)}
	strangers, err := datadir.Strangers(dir)
	switch {
	case err != nil:
		return placement{}, fmt.Errorf("data directory: %w", err)
	case layout.HasIndex(dir), datadir.AnyRepository(dir):
		return here, nil
	case len(strangers) == 0: // also without a directory
		if _, err := datadir.Identity(vfs.OS(), there.data); err != nil {
			return here, nil
		}
		if adoptedFrom(filepath.Join(there.data, layout.DirName(there.root))) != dir {
			there.root = "" // there were several
		}
		return there, nil
	}
	if adopt.Recognize(vfs.OS(), dir) == "" {
		there.sources = sourcesIn(dir, strangers)
	}
	nested, err := nestedRestic(dir)
	switch {
	case err != nil:
		return placement{}, err
	case len(nested) > 0 && adopt.Recognize(vfs.OS(), dir) != "":
		return placement{}, fmt.Errorf("--adopt: %s is a repository of rest-server, and so is %s in it: adopt each by itself, as in packhouse adopt %s --as %s -d NEW",
			dir, nested[0].name, shell.Word(nested[0].dir), shell.Word(nested[0].name))
	}
	if there.sources = append(there.sources, nested...); len(there.sources) > 0 {
		there.root = ""
		return there, nil
	}
	if _, _, err := adopt.Detect(vfs.OS(), dir); err != nil {
		return placement{}, fmt.Errorf("--adopt: %s: %w", dir, err)
	}
	there.sources = []source{{dir, there.root}}
	return there, nil
}

// sourcesIn are those of the strangers in a directory that are directories of other servers.
func sourcesIn(dir string, strangers []string) (sources []source) {
	for _, entry := range strangers {
		if name, ok := datadir.NameOf(entry); ok && otherServer(filepath.Join(dir, entry)) != "" {
			sources = append(sources, source{filepath.Join(dir, entry), name})
		}
	}
	return sources
}

// holdsOthers is the error of a server, without --adopt, that is pointed at a directory in which those of other servers lie, as in that of rest-server;
// nil: there are none, or it has been our data directory before.
func holdsOthers(dir string, strangers []string) error {
	if _, err := datadir.Identity(vfs.OS(), dir); !errors.Is(err, datadir.ErrNoIdentity) {
		return nil
	}
	sources := sourcesIn(dir, strangers)
	for _, name := range datadir.ResticIn(dir) {
		if strings.Contains(name, "/") {
			sources = append(sources, source{filepath.Join(dir, name), name})
		}
	}
	if len(sources) == 0 {
		return nil
	}
	const most = 5
	var shown []string
	for _, source := range sources[:min(len(sources), most)] {
		shown = append(shown, source.name)
	}
	if len(sources) > most {
		shown = append(shown, fmt.Sprintf("and %d more", len(sources)-most))
	}
	first, beside := sources[0], dir+besideSuffix
	found := fmt.Sprintf("%s has repositories of %s: %s", dir, otherServer(first.dir), strings.Join(shown, ", "))
	if made := filepath.Join(beside, layout.DirName(first.name)); layout.HasIndex(made) && adoptedFrom(made) == first.dir {
		return fmt.Errorf("%s. The first was adopted as %s: serve that data directory, by its path or with --adopt", found, made)
	}
	return fmt.Errorf("%s. To make repositories of them without copying, in a data directory NEW on the same file system, for each: packhouse adopt %s --as %s -d NEW. "+
		"Or start this server with --adopt, which makes all of them in %s and serves it", found, shell.Word(first.dir), shell.Word(first.name), beside)
}

// nestedRestic are the repositories of rest-server whose names have two parts.
func nestedRestic(dir string) (sources []source, err error) {
	for _, name := range datadir.ResticIn(dir) {
		if !strings.Contains(name, "/") {
			continue
		}
		if err := datadir.CheckName(name); err != nil {
			return nil, fmt.Errorf("--adopt: %s: %w; adopt each repository by itself, under another name", filepath.Join(dir, name), err)
		}
		sources = append(sources, source{filepath.Join(dir, name), name})
	}
	return sources, nil
}

// nameFor is the name of the repository that is made of a directory.
func nameFor(dir, mounted string) string {
	switch {
	case mounted != "":
		return mounted
	case datadir.CheckName(filepath.Base(dir)) == nil:
		return filepath.Base(dir)
	}
	return "repository"
}

// over has a configuration be that of the server in the data directory of the placement.
func (p placement) over(overrides func(*config.Config)) func(*config.Config) {
	return func(c *config.Config) {
		overrides(c)
		c.DataDir, c.Root = p.data, p.root
	}
}

// placeOneBeside is placeBeside for a server of one repository: dir is its directory. source is the one of which it is to be made; "": nothing is to be done.
func placeOneBeside(dir string) (at, source string, err error) {
	beside := dir + besideSuffix
	err = datadir.Inspect(dir)
	switch {
	case err == repo.ErrNoRepository: // nothing is there
		if layout.HasIndex(beside) || layout.IsAdopting(vfs.OS(), beside) {
			return beside, "", nil
		}
		return dir, "", nil
	case !errors.Is(err, repo.ErrForeign):
		return dir, "", nil // a repository, or what is left of one; who opens it says what is wrong
	}
	of, dialect, err := adopt.Detect(vfs.OS(), dir)
	switch {
	case err != nil:
		return "", "", fmt.Errorf("--adopt: %s: %w", dir, err)
	case dialect != "borgstore":
		return "", "", fmt.Errorf("--adopt: %s is a directory of %s, whose clients %s does not serve: use packhouse serve --adopt -d %s", dir, serverOf[of], restName, shell.Word(dir))
	}
	return beside, dir, nil
}

// notOurs is the error of a server, without --adopt, that is pointed at the directory of another; nil: it is none that is known.
func notOurs(dir string) error {
	of := otherServer(dir)
	if of == "" {
		return nil
	}
	beside, base := dir+besideSuffix, nameFor(dir, "")
	for _, made := range []string{beside, filepath.Join(beside, layout.DirName(base))} {
		if layout.HasIndex(made) && adoptedFrom(made) == dir {
			return fmt.Errorf("%s is a directory of %s, and was adopted as %s: serve that one, by its path or with --adopt", dir, of, made)
		}
	}
	return fmt.Errorf("%s is a directory of %s. To make a repository of it without copying, in a data directory NEW on the same file system: packhouse adopt %s --as NAME -d NEW. "+
		"Or start this server with --adopt, which makes it in %s and serves it", dir, of, shell.Word(dir), beside)
}

// adoptedFrom is the directory of which the repository in dir was made, or is being made; "": none, or its list is not there.
func adoptedFrom(dir string) string {
	list, err := layout.OpenAdoptionList(vfs.OS(), dir)
	if err != nil {
		return ""
	}
	defer list.Close() // it is only read
	return list.Source
}

// takeIn makes a repository of the directory of another server, unless that was done, for a server that has claimed the data directory and answers
// nobody yet. stopped: ctx has ended, and the next start continues. notify tells the service manager.
func takeIn(ctx context.Context, log *slog.Logger, notify func(string), o adopt.Options) (stopped bool, err error) {
	made := o.Dir
	if made == "" {
		made = filepath.Join(o.Into, layout.DirName(o.Name))
	}
	if datadir.Inspect(made) == nil {
		if from := adoptedFrom(made); from != "" && from != o.Source {
			return false, fmt.Errorf("%s is a repository that was adopted from %s, not from %s: move it away, or serve %s", made, from, o.Source, o.Into)
		}
		log.Info("the directory of the other server was adopted before, and is not looked at", "repository", o.Name, "source", o.Source)
		return false, nil
	}
	if err := vacant(made, o.Name); err != nil {
		return false, err
	}
	if err := sameFileSystem(o.Source, o.Into); err != nil {
		return false, err
	}
	if o.Source, err = sourceDir(o.Source, made, o.Into); err != nil {
		return false, err
	}
	log.Info("adopting the directory of another server; clients are answered when that is done", "repository", o.Name, "source", o.Source)
	o.Progress = progressLog(log, notify)
	survey, err := adopt.Run(ctx, o)
	switch {
	case err != nil && ctx.Err() != nil:
		log.Info("the adoption was interrupted; the next start continues it", "repository", o.Name, "source", o.Source)
		return true, nil
	case err != nil:
		return false, fmt.Errorf("adopt %s: %w. The command by itself has more options: packhouse adopt %s --as %s -d %s", o.Source, err, shell.Word(o.Source), shell.Word(o.Name), shell.Word(o.Into))
	}
	log.Info("adopted; its items are unverified until a scrub has read them", "repository", o.Name, "source", o.Source, "layout", survey.Layout,
		"files", survey.Files, "bytes", survey.Bytes)
	return false, nil
}

// sameFileSystem wants links to be possible: copying what takes days is not for the start of a server.
func sameFileSystem(source, into string) error {
	info, err := os.Stat(source)
	if err != nil {
		return err
	}
	around, err := os.Stat(into)
	if err == nil && !datadir.SameDevice(info, around) {
		err = fmt.Errorf("--adopt takes files in by links only, and %s is on another file system than %s. If a file system is mounted at the latter, move its files into a directory there; to copy them: packhouse adopt %s --as NAME -d NEW",
			into, source, shell.Word(source))
	}
	return err
}

// startExtension is for how much longer the service manager shall wait for the server with each sign of life.
const startExtension = time.Minute

// progressLog logs how far an adoption is, from time to time.
func progressLog(log *slog.Logger, notify func(string)) func(adopt.Progress) {
	const every = 10 * time.Second
	said, step := time.Now(), ""
	return func(p adopt.Progress) {
		now := time.Now()
		if now.Sub(said) < every && p.Step == step {
			return
		}
		if said, step = now, p.Step; notify != nil {
			notify(fmt.Sprintf("STATUS=adopting: %s, %d of %d files\nEXTEND_TIMEOUT_USEC=%d", p.Step, p.Files, p.FilesTotal, startExtension.Microseconds()))
		}
		if p.FilesTotal == 0 {
			log.Info("adopting: "+p.Step, "files", p.Files)
			return
		}
		log.Info("adopting: "+p.Step, "files", p.Files, "total_files", p.FilesTotal, "bytes", p.Bytes, "total_bytes", p.BytesTotal)
	}
}

// hintOfBeside adds to the error of a directory beside another server's that may not be made, what to do.
func hintOfBeside(err error, p placement) error {
	if len(p.sources) == 0 || !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("%w: make it for the user of the server first: install -d -m 700 -o USER %s", err, p.data)
}
