package compact_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// newFullPlace is a place on a disk that has as many bytes free as the returned number says; many to begin with.
func newFullPlace(t *testing.T, change func(*compact.Options)) (*place, *atomic.Int64) {
	t.Helper()
	var free atomic.Int64
	free.Store(1 << 40)
	p := newPlace(t, func(so *datadir.Options, o *compact.Options) {
		so.FS = smallDisk{vfs.OS(), &free}
		if change != nil {
			change(o)
		}
	})
	return p, &free
}

// noise is so many bytes that compress to nothing.
func noise(seed uint64, n int) []byte {
	b := make([]byte, n)
	random := rand.NewChaCha8([32]byte{byte(seed)})
	random.Read(b)
	return b
}

// progress is that of the only compaction.
func (p *place) progress() compact.Progress {
	p.t.Helper()
	jobs, err := p.engine.Jobs(context.Background(), p.repo)
	if err != nil || len(jobs) != 1 {
		p.t.Fatalf("jobs: got %+v, %v, want one", jobs, err)
	}
	return jobs[0].Progress
}

// half keeps the second half of an item.
func half(t *testing.T, key string, size int64, hash string) compact.Operation {
	return compact.Operation{
		Ranges:  []compact.Range{{Key: key, Offset: size / 2, Length: size / 2}},
		Naming:  compact.Naming{Algorithm: algorithm(t, hash), Prefix: "packs", Levels: 1},
		Deletes: []string{key},
	}
}

// putOutput stores a body under its hash, as an operation of half does.
func (p *place) putOutput(body []byte, hash string) (key string) {
	p.t.Helper()
	h := algorithm(p.t, hash).New()
	h.Write(body)
	sum := fmt.Sprintf("%x", h.Sum(nil))
	key = "packs/" + sum[:2] + "/" + sum
	p.put(key, body)
	return key
}

// A plan whose outputs stand already needs no space: a second try after a cut is not refused for want of it. Small outputs and
// those of several buffers, named by whatever hash.
func TestOutputsThatStandNeedNoSpace(t *testing.T) {
	for _, hash := range []string{"blake3", "sha256", "blake2b"} {
		t.Run(hash, func(t *testing.T) {
			p, free := newFullPlace(t, nil)
			var ops []compact.Operation
			var want []string
			for i, size := range []int{1000, 6 << 20, 2 << 20} {
				key, body := fmt.Sprintf("s%d", i), noise(uint64(i), size)
				p.put(key, body)
				want = append(want, p.putOutput(body[size/2:], hash))
				ops = append(ops, half(t, key, int64(size), hash))
			}
			ops = append(ops, compact.Operation{Deletes: []string{"s0", "never"}})
			free.Store(0)
			outcomes := p.mustRun(ops...)
			for i, key := range want {
				if o := outcomes[i]; o.Key != key || !o.Existed || o.Size != int64([]int{500, 3 << 20, 1 << 20}[i]) {
					t.Errorf("operation %d: got %+v, want %s found", i, o, key)
				}
			}
			if got := p.progress(); got.Written != 0 || got.Read != got.ReadTotal || got.Operations != 4 || got.OperationsTotal != 4 {
				t.Errorf("progress: got %+v", got)
			}
			for i := range want {
				if _, err := p.get(fmt.Sprintf("s%d", i)); !errors.Is(err, repo.ErrNotFound) {
					t.Errorf("source %d: got %v, want it gone", i, err)
				}
			}
			p.wantNoLeaks()
		})
	}
}

// Only what does not stand needs space, and is made; what was read in vain is read once more.
func TestRestOfOutputsNeedsSpace(t *testing.T) {
	const size = 1 << 20
	p, free := newFullPlace(t, nil)
	bodies := [][]byte{noise(1, 2*size), noise(2, 2*size), noise(3, 2*size)}
	for i, body := range bodies {
		p.put(fmt.Sprintf("s%d", i), body)
	}
	p.putOutput(bodies[1][size:], "sha256")
	ops := []compact.Operation{half(t, "s0", 2*size, "sha256"), half(t, "s1", 2*size, "sha256"), half(t, "s2", 2*size, "sha256")}
	free.Store(2*size + 2*4096 - 1)
	var short *repo.ShortError
	if _, err := p.run(ops...); !errors.As(err, &short) || short.Short != 1 {
		t.Errorf("a byte less: got %v", err)
	}
	free.Store(2*size + 2*4096)
	outcomes := p.mustRun(ops...)
	for i, existed := range []bool{false, true, false} {
		if outcomes[i].Existed != existed {
			t.Errorf("operation %d: got %+v, want it found: %v", i, outcomes[i], existed)
		}
		p.want(outcomes[i].Key, string(bodies[i][size:]))
	}
	if got := p.progress(); got.Written != 2*size || got.Read != 5*size || got.ReadTotal != 5*size || got.Operations != 3 {
		t.Errorf("progress: got %+v", got)
	}
}

// What does not stand, or not with its bytes, is no reason to admit a plan, and nothing changes.
func TestOutputsThatDoNotStand(t *testing.T) {
	const size = 2000
	body := noise(1, size)
	for _, tt := range []struct {
		name string
		prep func(p *place)
		op   func(op *compact.Operation)
		read int64
	}{
		{"nothing there", func(p *place) {}, nil, 0},
		{"another size", func(p *place) { p.putOutput(body[:size/2-1], "sha256") }, nil, 0},
		{"the same size elsewhere", func(p *place) { p.put("other/x", body[size/2:]) }, nil, 0},
		{"other bytes of that size", func(p *place) { p.putOutput(body[:size/2], "sha256") }, nil, size / 2},
		{"other bytes under its name", func(p *place) { p.put(p.putOutput(body[size/2:], "sha256"), body[:size/2]) }, nil, size / 2},
		{"named by the plan", func(p *place) { p.put("t", body[size/2:]) }, func(op *compact.Operation) { op.Target = "t" }, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, free := newFullPlace(t, nil)
			p.put("s", body)
			tt.prep(p)
			op := half(t, "s", size, "sha256")
			if tt.op != nil {
				tt.op(&op)
			}
			before := fmt.Sprint(p.contents())
			free.Store(size/2 + 4095)
			_, err := p.run(op)
			var plan *compact.PlanError
			var short *repo.ShortError
			if !errors.As(err, &plan) || plan.Operation != -1 || !errors.As(err, &short) || !errors.Is(err, repo.ErrNoSpace) || short.Short != 1 {
				t.Errorf("run: got %v, want it a byte short", err)
			}
			if after := fmt.Sprint(p.contents()); after != before {
				t.Error("the repository has changed")
			}
			if job := p.submit("now", op); true {
				if job, err = p.engine.Await(context.Background(), p.repo, job.ID); err != nil || job.State != compact.Failed || job.Progress.Read != tt.read {
					t.Errorf("as a job: got %+v, %v, want it failed when it had read %d", job, err, tt.read)
				}
			}
			free.Store(1 << 40)
			p.mustRun(op)
		})
	}
}

// What stands adds nothing to usage, and what is both source and output frees nothing.
func TestOutputsThatStandNeedNoQuota(t *testing.T) {
	const size = 2000
	p := newPlace(t, nil)
	one, two := noise(1, size), noise(2, size)
	p.put("s", one)
	whole := p.putOutput(two, "sha256")
	p.putOutput(one[size/2:], "sha256")
	if err := p.repo.SetQuota(context.Background(), p.repo.Usage().Used); err != nil {
		t.Fatal(err)
	}
	keep := half(t, "s", size, "sha256")
	keep.Deletes = nil
	itself := half(t, whole, size, "sha256")
	itself.Ranges[0] = compact.Range{Key: whole, Offset: 0, Length: size}
	grows := half(t, "s", size, "sha256")
	grows.Ranges[0].Offset, grows.Deletes = 0, nil
	used := p.repo.Usage().Used

	outcomes := p.mustRun(keep, itself, itself)
	if !outcomes[0].Existed || !outcomes[1].Existed || outcomes[1].Key != whole || outcomes[1].Deleted[0] || !outcomes[2].Existed {
		t.Errorf("got %+v", outcomes)
	}
	if got := p.repo.Usage().Used; got != used {
		t.Errorf("used: got %d, want %d", got, used)
	}
	_, err := p.run(itself, itself, grows)
	var quota *repo.QuotaError
	if !errors.As(err, &quota) || quota.Request != size/2 {
		t.Errorf("one that grows beside them: got %v", err)
	}
	if jobs, err := p.engine.Jobs(context.Background(), p.repo); err != nil || len(jobs) != 1 {
		t.Errorf("jobs: got %+v, %v", jobs, err)
	}
	if got := p.repo.Usage().Used; got != used {
		t.Errorf("used: got %d, want %d", got, used)
	}
}

// Finding ends when it is cancelled.
func TestCancelWhileFinding(t *testing.T) {
	p, free := newFullPlace(t, func(o *compact.Options) { o.Rate = 1 << 20 })
	body := noise(1, 16<<20)
	p.put("s", body)
	p.putOutput(body[8<<20:], "sha256")
	free.Store(0)
	job := p.submit("now", half(t, "s", 16<<20, "sha256"))
	p.untilReading(job.ID)
	began := time.Now()
	got, err := p.engine.Cancel(context.Background(), p.repo, job.ID)
	if err != nil || got.State != compact.Cancelled || time.Since(began) > 3*time.Second {
		t.Errorf("cancel: got %+v, %v after %v", got, err, time.Since(began))
	}
	free.Store(1 << 40)
	p.want("s", string(body))
}

// A refusal that took long is given again for a minute: a client whose answer broke off with it would begin the reading anew.
func TestLateRefusalForWantOfSpaceIsRepeated(t *testing.T) {
	var offset atomic.Int64
	p, free := newFullPlace(t, func(o *compact.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})
	body := noise(1, 2000)
	p.put("s", body)
	key := p.putOutput(body[1000:], "sha256")
	p.put(key, body[:1000]) // of the same size: it is read
	free.Store(0)
	refused := func(what string) {
		t.Helper()
		if _, err := p.run(half(t, "s", 2000, "sha256")); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("%s: got %v, want ErrNoSpace", what, err)
		}
	}
	refused("quick")
	free.Store(1 << 40)
	p.mustRun(half(t, "s", 2000, "sha256")) // nothing is remembered of it
	p.put("s", body)
	p.put(key, body[:1000])
	free.Store(0)
	p.close()
	p.o.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Add(int64(6 * time.Second)))) }
	p.open()
	refused("late")
	free.Store(1 << 40)
	refused("again")
	offset.Add(int64(2 * time.Minute))
	p.mustRun(half(t, "s", 2000, "sha256"))
}
