package compact_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// sparseLog lets items lie in the log and leaves few of them, so that a vacuum has something to do. It returns their keys.
func sparseLog(p *fixture) (left []string) {
	p.t.Helper()
	var gone []string
	for i := range 48 {
		key := fmt.Sprintf("packs/%02d", i)
		if _, err := p.a.Put(context.Background(), repo.PutRequest{Key: key, Body: strings.NewReader(strings.Repeat("x", 64<<10)), Size: 64 << 10}); err != nil {
			p.t.Fatal(err)
		}
		if i%12 == 0 {
			left = append(left, key)
		} else {
			gone = append(gone, key)
		}
	}
	if _, err := p.a.DeleteAll(context.Background(), gone); err != nil {
		p.t.Fatal(err)
	}
	if _, err := p.repo.EmptyTrash(context.Background(), p.repo.Now().Add(1<<40)); err != nil {
		p.t.Fatal(err)
	}
	return left
}

func inTheLog(so *datadir.Options, _ *compact.Options) {
	so.Small, so.Index.SegmentSize = index.MaxPayload, 1<<20
}

// TestVacuumJob: a vacuum is a job like others, with figures; where there is nothing to do there is none.
func TestVacuumJob(t *testing.T) {
	p := newFixture(t, inTheLog)
	if job, err := p.engine.SubmitVacuum(context.Background(), p.repo, "tester", compact.WhenNow); err != nil || job.ID != "" {
		t.Fatalf("vacuum of nothing: got %+v, %v", job, err)
	}
	left := sparseLog(p)
	if _, err := p.engine.SubmitVacuum(context.Background(), p.repo, "tester", "soon"); !errors.Is(err, repo.ErrInvalid) {
		t.Errorf("at no time: got %v, want ErrInvalid", err)
	}
	waiting, err := p.engine.SubmitVacuum(context.Background(), p.repo, "tester", "2999-01-01T00:00:00Z")
	if err != nil || waiting.State != compact.Queued || waiting.Progress.OperationsTotal == 0 {
		t.Fatalf("got %+v, %v, want a queued job", waiting, err)
	}
	if again, err := p.engine.SubmitVacuum(context.Background(), p.repo, "tester", compact.WhenNow); err != nil || again.ID != waiting.ID {
		t.Errorf("second: got %+v, %v, want the first", again, err)
	}
	if _, err := p.engine.Cancel(context.Background(), p.repo, waiting.ID); err != nil {
		t.Fatal(err)
	}
	p.reopen()
	job, err := p.engine.SubmitVacuum(context.Background(), p.repo, "tester", compact.WhenNow)
	if err != nil {
		t.Fatal(err)
	}
	if job, err = p.engine.Await(context.Background(), p.repo, job.ID); err != nil || job.State != compact.Done || job.Kind != compact.Vacuum {
		t.Fatalf("got %+v, %v", job, err)
	}
	if g := job.Progress; g.Operations == 0 || g.Operations != g.OperationsTotal || g.Read == 0 || g.Read != g.Written || g.Freed < 1<<20 || job.Bad != 0 {
		t.Errorf("progress: got %+v", g)
	}
	p.reopen()
	if stored, err := p.engine.Job(p.repo, job.ID); err != nil || stored.State != compact.Done || stored.Progress != job.Progress {
		t.Errorf("stored: got %+v, %v, want %+v", stored, err, job)
	}
	for _, key := range left {
		object, err := p.a.Open(context.Background(), key)
		if err != nil {
			t.Errorf("open %s: %v", key, err)
			continue
		}
		if object.Size() != 64<<10 {
			t.Errorf("%s has %d bytes", key, object.Size())
		}
		object.Close()
	}
}

// TestVacuumIsCancelled: what it moved stays moved, and all items are there.
func TestVacuumIsCancelled(t *testing.T) {
	p := newFixture(t, func(so *datadir.Options, o *compact.Options) {
		inTheLog(so, o)
		limited(so, o)
	})
	left := sparseLog(p)
	job, err := p.engine.SubmitVacuum(context.Background(), p.repo, "tester", compact.WhenNow)
	if err != nil {
		t.Fatal(err)
	}
	running := errors.New("running")
	_, err = p.engine.Watch(context.Background(), p.repo, job.ID, 0, func(job compact.Job) error {
		if job.State != compact.Queued {
			return running
		}
		return nil
	})
	if !errors.Is(err, running) {
		t.Fatal(err)
	}
	if got, err := p.engine.Cancel(context.Background(), p.repo, job.ID); err != nil || !got.State.Ended() {
		t.Errorf("cancel: got %+v, %v", got, err)
	}
	p.wantKeys(left...)
}
