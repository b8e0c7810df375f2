package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
)

func TestRoundTrip(t *testing.T) {
	s, dir := newStore(t)
	var refs []blobstore.Ref
	for _, size := range []int{0, 1, 59, 60, 4095, 4096, 8192, 1 << 20, 9<<20 + 7} {
		for _, label := range []string{"", "label", strings.Repeat("l", blobstore.MaxLabel)} {
			content := random(uint64(size), size)
			ref, err := put(s, content, label)
			if err != nil {
				t.Fatalf("size %d, label of %d: %v", size, len(label), err)
			}
			if len(ref) > 32 {
				t.Errorf("reference of %d bytes", len(ref))
			}
			wantContent(t, s, ref, content)
			got, info, err := s.Label(ref)
			if err != nil || string(got) != label || info != infoOf(content) {
				t.Errorf("label of size %d: got %.20q, %v, %v", size, got, info, err)
			}
			refs = append(refs, ref)
		}
	}
	wantFiles(t, dir, refs, refs)
	for _, ref := range refs {
		mustSettle(t, s, ref)
		mustSettle(t, s, ref) // again: fine
	}
	wantFiles(t, dir, refs, nil)
	if mode := mustStat(t, blobPath(dir, refs[0])).Mode(); mode != 0o600 {
		t.Errorf("mode %v, want 0600", mode)
	}
}

// TestPieces: how a body is cut into writes makes no difference, and no write of it allocates.
func TestPieces(t *testing.T) {
	s, _ := newStore(t)
	content := random(1, 300_000)
	w, err := s.Create(context.Background(), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for rest, n := content, 0; len(rest) > 0; n = (n*7 + 1) % 20_000 {
		n = min(n, len(rest))
		if got, err := w.Write(rest[:n]); err != nil || got != n {
			t.Fatalf("write: got %d, %v; want %d", got, err, n)
		}
		rest = rest[n:]
		if got, want := w.Size(), int64(len(content)-len(rest)); got != want {
			t.Errorf("size: got %d, want %d", got, want)
		}
	}
	ref, _, err := w.Commit(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	wantContent(t, s, ref, content)

	w, err = s.Create(context.Background(), -1)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	piece := content[:64<<10]
	if allocs := testing.AllocsPerRun(100, func() { w.Write(piece) }); allocs > 0 {
		t.Errorf("%v allocations for a write", allocs)
	}
}

func TestReadAt(t *testing.T) {
	s, _ := newStore(t)
	ref := mustPut(t, s, "0123456789", "label")
	for _, size := range []int64{-1, 10} {
		b, err := s.Open(ref, sized(size))
		if err != nil {
			t.Fatal(err)
		}
		tests := []struct {
			off  int64
			n    int
			want string
			err  error
		}{
			{0, 4, "0123", nil},
			{6, 4, "6789", nil},
			{6, 5, "6789", io.EOF}, // not a byte of the trailer
			{0, 100, "0123456789", io.EOF},
			{10, 1, "", io.EOF},
			{10, 0, "", io.EOF},
			{1 << 62, 1, "", io.EOF},
			{3, 0, "", nil},
			{-1, 1, "", blobstore.ErrRange},
		}
		for _, test := range tests {
			p := make([]byte, test.n)
			n, err := b.ReadAt(p, test.off)
			if string(p[:n]) != test.want || !errors.Is(err, test.err) {
				t.Errorf("%d bytes at %d: got %q, %v; want %q, %v", test.n, test.off, p[:n], err, test.want, test.err)
			}
		}
		if b.Size() != 10 {
			t.Errorf("size: got %d, want 10", b.Size())
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// plainFS hides that its files are the operating system's.
type plainFS struct{ vfs.FS }

type plainFile struct{ vfs.File }

func (f plainFS) Open(name string) (vfs.File, error) {
	file, err := f.FS.Open(name)
	if err != nil {
		return nil, err
	}
	return plainFile{file}, nil
}

func TestSection(t *testing.T) {
	const most = 1<<63 - 1
	tests := []struct {
		off, n int64
		want   string
		err    error
	}{
		{0, 10, "0123456789", nil},
		{0, 0, "", nil},
		{3, 4, "3456", nil},
		{9, 1, "9", nil},
		{10, 0, "", nil},
		{0, 11, "", blobstore.ErrRange},
		{10, 1, "", blobstore.ErrRange},
		{11, 0, "", blobstore.ErrRange},
		{-1, 2, "", blobstore.ErrRange},
		{1, -1, "", blobstore.ErrRange},
		{1, most, "", blobstore.ErrRange},
		{most, most, "", blobstore.ErrRange},
	}
	for name, fsys := range map[string]vfs.FS{"os": vfs.OS(), "other": plainFS{vfs.OS()}} {
		t.Run(name, func(t *testing.T) {
			s := open(t, newDir(t), fsys)
			b, err := s.Open(mustPut(t, s, "0123456789", "label"), sized(10))
			if err != nil {
				t.Fatal(err)
			}
			defer b.Close()
			for _, test := range tests {
				section, err := b.Section(test.off, test.n)
				if !errors.Is(err, test.err) {
					t.Errorf("%d from %d: got %v, want %v", test.n, test.off, err, test.err)
				}
				if err != nil {
					continue
				}
				if got, err := io.ReadAll(section); err != nil || string(got) != test.want {
					t.Errorf("%d from %d: got %q, %v; want %q", test.n, test.off, got, err, test.want)
				}
			}
		})
	}
}

// TestSectionOverHTTP: where nothing is checked, the reader is of the form that package net sends by sendfile, and what is
// sent ends with the payload.
func TestSectionOverHTTP(t *testing.T) {
	s, err := blobstore.Open(blobstore.Options{Dir: newDir(t), Unchecked: true})
	if err != nil {
		t.Fatal(err)
	}
	content := random(2, 1<<20)
	ref, err := put(s, content, "label")
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := s.Open(ref, infoOf(content))
		if err != nil {
			t.Error(err)
			return
		}
		defer b.Close()
		section, err := b.Section(1000, int64(len(content))-1000)
		if err != nil {
			t.Error(err)
			return
		}
		limited, ok := section.(*io.LimitedReader)
		if !ok {
			t.Errorf("section is a %T", section)
			return
		}
		if _, ok := limited.R.(*os.File); !ok {
			t.Errorf("section of a %T", limited.R)
		}
		w.Header().Set("Content-Length", strconv.Itoa(len(content)-1000))
		if _, err := io.Copy(w, section); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	response, err := http.Get(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if got, err := io.ReadAll(response.Body); err != nil || !bytes.Equal(got, content[1000:]) {
		t.Errorf("got %d bytes, %v; want %d", len(got), err, len(content)-1000)
	}
}

// TestReaderOutlivesRemove: who has a blob open when it is removed finishes undisturbed.
func TestReaderOutlivesRemove(t *testing.T) {
	s, dir := newStore(t)
	content := random(3, 1<<20)
	ref, err := put(s, content, "")
	if err != nil {
		t.Fatal(err)
	}
	mustSettle(t, s, ref)
	b, err := s.Open(ref, unknown)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	section, err := b.Section(0, b.Size())
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(section, head); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ref); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove(ref); err != nil {
		t.Errorf("again: %v", err)
	}
	rest, err := io.ReadAll(section)
	if err != nil || !bytes.Equal(append(head, rest...), content) {
		t.Errorf("after removal: got %d bytes, %v", len(head)+len(rest), err)
	}
	if _, err := s.Open(ref, unknown); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("open after removal: got %v, want ErrNotFound", err)
	}
	wantFiles(t, dir, nil, nil)
}

func TestRemoveAll(t *testing.T) {
	s, dir := newStore(t)
	var refs []blobstore.Ref
	for i := range 20 {
		refs = append(refs, mustPut(t, s, fmt.Sprint("content ", i), ""))
		if i%2 == 0 {
			mustSettle(t, s, refs[i])
		}
	}
	bad := blobstore.Ref("nonsense")
	if err := s.RemoveAll(append([]blobstore.Ref{bad}, refs[:10]...)); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("with a malformed reference: got %v, want ErrCorrupt", err)
	}
	left := refs[10:]
	var markers []blobstore.Ref
	for i, ref := range left {
		if i%2 == 1 {
			markers = append(markers, ref)
		}
	}
	wantFiles(t, dir, left, markers) // the good ones are gone all the same
	if err := s.RemoveAll(refs); err != nil {
		t.Error(err)
	}
	wantFiles(t, dir, nil, nil)
	if err := s.RemoveAll(nil); err != nil {
		t.Error(err)
	}
}

func TestAbort(t *testing.T) {
	s, dir := newStore(t)
	w, err := write(s, []byte("given up"))
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	w.Abort()
	wantFiles(t, dir, nil, nil)
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("write after Abort: no error")
	}
	if _, _, err := w.Commit(context.Background(), nil); err == nil {
		t.Error("commit after Abort: no error")
	}

	w, err = write(s, []byte("kept"))
	if err != nil {
		t.Fatal(err)
	}
	ref, _, err := w.Commit(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	w.Abort()
	if _, _, err := w.Commit(context.Background(), nil); err == nil {
		t.Error("second commit: no error")
	}
	if _, err := w.Write([]byte("x")); err == nil {
		t.Error("write after Commit: no error")
	}
	wantContent(t, s, ref, []byte("kept"))
}

func TestCommitRefuses(t *testing.T) {
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	tests := []struct {
		name  string
		ctx   context.Context
		label int
		text  string
	}{
		{"label too long", context.Background(), blobstore.MaxLabel + 1, "label of 4097 bytes, at most 4096"},
		{"context ended", ended, 0, "canceled"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s, dir := newStore(t)
			w, err := write(s, []byte("content"))
			if err != nil {
				t.Fatal(err)
			}
			_, _, err = w.Commit(test.ctx, make([]byte, test.label))
			if err == nil || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %q", err, test.text)
			}
			wantFiles(t, dir, nil, nil)
			if s.Failed() != nil {
				t.Errorf("store failed: %v", s.Failed())
			}
		})
	}
	s, dir := newStore(t)
	if _, err := s.Create(ended, -1); !errors.Is(err, context.Canceled) {
		t.Errorf("create: got %v, want canceled", err)
	}
	wantFiles(t, dir, nil, nil)
	ref := mustPut(t, s, "content", "")
	if _, err := s.Verify(ended, ref, asStored); !errors.Is(err, context.Canceled) {
		t.Errorf("verify: got %v, want canceled", err)
	}
	if err := s.Walk(ended, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("walk: got %v, want canceled", err)
	}
}

func TestClosed(t *testing.T) {
	s, dir := newStore(t)
	ref := mustPut(t, s, "content", "")
	w, err := write(s, []byte("late"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(ref, sized(7))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, createErr := s.Create(context.Background(), -1)
	_, _, commitErr := w.Commit(context.Background(), nil)
	_, sweepErr := s.Sweep(context.Background(), nil)
	for name, err := range map[string]error{"create": createErr, "commit": commitErr, "remove": s.Remove(ref), "sweep": sweepErr} {
		if !errors.Is(err, blobstore.ErrClosed) {
			t.Errorf("%s: got %v, want ErrClosed", name, err)
		}
	}
	if got, err := io.ReadAll(io.NewSectionReader(b, 0, 7)); err != nil || string(got) != "content" {
		t.Errorf("an open blob: got %q, %v", got, err)
	}
	wantFiles(t, dir, []blobstore.Ref{ref}, []blobstore.Ref{ref})
}

func TestMissingAndMalformed(t *testing.T) {
	s, dir := newStore(t)
	missing := blobstore.RefOf(goldenName)
	tests := []struct {
		name string
		ref  blobstore.Ref
		want error
	}{
		{"missing", missing, blobstore.ErrNotFound},
		{"empty", "", blobstore.ErrCorrupt},
		{"too short", missing[:16], blobstore.ErrCorrupt},
		{"too long", missing + "x", blobstore.ErrCorrupt},
		{"unknown kind", "\x04" + missing[1:], blobstore.ErrNewer},
		{"no kind", "\x00" + missing[1:], blobstore.ErrCorrupt},
	}
	for _, test := range tests {
		_, openErr := s.Open(test.ref, unknown)
		_, _, labelErr := s.Label(test.ref)
		_, verifyErr := s.Verify(context.Background(), test.ref, asStored)
		for call, err := range map[string]error{"open": openErr, "label": labelErr, "verify": verifyErr} {
			if !errors.Is(err, test.want) || strings.Contains(err.Error(), dir) {
				t.Errorf("%s, %s: got %v, want %v without a path", test.name, call, err, test.want)
			}
		}
		wantErr := test.want
		if wantErr == blobstore.ErrNotFound {
			wantErr = nil
		}
		if err := s.Remove(test.ref); !errors.Is(err, wantErr) {
			t.Errorf("%s, remove: got %v, want %v", test.name, err, wantErr)
		}
		if err := s.Settle(test.ref); !errors.Is(err, wantErr) {
			t.Errorf("%s, settle: got %v, want %v", test.name, err, wantErr)
		}
	}
}

// TestOpenLength: a file that cannot be a blob of that size is refused without reading it.
func TestOpenLength(t *testing.T) {
	s, dir := newStore(t)
	ref := mustPut(t, s, "0123456789", "")
	path := blobPath(dir, ref)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		length int
		size   int64
		want   error
	}{
		{len(whole), 10, nil},
		{len(whole), 11, blobstore.ErrCorrupt},
		{len(whole), 1<<63 - 1, blobstore.ErrCorrupt},
		{len(whole) - 1, 10, blobstore.ErrCorrupt},
		{len(whole) - 1, -1, blobstore.ErrCorrupt},
		{0, 10, blobstore.ErrCorrupt},
		{0, -1, blobstore.ErrCorrupt},
		{len(whole) + 5000, 10, blobstore.ErrCorrupt},
	}
	for _, test := range tests {
		if err := os.Truncate(path, int64(test.length)); err != nil {
			t.Fatal(err)
		}
		b, err := s.Open(ref, sized(test.size))
		if !errors.Is(err, test.want) {
			t.Errorf("file of %d, size %d: got %v, want %v", test.length, test.size, err, test.want)
		}
		if err == nil {
			b.Close()
		}
	}
	// Cut while it is open: the reader is told, rather than given a short blob.
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	b, err := s.Open(ref, sized(10))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	if err := os.Truncate(path, 4); err != nil {
		t.Fatal(err)
	}
	if n, err := b.ReadAt(make([]byte, 10), 0); n != 0 || !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("read of a cut file: got %d, %v; want nothing of its block, ErrCorrupt", n, err)
	}
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestInitAndOpen(t *testing.T) {
	dir := t.TempDir()
	if _, err := blobstore.Open(blobstore.Options{Dir: dir}); !errors.Is(err, fs.ErrNotExist) || strings.Contains(err.Error(), dir) {
		t.Errorf("open of nothing: got %v, want not exist, without the path", err)
	}
	if _, err := blobstore.Open(blobstore.Options{}); err == nil {
		t.Error("open without a directory: no error")
	}
	if err := blobstore.Init(nil, filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("init below nothing: got %v, want not exist", err)
	}
	for range 2 {
		if err := blobstore.Init(nil, dir); err != nil {
			t.Fatal(err)
		}
	}
	shards, err := filepath.Glob(filepath.Join(dir, "blobs", "*"))
	if err != nil || len(shards) != 256 || filepath.Base(shards[0]) != "00" || filepath.Base(shards[255]) != "ff" {
		t.Errorf("shards: got %d, %v", len(shards), err)
	}
	open(t, dir, nil)
	if err := os.Remove(filepath.Join(dir, "blobs", "7f")); err != nil {
		t.Fatal(err)
	}
	s := open(t, dir, nil)
	missing := func(want ...string) {
		t.Helper()
		if got, err := s.MissingShards(); err != nil || !slices.Equal(got, want) {
			t.Errorf("missing shards: got %q, %v, want %q", got, err, want)
		}
	}
	missing("7f")
	if err := s.MakeShards(); err != nil {
		t.Fatal(err)
	}
	missing()
	if err := os.Remove(filepath.Join(dir, "blobs", "7f")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "blobs", "7f"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	missing("7f")
	if err := os.RemoveAll(filepath.Join(dir, "blobs")); err != nil {
		t.Fatal(err)
	}
	if got, err := s.MissingShards(); err != nil || len(got) != 256 {
		t.Errorf("missing shards of nothing: got %d, %v", len(got), err)
	}
}

func TestWalk(t *testing.T) {
	s, dir := newStore(t)
	want := make(map[blobstore.Ref]string)
	for i := range 50 {
		label := fmt.Sprintf("label %d", i)
		want[mustPut(t, s, strings.Repeat("x", i*100), label)] = label
	}
	// None of these is a blob of ours.
	other := strings.Repeat("0", 30)
	for _, name := range []string{"ff/notes.txt", "ff/" + other + "FF", "00/" + other + "01", "00/" + other, "00/.hidden"} {
		if err := os.WriteFile(filepath.Join(dir, "blobs", name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	torn := blobstore.RefOf(other + "2a")
	if err := os.WriteFile(blobPath(dir, torn), []byte("torn"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := make(map[blobstore.Ref]string)
	var removed blobstore.Ref
	damaged := 0
	err := s.Walk(context.Background(), func(ref blobstore.Ref, label []byte, info blobstore.Info, err error) error {
		if ref == torn {
			damaged++
			if !errors.Is(err, blobstore.ErrCorrupt) {
				t.Errorf("torn file: got %v, want ErrCorrupt", err)
			}
			return nil
		}
		if err != nil {
			return err
		}
		var i int
		if _, err := fmt.Sscanf(string(label), "label %d", &i); err != nil || info.Size != int64(i*100) {
			t.Errorf("label %q: size %d, %v", label, info.Size, err)
		}
		got[ref] = string(label)
		if removed != "" {
			return nil
		}
		for ref := range want { // one that may have been listed already, but was not met yet
			if _, met := got[ref]; !met {
				removed = ref
				return s.Remove(ref)
			}
		}
		return nil
	})
	if err != nil || damaged != 1 {
		t.Errorf("walk: %v, %d damaged", err, damaged)
	}
	delete(want, removed)
	if len(got) != len(want) {
		t.Errorf("met %d blobs, want %d", len(got), len(want))
	}
	for ref, label := range want {
		if got[ref] != label {
			t.Errorf("blob %x: label %q, want %q", string(ref), got[ref], label)
		}
	}
	stop := errors.New("stop")
	calls := 0
	err = s.Walk(context.Background(), func(blobstore.Ref, []byte, blobstore.Info, error) error {
		calls++
		return stop
	})
	if err != stop || calls != 1 {
		t.Errorf("stopped walk: got %v after %d calls, want stop after 1", err, calls)
	}
	if err := s.Remove(torn); err != nil {
		t.Error(err)
	}
}

func TestSpace(t *testing.T) {
	s, _ := newStore(t)
	if free, total, err := s.Space(); err != nil || free <= 0 || total < free {
		t.Errorf("got %d of %d, %v", free, total, err)
	}
}

// stuckRand gives the same bytes over and over for the first draws.
type stuckRand struct {
	draws int // how many are still the same; negative: all
	seed  byte
}

func (r *stuckRand) Read(p []byte) (int, error) {
	if r.draws == 0 {
		r.seed++
	} else {
		r.draws--
	}
	for i := range p {
		p[i] = r.seed
	}
	return len(p), nil
}

// TestTakenIDs: an ID that is in use, in incoming/ or in a shard, never harms who has it.
func TestTakenIDs(t *testing.T) {
	dir := newDir(t)
	openWith := func(draws int) *blobstore.Store {
		s, err := blobstore.Open(blobstore.Options{
			Dir: dir, Rand: &stuckRand{draws: draws}, Now: func() time.Time { return time.UnixMilli(1) },
		})
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	s := openWith(3)
	first := mustPut(t, s, "first", "")   // draw 1; unsettled
	second := mustPut(t, s, "second", "") // draws 2 and 3 are taken in incoming/
	wantContent(t, s, first, []byte("first"))
	wantContent(t, s, second, []byte("second"))
	mustSettle(t, s, first)
	mustSettle(t, s, second)

	s = openWith(2)
	third := mustPut(t, s, "third", "") // free in incoming/, taken in the shard
	wantContent(t, s, first, []byte("first"))
	wantContent(t, s, second, []byte("second"))
	wantContent(t, s, third, []byte("third"))
	refs := []blobstore.Ref{first, second, third}
	wantFiles(t, dir, refs, []blobstore.Ref{third})
	mustSettle(t, s, third)

	s = openWith(-1)
	if _, err := put(s, []byte("never"), ""); err == nil {
		t.Error("a store without randomness gave an ID twice")
	}
	if s.Failed() != nil {
		t.Errorf("store failed: %v", s.Failed())
	}
	wantFiles(t, dir, refs, nil)
}

func TestNoRandomness(t *testing.T) {
	s, err := blobstore.Open(blobstore.Options{Dir: newDir(t), Rand: strings.NewReader("123")})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Create(context.Background(), -1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("got %v, want the error of Rand", err)
	}
}

// twiceFS is a network file system that sends each link twice.
type twiceFS struct{ vfs.FS }

func (f twiceFS) Link(oldname, newname string) error {
	if err := f.FS.Link(oldname, newname); err != nil {
		return err
	}
	return f.FS.Link(oldname, newname)
}

func TestLinkSentTwice(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, twiceFS{vfs.OS()})
	ref := mustPut(t, s, "content", "")
	wantContent(t, s, ref, []byte("content"))
	wantFiles(t, dir, []blobstore.Ref{ref}, []blobstore.Ref{ref})
}

// hintFS notes how much was sent on its way before the sync.
type hintFS struct {
	vfs.FS
	hints *[][2]int64
}

type hintFile struct {
	vfs.File
	hints *[][2]int64
}

func (f hintFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return hintFile{file, f.hints}, err
}

func (f hintFile) StartWriteback(off, n int64) error {
	*f.hints = append(*f.hints, [2]int64{off, n})
	return errors.New("a hint may fail")
}

func TestWriteback(t *testing.T) {
	var hints [][2]int64
	s := open(t, newDir(t), hintFS{vfs.OS(), &hints})
	w, err := s.Create(context.Background(), -1)
	if err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 3<<20)
	for range 7 {
		if _, err := w.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := w.Commit(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	want := [][2]int64{{0, 9 << 20}, {9 << 20, 9 << 20}}
	if !slices.Equal(hints, want) {
		t.Errorf("hints: got %v, want %v", hints, want)
	}
}

// Who verifies decides before each read whether it may go on.
func TestVerifyPace(t *testing.T) {
	s, _ := newStore(t)
	ref := mustPut(t, s, string(random(1, 600<<10)), "label")
	var steps []int64
	if _, err := s.Verify(context.Background(), ref, blobstore.Check{Want: unknown, Pace: func(n int64) error { steps = append(steps, n); return nil }}); err != nil {
		t.Fatal(err)
	}
	if got, want := fmt.Sprint(steps), fmt.Sprint([]int64{256 << 10, 256 << 10, 88 << 10}); got != want {
		t.Errorf("steps: got %s, want %s", got, want)
	}
	enough := errors.New("enough")
	found, err := s.Verify(context.Background(), ref, blobstore.Check{Want: unknown, Pace: func(n int64) error {
		if n < 256<<10 {
			return enough
		}
		return nil
	}})
	if !errors.Is(err, enough) || found.Size != 512<<10 {
		t.Errorf("ended by its pace: got %+v, %v, want 512 KiB read", found, err)
	}
}
