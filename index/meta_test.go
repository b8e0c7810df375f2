package index_test

import (
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"packhouse/index"
)

func TestMeta(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, map[string][]byte{"dialect": []byte("borgstore"), "empty": {}, "unset": nil}); err != nil {
		t.Fatal(err)
	}
	x := open(t, path, index.Options{})
	check := func(name string, want []byte) {
		t.Helper()
		got, err := x.Meta(name)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, name, got, want)
	}
	check("dialect", []byte("borgstore"))
	check("empty", []byte{})
	check("unset", nil)
	apply(t, x, index.SetMeta{Name: "dialect"}, index.SetMeta{Name: "unset", Value: []byte("now")})
	check("dialect", nil)
	check("unset", []byte("now"))
	if _, err := x.Meta("\x00format"); !errors.Is(err, index.ErrInvalid) {
		t.Errorf("format as meta: got %v, want %v", err, index.ErrInvalid)
	}
}

func TestJobs(t *testing.T) {
	x := create(t)
	j := index.Job{ID: "b", Record: []byte("plan")}
	apply(t, x, index.PutJob{Job: j, IfAbsent: true}, index.PutJob{Job: index.Job{ID: "a", Record: []byte{}}})
	refuse(t, x, index.ErrExists, 0, index.PutJob{Job: j, IfAbsent: true})
	refuse(t, x, index.ErrConflict, 0, index.PutJob{Job: j, IfRecord: []byte("another record")})
	refuse(t, x, index.ErrConflict, 0, index.PutJob{Job: index.Job{ID: "none"}, IfRecord: []byte{}})
	apply(t, x, index.PutJob{Job: j, IfRecord: j.Record})
	j.Record = []byte("done")
	apply(t, x, index.PutJob{Job: j})
	got, err := x.Job("b")
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "job", got, j)
	var jobs []index.Job
	if err := x.Jobs(func(j index.Job) error { jobs = append(jobs, j); return nil }); err != nil {
		t.Fatal(err)
	}
	equal(t, "jobs", jobs, []index.Job{{ID: "a", Record: []byte{}}, j})
	apply(t, x, index.DeleteJob{ID: "b"})
	if _, err := x.Job("b"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("deleted job: got %v, want %v", err, index.ErrNotFound)
	}
}

// TestRecordBackup: in an index that is made anew the last backup is the latest that is recorded, in whatever order.
func TestRecordBackup(t *testing.T) {
	x := create(t)
	later := clock.Add(time.Hour)
	apply(t, x, index.RecordBackup{Writer: "alice", At: later}, index.RecordBackup{Writer: "bob", At: clock}, index.RecordBackup{At: clock})
	if at, ok := x.LastBackup(); !ok || !at.Equal(later) {
		t.Errorf("last backup: got %v, %v, want %v", at, ok, later)
	}
	var got []index.Freshness
	if err := x.Writers(func(f index.Freshness) error { got = append(got, f); return nil }); err != nil {
		t.Fatal(err)
	}
	equal(t, "writers", got, []index.Freshness{{"", clock}, {"alice", later}, {"bob", clock}})
	if _, err := x.Apply(t.Context(), index.RecordBackup{Writer: strings.Repeat("x", 129), At: clock}); !errors.Is(err, index.ErrInvalid) {
		t.Errorf("a long name: got %v", err)
	}
}

func TestFreshness(t *testing.T) {
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	backup := func(key, writer string, at time.Time) index.Put {
		return index.Put{Key: key, Item: index.Item{Ref: key, Writer: writer}, Limit: -1, Now: at, Backup: true}
	}
	apply(t, x, put("no backup", 1))
	if _, ok := x.LastBackup(); ok {
		t.Error("last backup without one")
	}
	later := clock.Add(time.Hour)
	apply(t, x, backup("1", "bob", clock), backup("2", "alice", clock))
	apply(t, x, backup("3", "bob", later), backup("4", "", clock.Add(time.Minute)))
	check := func(x *index.Index) {
		t.Helper()
		if at, ok := x.LastBackup(); !ok || !at.Equal(clock.Add(time.Minute)) {
			t.Errorf("last backup: got %v, %v, want that of the last commit", at, ok)
		}
		var got []index.Freshness
		if err := x.Writers(func(f index.Freshness) error { got = append(got, f); return nil }); err != nil {
			t.Fatal(err)
		}
		equal(t, "writers", got, []index.Freshness{{"", clock.Add(time.Minute)}, {"alice", clock}, {"bob", later}})
	}
	check(x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	check(open(t, path, index.Options{}))
}
