package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/holder"
	"packhouse/blobstore/vfs"
	"packhouse/internal/shell"
	"packhouse/internal/terminal"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

func adoptCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	o := adopt.Options{}
	dryRun, move, yes, finish, abandon := false, false, false, "", ""
	cmd := &cobra.Command{
		Use:   "adopt DIR --as NAME | --finish NAME | --abandon NAME",
		Short: "Make a repository of the directory of another server, without copying it",
		Long: `Makes the repository NAME of a directory of BorgStore's file backend (borg with a file: or ssh: URL,
borgstore-server-rest), of rest-server or restic itself, or of vger-server or vykar-server. Each file gets a second name in the new repository
(a hard link), so nothing is copied and no space is needed; from another file system files are copied. The
directory itself stays as it is, and can be removed once the repository has been read by a scrub.
With --dry-run it looks at all files, tries what the kernel could refuse (a file of each owner and mount gets a name
in the data directory for a moment), looks whether the disk suffices, and says what would be done.

Stop the other server and its clients first: a directory that a running server has on its command line, or with a
lock or session that was touched a moment ago, is refused unless --force is given. The server of the data directory may run. What cannot be adopted is told before anything is
changed. If the command is interrupted, there is no repository, and running it again completes it. --abandon NAME
gives it up instead: what was taken in is taken back, and the name is free. It refuses to remove files that are
not in the directory any more, unless --force is given.

With --finish NAME it removes from the directory what was adopted from it, when a scrub has read all items and has
found no damage. --move does that at once, without a scrub.

  packhouse adopt /srv/borg/laptop --as laptop --dry-run
  packhouse adopt /srv/borg/laptop --as laptop -d /var/lib/packhouse
  packhouse scrub --repo laptop --wait
  packhouse adopt --finish laptop
  packhouse adopt --abandon laptop

Links need the user to whom the files belong, or root. Until a scrub has read it, an item is unverified: packhouse
repo info counts these.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case finish != "" && abandon != "":
				return usage("--finish is for an adoption that is complete, and --abandon for one that is not: give one of them")
			case (finish != "" || abandon != "") && (len(args) > 0 || o.Name != ""):
				return usage("--finish and --abandon take the name of a repository, and neither DIR nor --as")
			case finish != "":
				return finishAdoption(cmd, s, f, finish, yes)
			case abandon != "":
				o.Name = abandon
				return abandonAdoption(cmd, s, f, o, yes)
			case len(args) == 0:
				return usage("%s needs a DIR; see %s --help", cmd.CommandPath(), cmd.CommandPath())
			}
			return adoptDir(cmd, s, f, args[0], o, dryRun, move)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.Name, "as", "", "`name` of the new repository")
	cmd.Flags().StringVar(&o.Layout, "layout", "", "borgstore, restic or vger, for a directory that does not show which it is")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also when a lock or session was touched a moment ago, or a running server has DIR on its command line; with --abandon: also files that DIR does not have any more")
	cmd.Flags().BoolVar(&move, "move", false, "remove from DIR what was adopted, as soon as the repository is there")
	cmd.Flags().StringVar(&finish, "finish", "", "remove what was adopted as `NAME` from the directory that it came from")
	cmd.Flags().StringVar(&abandon, "abandon", "", "give up the adoption as `NAME`, which was not completed")
	cmd.Flags().BoolVar(&yes, "yes", false, "with --finish, or --abandon --force: do not ask for confirmation")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only look and try, and tell what would be done")
	return cmd
}

// adoptDir makes the repository o.Name of a directory, or looks at it.
func adoptDir(cmd *cobra.Command, s streams, f *adminFlags, dir string, o adopt.Options, dryRun, move bool) (err error) {
	if o.Name == "" {
		return usage("--as NAME is missing: the name of the new repository")
	}
	if err := datadir.CheckName(o.Name); err != nil {
		return usage("--as: %w", err)
	}
	if o.Into, err = f.dir(cmd); err != nil {
		return err
	}
	if o.Source, err = sourceDir(dir, filepath.Join(o.Into, layout.DirName(o.Name)), o.Into); err != nil {
		return err
	}
	return adoptInto(cmd, s, f, o, dryRun, move)
}

// sourceDir is the directory to adopt, absolute. It may neither be in the new repository nor have the data directory in it.
func sourceDir(path, dir, data string) (string, error) {
	real, err := datadir.ResolveDir(path)
	if err != nil {
		return "", err
	}
	info, err := os.Stat(real)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return "", fmt.Errorf("there is no directory %s", path)
	case err != nil:
		return "", err
	case !info.IsDir():
		return "", fmt.Errorf("%s is not a directory", path)
	case within(real, dir):
		return "", usage("the directory is that of the new repository: choose another name, or move it away first")
	case within(data, real):
		return "", usage("the data directory %s is in the directory to adopt: choose a data directory outside of it, on the same file system", data)
	case datadir.Inspect(real) == nil:
		return "", fmt.Errorf("%s is a repository of Packhouse already: move it into the data directory", path)
	}
	own, err := ownedBy(real)
	if err == nil && own != "" {
		err = fmt.Errorf("%s: its files are those of the repository of Packhouse in %s", path, own)
	}
	return real, err
}

// ownedBy is the repository of Packhouse that a directory lies in, or one that lies right below it; "": there is none. Its files look like
// items of BorgStore, where the layout is not to be recognized.
func ownedBy(dir string) (string, error) {
	for above := filepath.Dir(dir); above != filepath.Dir(above); above = filepath.Dir(above) {
		if layout.HasIndex(above) && layout.HasBlobs(above) {
			return above, nil
		}
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		if below := filepath.Join(dir, entry.Name()); entry.IsDir() && layout.HasIndex(below) && layout.HasBlobs(below) {
			return below, nil
		}
	}
	return "", nil
}

// within tells whether a path is a directory or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

// adoptionBar shows the progress of an adoption.
func adoptionBar(s streams) (bar *terminal.Progress, show func(adopt.Progress)) {
	bar = terminal.NewProgress(s.err, "")
	return bar, func(p adopt.Progress) {
		if p.FilesTotal > 0 { // else nobody knows how long it takes
			bar.SetTitle(fmt.Sprintf("%s: %d of %d files", p.Step, p.Files, p.FilesTotal))
			bar.Set(p.Bytes, p.BytesTotal)
		}
	}
}

func adoptInto(cmd *cobra.Command, s streams, f *adminFlags, o adopt.Options, dryRun, move bool) error {
	dialect := o.Layout // they have the same names
	if dialect == "" {
		_, dialect, _ = adopt.Detect(vfs.OS(), o.Source) // who adopts says what is wrong
	}
	if dialect != "" {
		warnUnreachable(s, o.Name, dialect)
	}
	bar, show := adoptionBar(s)
	defer bar.End()
	o.Progress = show
	if dryRun {
		survey, err := adopt.Look(cmd.Context(), o)
		if err != nil {
			return err
		}
		bar.End()
		if err := showSurvey(s, f, survey, "would become"); err != nil {
			return err
		}
		return errors.Join(survey.Err(o.Force), vacant(filepath.Join(o.Into, layout.DirName(o.Name)), o.Name))
	}
	if err := holder.CheckOwner(o.Into, os.Geteuid()); err != nil {
		return err
	}
	if err := vacant(filepath.Join(o.Into, layout.DirName(o.Name)), o.Name); err != nil {
		return err
	}
	return withAdminClient(cmd, s, f, func(c *adminClient) error {
		if c.Single {
			return usage("the directory is a single repository; give the data directory with --data-dir")
		}
		o.Mark = func(ctx context.Context) error { return c.BeginAdoption(ctx, o.Name, o.Source) }
		began := time.Now()
		survey, err := adopt.Run(cmd.Context(), o)
		bar.End()
		if err != nil {
			return err
		}
		if f.json { // one value, also with --move
			var done *adopt.Finished
			if move {
				done, err = removeAdopted(cmd, s, c, o, o.Name)
			}
			return errors.Join(err, showJSON(s, survey, done))
		}
		if err := showSurvey(s, f, survey, "became"); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(s.out, "adopted as %s in %v; items that were not copied are unverified until they have been read: packhouse scrub --repo %s --wait\n",
			o.Name, time.Since(began).Round(time.Millisecond), shell.Word(o.Name)); err != nil || !move {
			return err
		}
		done, err := removeAdopted(cmd, s, c, o, o.Name)
		if err != nil {
			return err
		}
		return showFinished(s, o.Source, done)
	})
}

// finishAdoption removes the source of a repository whose items have all been read.
func finishAdoption(cmd *cobra.Command, s streams, f *adminFlags, name string, yes bool) error {
	dir, err := f.dir(cmd)
	if err != nil {
		return err
	}
	return withAdminClient(cmd, s, f, func(c *adminClient) error {
		o, known := adopt.Options{Into: dir, Name: name}, name
		if c.Single { // as borgstore-server-rest --adopt has made it
			if name != layout.NameIn(dir) {
				return usage("the directory is a single repository: --finish %s, or give the data directory with --data-dir", shell.Word(layout.NameIn(dir)))
			}
			o.Into, o.Dir, known = filepath.Dir(dir), dir, c.Only
		}
		r, _, err := c.Repository(cmd.Context(), known)
		if err != nil {
			return err
		}
		origin, err := c.Origin(cmd.Context(), known, false)
		switch {
		case err != nil:
			return err
		case origin == nil:
			return fmt.Errorf("%s was not adopted from another server", name)
		case !origin.Finished.IsZero():
			return fmt.Errorf("what was adopted as %s was removed from %s on %s", name, origin.Source, origin.Finished.Local().Format(time.RFC3339))
		case r.Usage.Unverified > 0 || r.Usage.Damaged > 0 || r.Usage.Missing > 0:
			return fmt.Errorf("%s has %d items that were not found sound yet, %d damaged and %d missing ones: run packhouse scrub --repo %s --wait, and see packhouse check %s; nothing was removed",
				name, r.Usage.Unverified, r.Usage.Damaged, r.Usage.Missing, shell.Word(name), shell.Word(name))
		}
		if !yes {
			what := fmt.Sprintf("This removes from %s the files that were adopted as %s: %d items, %s, are in the repository.",
				origin.Source, name, r.Usage.Items, terminal.Bytes(r.Usage.Bytes))
			if err := confirm(s, what, name, "--yes removes without asking"); err != nil {
				return err
			}
		}
		o.Source = origin.Source
		done, err := removeAdopted(cmd, s, c, o, known)
		switch {
		case err != nil:
			return err
		case f.json:
			return showJSON(s, nil, done)
		}
		return showFinished(s, origin.Source, done)
	})
}

// abandonAdoption takes back what was taken in under a name, if its adoption was not completed.
func abandonAdoption(cmd *cobra.Command, s streams, f *adminFlags, o adopt.Options, yes bool) (err error) {
	if err := datadir.CheckName(o.Name); err != nil {
		return usage("--abandon: %w", err)
	}
	if o.Into, err = f.dir(cmd); err != nil {
		return err
	}
	if err := holder.CheckOwner(o.Into, os.Geteuid()); err != nil {
		return err
	}
	switch err := datadir.Inspect(filepath.Join(o.Into, layout.DirName(o.Name))); {
	case err == nil:
		return fmt.Errorf("%s is complete: packhouse repo destroy removes it, and the directory that it came from stays", o.Name)
	case !errors.Is(err, datadir.ErrAdopting):
		return fmt.Errorf("%s: %w", o.Name, adopt.ErrNotAdopting)
	}
	if o.Force && !yes {
		what := fmt.Sprintf("This gives up the adoption as %s, also of files that the directory which it comes from does not have any more.", o.Name)
		if err := confirm(s, what, o.Name, "--yes removes without asking"); err != nil {
			return err
		}
	}
	return withAdminClient(cmd, s, f, func(c *adminClient) error {
		if c.Single {
			return usage("the directory is a single repository; give the data directory with --data-dir")
		}
		done, err := adopt.Abandon(cmd.Context(), o, func(ctx context.Context) error { return c.EndAdoption(ctx, o.Name) })
		switch {
		case err != nil:
			return err
		case f.json:
			text, err := json.Marshal(map[string]any{"source": done.Source, "files": done.Files})
			if err != nil {
				return err
			}
			return terminal.JSON(s.out, text)
		}
		_, err = fmt.Fprintf(s.out, "the adoption as %s was given up: %d files were taken back; %s is as it was\n", o.Name, done.Files, terminal.Printable(done.Source))
		return err
	})
}

// removeAdopted removes from the source what was adopted, and records that. known is the name that the server has for the repository.
func removeAdopted(cmd *cobra.Command, s streams, c *adminClient, o adopt.Options, known string) (*adopt.Finished, error) {
	bar, show := adoptionBar(s)
	o.Progress = show
	done, err := adopt.Finish(cmd.Context(), o)
	bar.End()
	if err == nil {
		_, err = c.Origin(cmd.Context(), known, true)
	}
	if err != nil {
		return nil, err
	}
	return &done, nil
}

func showFinished(s streams, source string, done *adopt.Finished) error {
	_, err := fmt.Fprintf(s.out, "removed %d files, %s, from %s\n", done.Files, terminal.Bytes(done.Bytes), source)
	if err == nil && done.Kept > 0 {
		_, err = fmt.Fprintf(s.out, "kept %d files that have changed since they were adopted; the first is %s\n", done.Kept, terminal.Printable(done.First))
	}
	if err == nil && done.Left {
		_, err = fmt.Fprintln(s.out, "the directory stays: other files are in it")
	}
	return err
}

// vacant wants nothing to be in the directory of a new repository but what an adoption has begun.
func vacant(dir, name string) error {
	err := datadir.Inspect(dir)
	switch {
	case err == nil:
		return fmt.Errorf("there is a repository %s already", name)
	case errors.Is(err, datadir.ErrAdopting), errors.Is(err, repo.ErrNoRepository) && !datadir.HasRest(err):
		return nil
	case errors.Is(err, repo.ErrNoRepository):
		return fmt.Errorf("files of a destroyed repository %s are still there: start the server, which removes them, or choose another name", name)
	}
	return err
}

func showSurvey(s streams, f *adminFlags, survey *adopt.Survey, became string) error {
	if f.json {
		return showJSON(s, survey, nil)
	}
	backup := "never"
	if !survey.Backup.IsZero() {
		backup = survey.Backup.Local().Format(time.RFC3339)
	}
	how := map[string]string{"link": "by hard links", "copy": "by copies, because the directory is on another file system"}[survey.Method]
	if _, err := fmt.Fprintf(s.out, "layout %s: %d files, %s, %s items %s; %d unfinished or of the server's own skipped; last backup %s\n",
		survey.Layout, survey.Files, terminal.Bytes(survey.Bytes), became, how, survey.Skipped, backup); err != nil {
		return err
	}
	if survey.Copies.Files > 0 {
		copied := "copied"
		if survey.Clones {
			copied = "cloned, which takes no space"
		}
		if _, err := fmt.Fprintf(s.out, "%d of the files, %s, are on another file system or mount, and are %s\n", survey.Copies.Files, terminal.Bytes(survey.Copies.Bytes), copied); err != nil {
			return err
		}
	}
	for _, p := range slices.Concat(survey.Problems, survey.Current) {
		if _, err := fmt.Fprintf(s.out, "  %s: %s\n", terminal.Printable(p.Key), p.Why); err != nil {
			return err
		}
	}
	return nil
}

// showJSON shows what a look or an adoption has found, and what was removed from the source; nil: nothing of that is to be shown.
func showJSON(s streams, survey *adopt.Survey, done *adopt.Finished) error {
	shown := make(map[string]any)
	if survey != nil {
		shown = map[string]any{
			"layout": survey.Layout, "dialect": survey.Dialect, "files": survey.Files, "bytes": survey.Bytes, "skipped": survey.Skipped,
			"method": survey.Method, "copies": survey.Copies, "clones": survey.Clones, "short": survey.Short, "refused": survey.Refused, "problems": survey.Problems, "current": survey.Current,
		}
	}
	if done != nil {
		shown["removed"] = map[string]any{"files": done.Files, "bytes": done.Bytes, "kept": done.Kept, "left": done.Left}
	}
	text, err := json.Marshal(shown)
	if err != nil {
		return err
	}
	return terminal.JSON(s.out, text)
}
