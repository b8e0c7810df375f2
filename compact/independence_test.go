package compact_test

import (
	"context"
	"io/fs"
	"strings"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// stuck is a disk on which the jobs of repository "r" get no further while held is not closed.
type stuck struct {
	vfs.FS
	met  chan string // what was tried
	held chan struct{}
}

func (f stuck) wait(what, name string) {
	if strings.Contains(name, "/r/jobs") {
		f.met <- what
		<-f.held
	}
}

func (f stuck) Create(name string) (vfs.File, error) {
	f.wait("submit", name)
	return f.FS.Create(name)
}

func (f stuck) ReadDir(name string) ([]fs.DirEntry, error) {
	f.wait("resume", name)
	return f.FS.ReadDir(name)
}

// While the disk keeps one repository's jobs waiting, those of another are submitted, listed and done.
func TestRepositoriesDoNotWaitForEachOther(t *testing.T) {
	f := stuck{vfs.OS(), make(chan string, 10), make(chan struct{})}
	p := newFixture(t, func(so *datadir.Options, _ *compact.Options) { so.FS = f })
	p.put("x", []byte("1234"))
	other, err := p.set.Create(context.Background(), "other", "test")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	submit := func(r *repo.Repository, key string) (compact.Job, error) {
		plan := p.engine.NewPlan(compact.Limits{})
		defer plan.Close()
		if err := plan.Add(compact.Operation{Deletes: []string{key}}); err != nil {
			return compact.Job{}, err
		}
		return p.engine.Submit(ctx, r.As(repo.Principal{Name: "tester"}), plan, "now", false)
	}
	first := make(chan error, 1)
	go func() {
		job, err := submit(p.repo, "x")
		if err == nil {
			_, err = p.engine.Await(ctx, p.repo, job.ID) // what it does must not go on when the test ends
		}
		first <- err
	}()
	for _, what := range []string{"resume", "submit"} {
		select {
		case got := <-f.met:
			if got != what {
				t.Fatalf("the disk holds a %s, want a %s", got, what)
			}
		case <-ctx.Done():
			t.Fatalf("no %s came to the disk", what)
		}
		done := make(chan error, 1)
		go func() {
			job, err := submit(other, what)
			if err == nil {
				job, err = p.engine.Await(ctx, other, job.ID)
			}
			if err == nil && job.State != compact.Done {
				t.Errorf("job of the other repository: got %+v", job)
			}
			if _, err := p.engine.Jobs(ctx, other); err != nil {
				t.Error(err)
			}
			done <- err
		}()
		select {
		case err := <-done:
			if err != nil {
				t.Error(err)
			}
		case <-ctx.Done():
			close(f.held)
			t.Fatalf("the other repository waits for the %s", what)
		}
		f.held <- struct{}{}
	}
	close(f.held)
	if err := <-first; err != nil {
		t.Error(err)
	}
}
