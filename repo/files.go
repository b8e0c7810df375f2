package repo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"
	"syscall"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo/layout"
)

// Folder is a directory of a repository for the server's own files, beside index and blobs.
type Folder string

// JobsFolder has the plans of queued jobs.
const JobsFolder Folder = layout.JobsDir

// temporary is what names of files begin with until they are whole.
const temporary = ".tmp."

// WriteFile makes or replaces one of the server's own files from what write gives, durably: after a
// crash there is the old file or the new one. A sync that fails makes the repository read-only: ErrReadOnly.
func (r *Repository) WriteFile(folder Folder, name string, write func(io.Writer) error) error {
	if err := r.writable(); err != nil {
		return r.fileError("write", name, err)
	}
	dir := filepath.Join(r.dir, string(folder))
	if err := layout.MkdirAll(r.fs(), dir); err != nil {
		return r.fileError("write", name, err)
	}
	partial := filepath.Join(dir, temporary+name)
	if err := r.fs().Remove(partial); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return r.fileError("write", name, err)
	}
	f, err := r.fs().Create(partial)
	if err != nil {
		return r.fileError("write", name, err)
	}
	b := bufio.NewWriterSize(f, 256<<10)
	err = write(b)
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = r.fs().Rename(partial, filepath.Join(dir, name))
	}
	if err == nil {
		err = r.fs().SyncDir(dir)
	}
	if err != nil {
		if removeErr := r.fs().Remove(partial); removeErr != nil && !errors.Is(removeErr, fs.ErrNotExist) {
			r.env.Logger.Warn("could not remove a temporary file", "repository", r.Name(), "file", name, "error", removeErr)
		}
		return r.fileError("write", name, err)
	}
	return nil
}

// OpenFile opens one of the server's own files for reading: ErrNotFound when there is none.
func (r *Repository) OpenFile(folder Folder, name string) (vfs.File, error) {
	f, err := r.fs().Open(filepath.Join(r.dir, string(folder), name))
	if err != nil {
		return nil, r.fileError("open", name, err)
	}
	return f, nil
}

// RemoveFile removes one of the server's own files; a missing one is fine.
func (r *Repository) RemoveFile(folder Folder, name string) error {
	dir := filepath.Join(r.dir, string(folder))
	switch err := r.fs().Remove(filepath.Join(dir, name)); {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return r.fileError("remove", name, err)
	}
	if err := r.fs().SyncDir(dir); err != nil {
		return r.fileError("remove", name, err)
	}
	return nil
}

// Files lists the names in a folder, sorted, without what a crash left unfinished.
func (r *Repository) Files(folder Folder) ([]string, error) {
	dir := filepath.Join(r.dir, string(folder))
	entries, err := r.fs().ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, r.fileError("list", string(folder), err)
	}
	var names []string
	for _, entry := range entries {
		if !strings.HasPrefix(entry.Name(), temporary) {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// SweepFiles removes what a crash left unfinished in a folder, and the files that keep
// does not want. No WriteFile to that folder may be under way.
func (r *Repository) SweepFiles(folder Folder, keep func(name string) bool) error {
	dir := filepath.Join(r.dir, string(folder))
	entries, err := r.fs().ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.fileError("list", string(folder), err)
	}
	for _, entry := range entries {
		if name := entry.Name(); strings.HasPrefix(name, temporary) || !keep(name) {
			if err := r.RemoveFile(folder, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// fileError keeps paths of the server's disk out of the message; the log has them.
func (r *Repository) fileError(verb, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s %s: %w", verb, name, ErrNotFound)
	}
	if errors.Is(err, ErrReadOnly) { // logged, and without paths
		return fmt.Errorf("%s %s: %w", verb, name, err)
	}
	if errors.Is(err, fs.ErrClosed) { // of a repository that was given up, or of a server that stops
		return fmt.Errorf("%s %s: %w", verb, name, r.translate(err))
	}
	r.env.Logger.Error(verb+" file", "repository", r.Name(), "file", name, "error", err)
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%s %s: %w", verb, name, ErrNoSpace)
	}
	return fmt.Errorf("%s %s: %w", verb, name, vfs.WithoutPath(err))
}

// Job returns the durable record of a job, or ErrNotFound.
func (r *Repository) Job(id string) (index.Job, error) {
	job, err := r.index.Job(id)
	return job, r.translate(err)
}

// Jobs calls fn for the durable records of all jobs, in no particular order.
func (r *Repository) Jobs(fn func(index.Job) error) error { return r.translate(r.index.Jobs(fn)) }

// DeleteJobs forgets jobs, in one transaction; missing ones are fine.
func (r *Repository) DeleteJobs(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	muts := make([]index.Mutation, len(ids))
	for i, id := range ids {
		muts[i] = index.DeleteJob{ID: id}
	}
	_, err := r.record(ctx, muts...)
	return err
}

// SetMeta stores a small named value of the server's own with the repository; nil deletes it.
func (r *Repository) SetMeta(ctx context.Context, name string, value []byte) error {
	_, err := r.apply(ctx, index.SetMeta{Name: name, Value: value})
	return err
}
