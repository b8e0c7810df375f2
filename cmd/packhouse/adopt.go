package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/holder"
	"packhouse/internal/terminal"
	"packhouse/repo"
	"packhouse/repo/adopt"
	"packhouse/repo/datadir"
)

func adoptCommand(s streams) *cobra.Command {
	f := &adminFlags{}
	o := adopt.Options{}
	dryRun := false
	cmd := &cobra.Command{
		Use:   "adopt DIR --as NAME",
		Short: "Make a repository of the directory of another server, without copying it",
		Long: `Makes the repository NAME of a directory of BorgStore's file backend (borg with a file: or ssh: URL,
borgstore-server-rest) or of vger-server or vykar-server. Each file gets a second name in the new repository
(a hard link), so nothing is copied and no space is needed; from another file system files are copied. The
directory itself stays as it is, and can be removed once the repository has been read by a scrub.

Stop the other server and its clients first: a lock or session that was touched a moment ago is refused unless
--force is given. The server of the data directory must not run either. What cannot be adopted is told before
anything is changed. If the command is interrupted, there is no repository, and running it again completes it;
to give up, remove NAME from the data directory.

  packhouse adopt /srv/borg/laptop --as laptop --dry-run
  packhouse adopt /srv/borg/laptop --as laptop -d /var/lib/packhouse
  packhouse scrub --repo laptop

Links need the user to whom the files belong, or root. Until a scrub has read it, an item is unverified: packhouse
repo info counts these.`,
		Args: exactly(1, "a DIR"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := datadir.CheckName(o.Name); err != nil {
				return usage("--as: %w", err)
			}
			var err error
			if o.Into, err = f.dir(cmd); err != nil {
				return err
			}
			if o.Source, err = sourceDir(args[0], filepath.Join(o.Into, o.Name), o.Into); err != nil {
				return err
			}
			return adoptInto(cmd, s, f, o, dryRun)
		},
	}
	f.add(cmd)
	cmd.Flags().StringVar(&o.Name, "as", "", "`name` of the new repository")
	cmd.Flags().StringVar(&o.Layout, "layout", "", "borgstore or vger, for a directory that does not show which it is")
	cmd.Flags().BoolVar(&o.Force, "force", false, "also when a lock or session was touched a moment ago")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "only look, and tell what would be done")
	return cmd
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
	return real, nil
}

// within tells whether a path is a directory or lies in it.
func within(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, strings.TrimSuffix(dir, "/")+"/")
}

func adoptInto(cmd *cobra.Command, s streams, f *adminFlags, o adopt.Options, dryRun bool) (err error) {
	bar := terminal.NewProgress(s.err, "")
	defer bar.End()
	o.Progress = func(p adopt.Progress) {
		if p.FilesTotal == 0 {
			bar.SetTitle(fmt.Sprintf("%s: %d", p.Step, p.Files))
		} else {
			bar.SetTitle(fmt.Sprintf("%s: %d of %d files", p.Step, p.Files, p.FilesTotal))
		}
		bar.Set(p.Bytes, p.BytesTotal)
	}
	if dryRun {
		survey, err := adopt.Look(cmd.Context(), o)
		if err != nil {
			return err
		}
		bar.End()
		if err := showSurvey(s, f, survey, "would become"); err != nil {
			return err
		}
		return errors.Join(survey.Err(o.Force), vacant(filepath.Join(o.Into, o.Name), o.Name))
	}
	if err := holder.CheckOwner(o.Into, os.Geteuid()); err != nil {
		return err
	}
	release, err := claimOffline(cmd.Context(), o.Into, "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, release()) }()
	if err := vacant(filepath.Join(o.Into, o.Name), o.Name); err != nil {
		return err
	}
	began := time.Now()
	survey, err := adopt.Run(cmd.Context(), o)
	bar.End()
	if err != nil {
		return err
	}
	if err := showSurvey(s, f, survey, "became"); err != nil || f.json {
		return err
	}
	_, err = fmt.Fprintf(s.out, "adopted as %s in %v; all items are unverified until they have been read: packhouse scrub --repo %s\n",
		o.Name, time.Since(began).Round(time.Millisecond), o.Name)
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
		text, err := json.Marshal(map[string]any{
			"layout": survey.Layout, "dialect": survey.Dialect, "files": survey.Files, "bytes": survey.Bytes, "skipped": survey.Skipped,
			"method": survey.Method, "refused": survey.Refused, "problems": survey.Problems, "current": survey.Current,
		})
		if err != nil {
			return err
		}
		return terminal.JSON(s.out, text)
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
	for _, p := range append(survey.Problems, survey.Current...) {
		if _, err := fmt.Fprintf(s.out, "  %s: %s\n", terminal.Printable(p.Key), p.Why); err != nil {
			return err
		}
	}
	return nil
}
