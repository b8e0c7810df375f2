package bench_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/bench"
	"packhouse/repo/digest"
)

// TestDrivers speaks every dialect to every server there is: what a driver stores comes back, whole and in part, is
// listed, and is gone after its deletion.
func TestDrivers(t *testing.T) {
	for _, s := range append(ownServers(t), installedPeers(t)...) {
		t.Run(s.Info.Name, func(t *testing.T) {
			t.Parallel()
			store, err := bench.StartStore(t.Context(), t.TempDir(), s, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() {
				if err := store.Remove(); err != nil {
					t.Error(err)
				}
			})
			d, free := store.Connect(2)
			defer free()
			testDriver(t, d, s.Hash, s.Info.Floor)
		})
	}
}

// The driver of restic's protocol, with a server that takes what restic's own client sends, and nothing else.
func TestResticDriver(t *testing.T) {
	server := httptest.NewServer(&resticServer{items: map[string][]byte{}})
	defer server.Close()
	c := bench.NewClient(server.URL, http.Header{}, 2, nil)
	defer c.Close()
	testDriver(t, bench.NewRestic(c), digest.SHA256, false)
}

func testDriver(t *testing.T, d bench.Driver, hash string, floor bool) {
	ctx := t.Context()
	if n, err := d.List(ctx); err != nil || n != 0 {
		t.Fatalf("list of nothing: %d items, %v", n, err)
	}
	bodies := make(map[string][]byte)
	var names []string
	for i, size := range []int64{200, 200, 8 << 10, 8 << 10, 2 << 20} {
		body := bench.NewBody(size)
		bench.Stamp(body, uint64(i))
		name := sum(t, hash, body)
		if err := d.Put(ctx, name, body); err != nil {
			t.Fatal(err)
		}
		if f, ok := d.(bench.Filler); ok {
			if err := f.Fill(ctx, name, body); err != nil {
				t.Fatal(err)
			}
		}
		names, bodies[name] = append(names, name), body
	}
	for name, body := range bodies {
		for _, part := range [][2]int64{{0, 0}, {0, 10}, {37, 64}, {int64(len(body)) - 5, 5}} {
			want := body
			if part[1] > 0 {
				want = body[part[0] : part[0]+part[1]]
			}
			var got bytes.Buffer
			n, err := d.Get(ctx, name, part[0], part[1], &got)
			if err != nil || n != int64(len(want)) || !bytes.Equal(got.Bytes(), want) {
				t.Errorf("get %v of %d bytes: %d bytes, %v", part, len(body), n, err)
			}
		}
	}
	list := func(want int64) {
		t.Helper()
		if floor { // its list is none of what is stored
			return
		}
		if n, err := d.List(ctx); err != nil || n != want {
			t.Errorf("list: %d items, %v, want %d", n, err, want)
		}
	}
	list(5)
	if n, err := d.ListPart(ctx, names[0][:2]); err != nil || n > 5 {
		t.Errorf("list a part: %d items, %v", n, err)
	}
	if b, ok := d.(bench.BatchDeleter); ok {
		if err := b.DeleteAll(ctx, names[1:4]); err != nil {
			t.Error(err)
		}
		names = append(names[:1], names[4:]...)
	}
	for _, name := range names[:len(names)-1] {
		if err := d.Delete(ctx, name); err != nil {
			t.Error(err)
		}
	}
	list(1)
	var status *bench.StatusError
	if _, err := d.Get(ctx, names[0], 0, 0, nil); !floor && (!errors.As(err, &status) || status.Code != http.StatusNotFound) {
		t.Errorf("get what was deleted: got %v, want 404", err)
	}
	testCompact(t, d, hash, floor)
}

func sum(t *testing.T, hash string, body []byte) string {
	t.Helper()
	algorithm, err := digest.Lookup(hash)
	if err != nil {
		t.Fatal(err)
	}
	h := algorithm.New()
	h.Write(body)
	return hex.EncodeToString(h.Sum(nil))
}

// testCompact keeps one of two blobs of a pack: then there is a pack of that alone, in the place of the old one.
func testCompact(t *testing.T, d bench.Driver, hash string, floor bool) {
	t.Helper()
	ctx := t.Context()
	compact := func(packs []bench.Pack) error { return bench.CompactByClient(ctx, d, hash, packs) }
	if c, ok := d.(bench.Compactor); ok {
		compact = func(packs []bench.Pack) error { return c.Compact(ctx, packs) }
	}
	put := d.Put
	if f, ok := d.(bench.Filler); ok {
		put = f.Fill
	}
	before := bench.NewBody(100)
	// Framed as V'Ger does, whose server looks at the frame before a range.
	two := append(before, 5, 0, 0, 0, 'a', 'l', 'i', 'v', 'e')
	name := sum(t, hash, two)
	if err := put(ctx, name, two); err != nil {
		t.Fatal(err)
	}
	items, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := compact([]bench.Pack{{Name: name, Keep: []bench.Range{{Offset: int64(len(before)) + 4, Length: 5}}}}); err != nil {
		t.Fatalf("compact: %v", err)
	}
	if floor {
		return // it gives the new pack no name
	}
	found := false
	for _, alone := range []string{"alive", "VGERPACK\x01\x05\x00\x00\x00alive"} {
		var got bytes.Buffer
		_, err := d.Get(ctx, sum(t, hash, []byte(alone)), 0, 0, &got)
		found = found || err == nil && got.String() == alone
	}
	if !found {
		t.Error("there is no pack of what lives")
	}
	after, err := d.List(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if hash != digest.SHA256 {
		after-- // the index, which V'Ger's compaction ends with
	}
	if after != items {
		t.Errorf("%d items after the compaction, want %d: the old pack is gone", after, items)
	}
}

// resticServer is as much of a server of restic's protocol as can tell whether a driver speaks it.
type resticServer struct {
	mu    sync.Mutex
	items map[string][]byte
}

func (s *resticServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, isItem := strings.CutPrefix(r.URL.Path, "/data/")
	switch {
	case r.Method == http.MethodPost && r.URL.Path == "/" && r.URL.RawQuery == "create=true":
	case r.Method == http.MethodGet && (r.URL.Path == "/data/" || r.URL.Path == "/locks/"):
		s.list(w, r)
	case !isItem || len(name) != 64:
		http.NotFound(w, r)
	case r.Method == http.MethodPost:
		body, err := io.ReadAll(r.Body)
		sum := sha256.Sum256(body)
		if _, there := s.items[name]; there || err != nil || hex.EncodeToString(sum[:]) != name {
			http.Error(w, "refused", http.StatusBadRequest)
			return
		}
		s.items[name] = body
	case s.items[name] == nil:
		http.NotFound(w, r)
	case r.Method == http.MethodGet:
		w.Header().Set("Content-Type", "application/octet-stream")
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(s.items[name]))
	case r.Method == http.MethodDelete:
		delete(s.items, name)
	}
}

func (s *resticServer) list(w http.ResponseWriter, r *http.Request) {
	type entry struct {
		Name string `json:"name"`
		Size int    `json:"size"`
	}
	all := []entry{}
	if r.URL.Path == "/data/" {
		for name, body := range s.items {
			all = append(all, entry{name, len(body)})
		}
	}
	const v2 = "application/vnd.x.restic.rest.v2"
	if r.Header.Get("Accept") != v2 {
		http.Error(w, "not this version", http.StatusNotAcceptable)
		return
	}
	w.Header().Set("Content-Type", v2)
	_ = json.NewEncoder(w).Encode(all)
}
