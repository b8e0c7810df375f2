package compact

import (
	"context"
	"io"

	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// What is needed of a repository, cut by what it is needed for. The engine tells repositories apart by how they were opened and makes
// accesses of them, and so takes them whole; what works in one takes these. Their contracts are those of the methods of package repo.

// access is a repository as the principal of a plan may use it: what a run does on its behalf.
type access interface {
	rights
	target
	OpenRange(ctx context.Context, key string) (*repo.Object, error)
}

// rights are looked at before anything is read or made.
type rights interface {
	May(key, letters string) error
	Readable(item index.Item) error
	Sound(ctx context.Context, key string, off, n int64) error
}

// target takes what a plan makes: space first, then the items' bytes, then all in one commit.
type target interface {
	Reserve(net, peak int64, spare bool) (*repo.PlanReservation, error)
	NewUpload(ctx context.Context, o repo.UploadOptions) (*repo.Upload, error)
	MayOpen(k *repo.Compaction, sources, freed int64) error
	CommitOpen(ctx context.Context, b repo.Batch) (repo.Opened, error)
}

// looker is the same repository for looks that need no permission of the principal.
type looker interface {
	finder
	Vacant(key string) error
	List(ctx context.Context, o index.ListOptions, fn func(index.Entry) error) error
	Hash(ctx context.Context, key string, algorithm digest.Algorithm) ([]byte, error)
}

// finder finds one item: alone, with what is kept, or with what is missing.
type finder interface {
	Stat(ctx context.Context, key string) (index.Entry, error)
	Lookup(ctx context.Context, key string) (index.Entry, error)
	Row(ctx context.Context, key string) (index.Entry, error)
	RowHere(ctx context.Context, key string) (index.Entry, error)
}

// jobRows are the durable records of jobs.
type jobRows interface {
	Job(id string) (index.Job, error)
	Jobs(fn func(index.Job) error) error
	PutJob(ctx context.Context, job index.Job) error
	ReplaceJob(ctx context.Context, job index.Job, old []byte) error
	DeleteJobs(ctx context.Context, ids []string) error
}

// planFiles are where the plans of queued jobs lie.
type planFiles interface {
	WriteFile(folder repo.Folder, name string, write func(io.Writer) error) error
	OpenFile(folder repo.Folder, name string) (vfs.File, error)
	RemoveFile(folder repo.Folder, name string) error
	SweepFiles(folder repo.Folder, keep func(name string) bool) error
}

// scrubbed is what a scrub reads, and where it remembers how far it came.
type scrubbed interface {
	Items(ctx context.Context, after string, fn func(index.Entry) error) error
	Usage() repo.Usage
	Verify(ctx context.Context, entry index.Entry, pace func(n int64) error) error
	BeginRound(after string) *repo.Round
	Meta(name string) ([]byte, error)
	SetMeta(ctx context.Context, name string, value []byte) error
}

// vacuumed is what a vacuum empties segments of.
type vacuumed interface {
	Vacuum(ctx context.Context, pace func(n int64) error, progress func(repo.VacuumReport)) (repo.VacuumReport, error)
}

var (
	_ vacuumed  = (*repo.Repository)(nil)
	_ access    = (*repo.Access)(nil)
	_ looker    = (*repo.Access)(nil)
	_ jobRows   = (*repo.Repository)(nil)
	_ planFiles = (*repo.Repository)(nil)
	_ scrubbed  = (*repo.Repository)(nil)
)
