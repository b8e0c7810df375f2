package index_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/index"
)

// newIndex makes an index in a directory of its own, and returns its path.
func newIndex(t testing.TB) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	return path
}

// mustOpen opens an index that the test closes.
func mustOpen(t testing.TB, path string, o index.Options) *index.Index {
	t.Helper()
	x, err := index.Open(path, o)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func mustClose(t testing.TB, x *index.Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

// copyIndex copies an index with its log, as they lie there.
func copyIndex(t testing.TB, path string) (copied string) {
	t.Helper()
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	copied = filepath.Join(t.TempDir(), "index.db")
	layIndex(t, copied, content, filepath.Join(filepath.Dir(path), index.LogDir))
	return copied
}

// TestCrashInCheckpoint: a checkpoint of many rows takes several commits of bbolt. A crash before the first, between any two of them and
// behind the last one leaves an index with all rows.
func TestCrashInCheckpoint(t *testing.T) {
	path := newIndex(t)
	var crashed []string
	armed := false
	x := mustOpen(t, path, index.Options{AfterWrite: func() error {
		if armed {
			crashed = append(crashed, copyIndex(t, path))
		}
		return nil
	}})
	release := x.HoldCheckpoints()
	for i := range 10 {
		muts := make([]index.Mutation, 0, 500)
		for n := range 500 {
			muts = append(muts, put(fmt.Sprintf("packs/%d-%d", n%97, i*500+n), int64(n)))
		}
		apply(t, x, muts...)
	}
	apply(t, x, index.Delete{Key: "packs/0-0", TrashUntil: clock}, index.Move{From: "packs/1-1", To: "moved", Limit: -1})
	want := everything(t, x)
	crashed = append(crashed, copyIndex(t, path))
	armed = true
	release()
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	armed = false
	mustClose(t, x)
	if len(crashed) < 4 {
		t.Fatalf("the checkpoint had %d steps, want several", len(crashed)-1)
	}
	for i, copied := range append(crashed, path) {
		x := open(t, copied, index.Options{})
		equal(t, fmt.Sprintf("after step %d", i), everything(t, x), want)
		checkWhole(t, x)
		apply(t, x, put("goes on", 1))
	}
}

// TestReadersDuringCheckpoint: readers see all rows, in order and once, whatever part of a checkpoint is in the file.
func TestReadersDuringCheckpoint(t *testing.T) {
	path := newIndex(t)
	var reader *index.Index
	var want []string
	looks := 0
	x := mustOpen(t, path, index.Options{AfterWrite: func() error {
		if want == nil {
			return nil
		}
		looks++
		if got := list(t, reader, index.ListOptions{Recursive: true}); strings.Join(got, " ") != strings.Join(want, " ") {
			t.Errorf("look %d: %d items, want %d", looks, len(got), len(want))
		}
		// What is stored meanwhile is seen at once, and not lost with the rows that are in the file by then.
		key := fmt.Sprintf("new/%d", looks)
		if _, err := reader.Get("new/0"); looks > 1 && err != nil {
			t.Errorf("look %d: %v", looks, err)
		}
		done := make(chan error)
		go func() { _, err := reader.Apply(background, put(key, 1)); done <- err }()
		if err := <-done; err != nil {
			return err
		}
		want = list(t, reader, index.ListOptions{Recursive: true})
		return nil
	}})
	reader = x
	for i := range 3000 {
		if i%3 == 0 {
			apply(t, x, put(fmt.Sprintf("a/%d", i), 1), put(fmt.Sprintf("b/%d", i), 1))
		}
	}
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	release := x.HoldCheckpoints()
	for i := range 3000 {
		switch i % 3 {
		case 0:
			apply(t, x, index.Delete{Key: fmt.Sprintf("b/%d", i), TrashUntil: clock})
		case 1:
			apply(t, x, put(fmt.Sprintf("a/%d", i), 1))
		}
	}
	apply(t, x, put("new/0", 1))
	want = list(t, x, index.ListOptions{Recursive: true})
	release()
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if looks < 2 {
		t.Fatalf("the checkpoint had %d steps, want several", looks)
	}
	last := want
	want = nil
	equal(t, "afterwards", list(t, x, index.ListOptions{Recursive: true}), last)
	checkWhole(t, x)
	mustClose(t, x)
	x = open(t, path, index.Options{})
	equal(t, "after a restart", list(t, x, index.ListOptions{Recursive: true}), last)
}

// TestWritersWaitForCheckpoint: what is in the log alone is bounded. A checkpoint that cannot be made is told to who waits for it, and
// everything goes on when it can.
func TestWritersWaitForCheckpoint(t *testing.T) {
	path := newIndex(t)
	var mu sync.Mutex
	var refuse error
	x := mustOpen(t, path, index.Options{BeforeWrite: func() error { mu.Lock(); defer mu.Unlock(); return refuse }})
	set := func(err error) { mu.Lock(); defer mu.Unlock(); refuse = err }
	x.SetMaxPending(100)
	for i := range 200 {
		apply(t, x, put(fmt.Sprintf("within/%d", i), 1))
	}
	set(index.ErrNoSpace)
	var err error
	n := 0
	for ; err == nil && n < 200; n++ {
		_, err = x.Apply(background, put(fmt.Sprintf("beyond/%d", n), 1))
	}
	if !errors.Is(err, index.ErrNoSpace) || errors.Is(err, index.ErrFailed) || n > 100 {
		t.Fatalf("group %d: got %v, want %v", n, err, index.ErrNoSpace)
	}
	if _, err := x.Get("beyond/0"); err != nil {
		t.Errorf("get of what was acknowledged: %v", err)
	}
	set(nil)
	apply(t, x, put("again", 1))
	checkWhole(t, x)
	mustClose(t, x)
	open(t, path, index.Options{})
}

// TestFileAndLogBelongTogether: a file with another log than its own, an old copy of either and a missing log are refused, and told apart. Nothing
// is changed.
func TestFileAndLogBelongTogether(t *testing.T) {
	path := newIndex(t)
	log := filepath.Join(filepath.Dir(path), index.LogDir)
	x := mustOpen(t, path, index.Options{})
	apply(t, x, put("a", 1))
	mustClose(t, x)
	old := copyIndex(t, path)
	oldFile, err := os.ReadFile(old)
	if err != nil {
		t.Fatal(err)
	}
	x = mustOpen(t, path, index.Options{})
	apply(t, x, put("b", 1))
	mustClose(t, x)
	file, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	other := newIndex(t)
	mustClose(t, mustOpen(t, other, index.Options{}))

	for _, c := range []struct {
		name string
		file []byte
		log  string
		want string // "" is no error
	}{
		{"as they are", file, log, ""},
		{"no log", file, "", "log is missing"},
		{"old log", file, filepath.Join(filepath.Dir(old), index.LogDir), "newer than its log"},
		{"another's log", oldFile, filepath.Join(filepath.Dir(other), index.LogDir), "log"},
		{"old file", oldFile, log, ""}, // the log has what it lacks
	} {
		t.Run(c.name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "index.db")
			layIndex(t, path, c.file, c.log)
			before := treeOf(t, filepath.Dir(path))
			x, err := index.Open(path, index.Options{})
			if c.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				for _, key := range []string{"a", "b"} {
					if _, err := x.Get(key); err != nil {
						t.Errorf("get %s: %v", key, err)
					}
				}
				mustClose(t, x)
				return
			}
			if !errors.Is(err, index.ErrCorrupt) || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), filepath.Dir(path)) {
				t.Errorf("got %v, want %v that says %q and no path", err, index.ErrCorrupt, c.want)
			}
			if after := treeOf(t, filepath.Dir(path)); after != before {
				t.Error("something was changed")
			}
		})
	}
}

// treeOf is the content of all files below a directory.
func treeOf(t testing.TB, dir string) string {
	t.Helper()
	var all strings.Builder
	err := filepath.WalkDir(dir, func(name string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(name)
		fmt.Fprintf(&all, "%s %d\n%s\n", name, len(content), content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all.String()
}

// TestReadOnlyWithPendingRows: rows that only the log has are read where nothing can be written.
func TestReadOnlyWithPendingRows(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{})
	apply(t, x, put("in the file", 1))
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	apply(t, x, put("in the log", 1))
	want := everything(t, x)
	crashed := copyIndex(t, path)
	mustClose(t, x)
	before := treeOf(t, filepath.Dir(crashed))
	for range 2 {
		x := open(t, crashed, index.Options{ReadOnly: true})
		equal(t, "content", everything(t, x), want)
		if _, err := x.Apply(background, put("c", 1)); !errors.Is(err, index.ErrReadOnly) {
			t.Errorf("apply: got %v, want %v", err, index.ErrReadOnly)
		}
		mustClose(t, x)
	}
	if treeOf(t, filepath.Dir(crashed)) != before {
		t.Error("something was changed")
	}
}

// TestUses: Hold sees the file alone and changes nothing; a file that is rebuilt leaves its log, and begins where that ends when it is opened to serve.
func TestUses(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{})
	apply(t, x, put("in the file", 1))
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	apply(t, x, put("in the log", 1))
	crashed := copyIndex(t, path)
	mustClose(t, x)

	held := mustOpen(t, crashed, index.Options{Use: index.Hold})
	if _, err := held.Get("in the log"); !errors.Is(err, index.ErrNotFound) {
		t.Errorf("held: got %v, want %v", err, index.ErrNotFound)
	}
	if _, err := held.Apply(background, put("x", 1)); !errors.Is(err, index.ErrReadOnly) {
		t.Errorf("held: got %v, want %v", err, index.ErrReadOnly)
	}
	if _, err := index.Open(crashed, index.Options{}); !errors.Is(err, index.ErrLocked) {
		t.Errorf("while it is held: got %v, want %v", err, index.ErrLocked)
	}
	mustClose(t, held)

	rebuilt := mustOpen(t, crashed, index.Options{Use: index.Rebuild})
	apply(t, rebuilt, put("rebuilt", 1))
	if _, err := rebuilt.Apply(background, putBytes("payload", []byte("x"))); err == nil {
		t.Error("a payload was taken without a log")
	}
	mustClose(t, rebuilt)
	for range 2 {
		x = open(t, crashed, index.Options{})
		equal(t, "content", list(t, x, index.ListOptions{}), []string{"in the file", "rebuilt"})
		apply(t, x, putRef("rebuilt", fmt.Sprint("ref", time.Now().UnixNano()), 1))
		mustClose(t, x)
	}
}

// TestSegmentsGo: segments of which nothing is needed are unlinked by a checkpoint, and no others.
func TestSegmentsGo(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{SegmentSize: 1 << 20})
	payload := bytes.Repeat([]byte("x"), index.MaxPayload)
	for i := range 40 {
		apply(t, x, putBytes(fmt.Sprint(i), payload))
	}
	before, err := x.Segments()
	if err != nil || len(before) < 5 {
		t.Fatalf("segments: %+v, %v; want several", before, err)
	}
	var ids []string
	for i := range 40 {
		if i != 20 {
			ids = append(ids, apply(t, x, index.Delete{Key: fmt.Sprint(i), Now: clock, TrashUntil: clock})[0].TrashID)
		}
	}
	apply(t, x, index.PurgeTrash{IDs: ids})
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	after, err := x.Segments()
	if err != nil || len(after) != 2 || after[0].Blobs != 1 {
		t.Fatalf("segments: %+v, %v; want that of one payload and the last", after, err)
	}
	wantPayload(t, x, "20", payload)
	mustClose(t, x)
	x = mustOpen(t, path, index.Options{SegmentSize: 1 << 20})
	wantPayload(t, x, "20", payload)
	refs, err := x.Payloads(after[0].First, 10)
	if err != nil || len(refs) != 1 {
		t.Fatalf("payloads: %q, %v; want one", refs, err)
	}
	apply(t, x, index.Relocate{Ref: refs[0], Payload: payload})
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	if after, err = x.Segments(); err != nil || len(after) != 1 {
		t.Fatalf("segments: %+v, %v; want the last one", after, err)
	}
	wantPayload(t, x, "20", payload)
	checkWhole(t, x)
	mustClose(t, x)
	wantPayload(t, open(t, path, index.Options{SegmentSize: 1 << 20}), "20", payload)
}

// TestSegmentsOfAReplacedFileStay: a checkpoint of a file that lost its name removes nothing that the one which has it needs of the log.
func TestSegmentsOfAReplacedFileStay(t *testing.T) {
	path := newIndex(t)
	x := mustOpen(t, path, index.Options{SegmentSize: 16 << 10})
	apply(t, x, put("in the file", 1))
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	release := x.HoldCheckpoints()
	for i := range 300 {
		apply(t, x, put(fmt.Sprint("in the log/", i), 1))
	}
	want := everything(t, x)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(path+".copy", content, 0o600), os.Rename(path+".copy", path)); err != nil {
		t.Fatal(err)
	}
	release()
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	mustClose(t, x)
	equal(t, "content of the copy", everything(t, open(t, path, index.Options{})), want)
}

// TestFailedCheckpointIsTriedAgain: a checkpoint that could not be made is made when it can, also if nobody changes anything more. Until
// then it is tried now and then, and not with each group.
func TestFailedCheckpointIsTriedAgain(t *testing.T) {
	path := newIndex(t)
	var tries atomic.Int64
	var full atomic.Bool
	x := open(t, path, index.Options{BeforeWrite: func() error {
		if full.Load() {
			tries.Add(1)
			return index.ErrNoSpace
		}
		return nil
	}})
	await := func(what string, holds func(index.LogStatus) bool) {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); !holds(x.LogStatus()); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("%s: not after half a minute: %+v", what, x.LogStatus())
			}
		}
	}
	full.Store(true)
	x.SetCheckpointRetry(time.Hour)
	muts := make([]index.Mutation, index.CheckpointRows)
	for i := range muts {
		muts[i] = put(fmt.Sprint(i), 1)
	}
	apply(t, x, muts...)
	await("a failed checkpoint", func(s index.LogStatus) bool { return errors.Is(s.Err, index.ErrNoSpace) })
	for i := range 100 {
		apply(t, x, put(fmt.Sprint("more/", i), 1))
	}
	if n := tries.Load(); n > 2 {
		t.Errorf("%d tries with 100 groups", n)
	}
	x.SetMaxPending(100) // who adds more has to wait for one
	before := tries.Load()
	if _, err := x.Apply(background, put("beyond", 1)); !errors.Is(err, index.ErrNoSpace) {
		t.Errorf("beyond the bound: got %v, want %v", err, index.ErrNoSpace)
	}
	if n := tries.Load() - before; n < 1 || n > 2 {
		t.Errorf("%d tries for one group", n)
	}
	x.SetCheckpointRetry(time.Millisecond)
	full.Store(false)
	await("a checkpoint", func(s index.LogStatus) bool { return s.PendingRows == 0 && s.Err == nil })
}
