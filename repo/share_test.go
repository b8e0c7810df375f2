package repo_test

import (
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/repo"
	"packhouse/repo/datadir"
)

// wantShort wants a refusal with its figures, in the text too.
func wantShort(t *testing.T, what string, err, kind error, short, index int64) {
	t.Helper()
	var s *repo.ShortError
	if !errors.As(err, &s) || !errors.Is(err, kind) || s.Short != short || s.Index != index {
		t.Errorf("%s: got %#v, want %d bytes short with an index of %d", what, err, short, index)
		return
	}
	if !strings.Contains(s.Error(), " bytes short") || !strings.Contains(s.Error(), "compact again") {
		t.Errorf("%s: the text says too little: %s", what, s)
	}
}

// TestPlanLeavesSpaceForTheIndex: what must be free for a plan, to the byte, and that the index then finds it.
func TestPlanLeavesSpaceForTheIndex(t *testing.T) {
	const peak = 5000
	for _, tt := range []struct {
		name    string
		dialect string
		key     string
		index   int64
		reserve int64
		need    int64 // of the index
		free    int64 // that is just enough
	}{
		{"small index", "vger", "index", 1000, 64 * mib, 1250 + mib, peak + 16*mib},
		{"large index", "vger", "index", 10 * mib, 64 * mib, 12*mib + mib/2 + mib, peak + 8*mib + 12*mib + mib/2 + mib + mib},
		{"no index yet", "vger", "", 0, 1000, mib, peak + 125 + mib + mib},
		{"no reserve", "vger", "index", 4000, 0, 5000 + mib, peak + 5000 + mib + mib},
		{"fragments", "borgstore", "index/a", 4000, 800, 5000 + mib, peak + 100 + 5000 + mib + mib},
		{"of no client's", "test", "index", 4000, 800, 0, peak + 200},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d, a := newReserved(t, tt.dialect, 1<<40, tt.reserve, nil)
			if tt.key != "" {
				if err := putZeros(a, tt.key, tt.index, true); err != nil {
					t.Fatal(err)
				}
			}
			d.free.Store(tt.free - 7)
			_, err := a.Reserve(0, peak, true)
			wantShort(t, "a little less", err, repo.ErrNoSpace, 7, tt.need)
			if n := repo.Reserved(a.Repository()) + repo.Shared(a.Repository()); n != 0 {
				t.Errorf("refused: %d bytes are set aside", n)
			}
			d.free.Store(tt.free)
			reservation, err := a.Reserve(0, peak, true)
			if err != nil {
				t.Fatal(err)
			}
			defer reservation.Release()
			aside := tt.need
			if aside > 0 {
				aside += mib // for the log
			}
			if got := repo.Shared(a.Repository()); got != aside {
				t.Errorf("set aside for the index: got %d, want %d", got, aside)
			}
			u := upload(t, a, "packs/new", peak, reservation)
			if _, err := a.Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Reservation: reservation}); err != nil {
				t.Fatal(err)
			}
			reservation.Release()
			if tt.need == 0 {
				return
			}
			d.free.Store(tt.free - peak) // the trailer of a blob is no matter here
			// Nobody else takes it: not an upload, nor another plan; and it does not stand in the way of the other keys.
			if err := putZeros(a, "packs/other", 1, true); !errors.Is(err, repo.ErrNoSpace) {
				t.Errorf("an upload: got %v, want ErrNoSpace", err)
			}
			_, err = a.Reserve(0, 1, true)
			wantShort(t, "another plan", err, repo.ErrNoSpace, 1, tt.need)
			if tt.key != "index/a" {
				if err := putZeros(a, "index.gen", 8, true); err != nil {
					t.Errorf("index.gen: %v", err)
				}
			}
			d.free.Store(tt.free - peak - 8)
			key := tt.key
			if key == "" {
				key = "index"
			}
			if err := putZeros(a, key, tt.need-8, true); err != nil {
				t.Errorf("the index: %v", err)
			}
			if got := repo.Shared(a.Repository()); got != 0 {
				t.Errorf("the index is stored, and %d bytes are set aside", got)
			}
			if free := d.free.Load(); free+200 < tt.reserve/8 {
				t.Errorf("%d bytes are free, deleting needs %d", free, tt.reserve/8)
			}
		})
	}
}

// carryOut reserves for a plan of one byte and commits it.
func carryOut(t *testing.T, a *repo.Access, key string) {
	t.Helper()
	reservation, err := a.Reserve(0, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	defer reservation.Release()
	u := upload(t, a, key, 1, reservation)
	if _, err := a.Commit(ctx, repo.Batch{Puts: []repo.BatchPut{{Upload: u}}, Reservation: reservation}); err != nil {
		t.Fatal(err)
	}
}

// TestShareEnds: what is set aside for the index ends when it is stored, when no plan was carried out, and after an hour;
// and not before.
func TestShareEnds(t *testing.T) {
	var offset atomic.Int64
	d, a := newReserved(t, "vger", 1<<40, 0, func(o *datadir.Options) {
		o.Now = func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	})
	r := a.Repository()
	shared := func(what string, want int64) {
		t.Helper()
		if want > 0 {
			want += mib // for the log
		}
		if got := repo.Shared(r); got != want {
			t.Errorf("%s: %d bytes are set aside, want %d", what, got, want)
		}
	}
	first, err := a.Reserve(0, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.Reserve(0, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	shared("two plans have one index", mib)
	first.Release()
	first.Release()
	shared("one plan has failed", mib)
	second.Release()
	shared("both have", 0)

	carryOut(t, a, "packs/a")
	shared("a plan was carried out", mib)
	failing, err := a.Reserve(0, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	failing.Release()
	shared("a later one has failed", mib)
	mustPut(t, a, "index.gen", "12345678")
	mustPut(t, a, "manifest", "older clients store it first")
	mustPut(t, a, "locks/l", "held")
	shared("other keys were stored", mib)
	mustPut(t, a, "index", strings.Repeat("x", 1000))
	shared("the index was stored", 0)

	carryOut(t, a, "packs/b")
	running, err := a.Reserve(0, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, a, "index", strings.Repeat("x", 2000))
	shared("the index was stored while another plan runs", 1250+mib)
	running.Release()
	shared("and that has failed", 0)

	carryOut(t, a, "packs/c")
	shared("a plan was carried out", 2500+mib)
	offset.Store(int64(time.Hour - time.Minute))
	shared("nearly an hour later", 2500+mib)
	offset.Store(int64(time.Hour))
	shared("an hour later", 0)
	long, err := a.Reserve(0, 1, true)
	if err != nil {
		t.Fatal(err)
	}
	offset.Store(int64(5 * time.Hour))
	shared("a plan that takes hours", 2500+mib)
	long.Release()
	shared("has failed", 0)

	// An index whose upload fails finds its place again.
	carryOut(t, a, "packs/d")
	d.free.Store(2500 + mib)
	for range 3 {
		u, err := a.NewUpload(ctx, repo.UploadOptions{Key: "index", Size: 2500 + mib})
		if err != nil {
			t.Fatal(err)
		}
		shared("the index takes it", 0)
		if _, err := a.Reserve(0, 1, true); !errors.Is(err, repo.ErrNoSpace) {
			t.Errorf("a plan meanwhile: got %v, want ErrNoSpace", err)
		}
		u.Discard()
		shared("the upload has failed", 2500+mib)
	}
	if err := putZeros(a, "index", 2500+mib, false); err != nil {
		t.Errorf("the index: %v", err)
	}
	shared("the index was stored", 0)
}

// The repositories of a data directory share the disk: what is set aside for the index of one is not for another.
func TestShareIsNotForOthers(t *testing.T) {
	d := newFreeDisk(1 << 40)
	s := newSet(t, func(o *datadir.Options) { o.FS = d })
	var all []*repo.Access
	for _, name := range []string{"a", "b"} {
		r, err := s.Create(ctx, name, "vger")
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r.As(repo.Principal{}))
	}
	a, b := all[0], all[1]
	carryOut(t, a, "packs/a")
	d.free.Store(2*mib + 10) // one for the log
	if err := putZeros(b, "index", 11, true); !errors.Is(err, repo.ErrNoSpace) {
		t.Errorf("index of another: got %v, want ErrNoSpace", err)
	}
	if err := putZeros(b, "index", 10, true); err != nil {
		t.Errorf("index of another beside it: %v", err)
	}
	d.free.Store(2 * mib)
	_, err := b.Reserve(0, 1, true)
	wantShort(t, "plan of another", err, repo.ErrNoSpace, mib+12+1+mib, mib+12)
	if err := putZeros(a, "index", mib, true); err != nil {
		t.Errorf("index: %v", err)
	}
	if err := s.Destroy(ctx, "b"); err != nil {
		t.Error(err)
	}
	d.free.Store(1 << 40)
	carryOut(t, a, "packs/b")
	if err := s.Destroy(ctx, "a"); err != nil {
		t.Fatal(err)
	}
	if got := repo.Shared(a.Repository()); got != 0 {
		t.Errorf("the repository is destroyed, and %d bytes are set aside", got)
	}
}

// TestPlanLeavesQuotaForTheIndex: commit keys hold almost all that they may beyond the quota; the index would not fit after a
// plan, whatever that frees as long as the quota stays exceeded.
func TestPlanLeavesQuotaForTheIndex(t *testing.T) {
	a := newDialect(t, "vger", nil)
	r := a.Repository()
	if err := putZeros(a, "packs/a", 200*mib, true); err != nil {
		t.Fatal(err)
	}
	if err := r.SetQuota(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	if err := putZeros(a, "index", 40*mib, true); err != nil { // 50 + 1 MiB after a plan
		t.Fatal(err)
	}
	reservation, err := a.Reserve(-100*mib, 1, true)
	if err != nil {
		t.Fatalf("51 of 64 MiB: %v", err)
	}
	reservation.Release()
	if err := putZeros(a, "manifest", 13*mib+1, true); err != nil {
		t.Fatal(err)
	}
	_, err = a.Reserve(-100*mib, 1, true)
	wantShort(t, "64 MiB and a byte", err, repo.ErrQuota, 1, 51*mib)
	u, err := a.NewUpload(ctx, repo.UploadOptions{Key: "manifest", Size: 13 * mib}) // under way, and smaller
	if err != nil {
		t.Fatal(err)
	}
	u.Discard()
	if err := putZeros(a, "manifest", 13*mib, true); err != nil {
		t.Fatal(err)
	}
	if u, err = a.NewUpload(ctx, repo.UploadOptions{Key: "index.gen", Size: 8}); err != nil {
		t.Fatal(err)
	}
	_, err = a.Reserve(-100*mib, 1, true)
	wantShort(t, "with what an upload under way may add", err, repo.ErrQuota, 8, 51*mib)
	u.Discard()
	if reservation, err = a.Reserve(-100*mib, 1, true); err != nil {
		t.Fatalf("64 MiB: %v", err)
	}
	reservation.Release()
	if n := repo.Shared(r); n != 0 {
		t.Errorf("%d bytes are set aside for refused plans", n)
	}

	// A plan after which all fits within the quota is no matter of the bound.
	if err := putZeros(a, "manifest", 13*mib+5, true); err != nil {
		t.Fatal(err)
	}
	if err := r.SetQuota(ctx, 153*mib+11*mib+5); err != nil { // 253 less 100, and 11 more for the index
		t.Fatal(err)
	}
	_, err = a.Reserve(-100*mib+1, 1, true)
	wantShort(t, "a byte less", err, repo.ErrQuota, 1, 51*mib)
	if reservation, err = a.Reserve(-100*mib, 1, true); err != nil {
		t.Fatalf("within the quota after it: %v", err)
	}
	reservation.Release()

	// What is within the quota when a plan begins may be twice that beyond it: others cannot fill the quota before the index comes.
	if err := r.SetQuota(ctx, 400*mib); err != nil {
		t.Fatal(err)
	}
	if reservation, err = a.Reserve(0, 1, true); err != nil {
		t.Fatal(err)
	}
	reservation.Release()
	if err := r.SetQuota(ctx, 1000); err != nil {
		t.Fatal(err)
	}
	if err := putZeros(a, "index", 51*mib, true); err != nil {
		t.Errorf("the index after the plan: %v", err)
	}
}

// A plan that deletes what may be stored beyond the quota frees nothing for what may not: see compact's survey. Here the
// kinds are told apart.
func TestCommitKeyOfDialect(t *testing.T) {
	for _, tt := range []struct {
		dialect, key string
		want         bool
	}{
		{"vger", "index", true}, {"vger", "index/a", false}, {"vger", "packs/a", false}, {"vger", "sessions/a", true},
		{"borgstore", "index", false}, {"borgstore", "index/a", true}, {"borgstore", "config/manifest", true}, {"test", "index", false},
	} {
		if got := newDialect(t, tt.dialect, nil).Repository().CommitKey(tt.key); got != tt.want {
			t.Errorf("%s of %s: got %v", tt.key, tt.dialect, got)
		}
	}
}
