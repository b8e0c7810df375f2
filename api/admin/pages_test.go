package admin_test

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/admin"
	"packhouse/repo"
)

// page asks for a page and decodes it.
func page[T any](w *world, as, path string) (p T) {
	w.t.Helper()
	resp, text := w.call(as, http.MethodGet, path, "")
	if resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s: got %d %s", path, resp.StatusCode, text)
	}
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		w.t.Fatalf("%s: %v in %s", path, err, text)
	}
	return p
}

// TestPages: lists that may be long come in pages, each once, also filtered, and whatever is asked for.
func TestPages(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 7 {
		w.put(fmt.Sprintf("packs/%d", i), "x")
	}
	for i := range 5 {
		if err := w.access().Delete(context.Background(), fmt.Sprintf("packs/%d", i)); err != nil {
			t.Fatal(err)
		}
	}
	var keys []string
	for after, n := "", 0; ; n++ {
		p := page[admin.TrashPage](w, "root", "/r/-/trash?limit=2&after="+after)
		for _, row := range p.Removed {
			keys = append(keys, row.Key)
		}
		if after = p.Next; after == "" {
			if n != 2 {
				t.Errorf("got %d pages of the trash, want 3", n+1)
			}
			break
		}
	}
	if got := strings.Join(keys, " "); got != "packs/0 packs/1 packs/2 packs/3 packs/4" {
		t.Errorf("trash: got %s", got)
	}
	if p := page[admin.TrashPage](w, "root", "/r/-/trash?limit=10&prefix=packs/3"); len(p.Removed) != 1 || p.Removed[0].Key != "packs/3" || p.Next != "" {
		t.Errorf("filtered trash: got %+v", p)
	}

	keys = nil
	for before := ""; ; {
		p := page[admin.HistoryPage](w, "root", "/r/-/history?limit=5"+before)
		for _, c := range p.Changes {
			keys = append(keys, c.Kind+" "+c.Key)
		}
		if p.Next == 0 {
			break
		}
		before = fmt.Sprint("&before=", p.Next)
	}
	if got := strings.Join(keys, ","); !strings.HasPrefix(got, "delete packs/4,delete packs/3") || !strings.HasSuffix(got, "store packs/1,store packs/0") || len(keys) != 12 {
		t.Errorf("history: got %s", got)
	}
	if p := page[admin.HistoryPage](w, "root", "/r/-/history?limit=1&key=packs/2&principal=test"); len(p.Changes) != 1 || p.Changes[0].Kind != "delete" || p.Next == 0 {
		t.Errorf("filtered history: got %+v", p)
	}
	if p := page[admin.HistoryPage](w, "root", "/r/-/history?limit=1&before=4611686018427387904"); len(p.Changes) != 1 {
		t.Errorf("history before what there is not: got %+v", p)
	}

	w.document("root", http.MethodPost, "/r/-/scrubs", "", http.StatusAccepted)
	for i := range 2 {
		w.document("root", http.MethodPost, "/r/-/compactions", fmt.Sprintf(`{"operations":[{"ranges":[["packs/5",0,1]],"target":"t%d"}]}`, i), http.StatusAccepted)
	}
	first, second := page[admin.JobsPage](w, "reader", "/r/-/jobs?limit=2"), page[admin.JobsPage](w, "reader", "/r/-/jobs?limit=2&skip=2")
	if len(first.Jobs) != 2 || len(second.Jobs) != 1 || first.Total != 3 || first.Jobs[0].Created.Before(second.Jobs[0].Created) {
		t.Errorf("jobs: got %+v and %+v", first, second)
	}
	if p := page[admin.JobsPage](w, "writer", "/r/-/jobs?limit=2"); p.Total != 0 || len(p.Jobs) != 0 {
		t.Errorf("jobs of others, for who may not list: got %+v", p)
	}
	if p := page[admin.JobsPage](w, "reader", "/r/-/compactions?limit=2"); p.Total != 2 || len(p.Jobs) != 2 {
		t.Errorf("compactions: got %+v", p)
	}

	for _, path := range []string{
		"trash?limit=0", "trash?limit=1001", "trash?limit=x", "trash?after=00", "trash?prefix=a", "trash?limit=1&after=xyz", "history?before=3", "history?limit=1&before=0",
		"history?limit=1&since=2026-01-01T00:00:00Z", "jobs?skip=1", "jobs?limit=1&skip=-1", "jobs?limit=1&limit=2", "jobs?other=1",
	} {
		if resp, text := w.call("root", http.MethodGet, "/r/-/"+path, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d %s, want 400", path, resp.StatusCode, text)
		}
	}
	for _, path := range []string{"trash?limit=1", "history?limit=1"} {
		if resp, _ := w.call("reader", http.MethodGet, "/r/-/"+path, ""); resp.StatusCode != http.StatusForbidden {
			t.Errorf("%s of who may only read: got %d, want 403", path, resp.StatusCode)
		}
	}
}

// TestDescription: a repository says what who asks may do there, who has completed backups, and how it has grown.
func TestDescription(t *testing.T) {
	w := newWorld(t, nil)
	w.put("packs/0", "12345")
	for as, want := range map[string]string{"root": "lrwWD", "reader": "lr"} {
		if got := page[admin.Repository](w, as, "/r/-/").Rights; got != want {
			t.Errorf("rights of %s: got %q, want %q", as, got, want)
		}
		if got := page[admin.Self](w, as, "/-/self"); got != (admin.Self{Name: as, Rights: want, Administrates: as == "root"}) {
			t.Errorf("%s is %+v", as, got)
		}
		if got := page[admin.Repository](w, as, "/r/-/").Administrates; got != (as == "root") {
			t.Errorf("%s administrates: %v", as, got)
		}
		list := page[struct{ Repositories []admin.Repository }](w, as, "/-/repositories")
		if got := list.Repositories[0].Rights; got != want {
			t.Errorf("rights of %s in the list: got %q, want %q", as, got, want)
		}
	}
	got := page[struct{ Days []admin.GrowthDay }](w, "reader", "/r/-/growth")
	if len(got.Days) != 1 || got.Days[0].Bytes != 5 || got.Days[0].Added != 5 {
		t.Errorf("growth: got %+v", got)
	}
	if resp, _ := w.call("writer", http.MethodGet, "/r/-/growth", ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("growth for who may not list: got %d, want 403", resp.StatusCode)
	}
}

// TestLockPages: of many locks those that are wanted are asked for, and their number is that of all.
func TestLockPages(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.Locks = func(_ context.Context, _ *repo.Access, window *api.LockWindow) (locks []api.LockInfo, err error) {
			for i := range 7 {
				if window.Next() {
					locks = append(locks, api.LockInfo{ID: string(rune('a' + i))})
				}
			}
			return locks, nil
		}
	})
	for query, want := range map[string]string{"": "abcdefg", "?limit=3": "abc", "?limit=3&skip=3": "def", "?limit=3&skip=6": "g", "?limit=3&skip=9": ""} {
		got := page[api.LockList](w, "reader", "/r/-/locks"+query)
		ids := ""
		for _, l := range got.Locks {
			ids += l.ID
		}
		if ids != want || got.Total != 7 {
			t.Errorf("%q: got %q of %d, want %q of 7", query, ids, got.Total, want)
		}
	}
	for _, path := range []string{"locks?skip=3", "locks?limit=0", "locks?limit=1001", "locks?limit=3&skip=-1", "writers", "writers?limit=3&order=x", "writers?skip=3"} {
		if resp, text := w.call("root", http.MethodGet, "/r/-/"+path, ""); resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: got %d %s, want 400", path, resp.StatusCode, text)
		}
	}
}

// TestWriterPages: the writers by their last backup, from either end.
func TestWriterPages(t *testing.T) {
	w := newWorld(t, nil)
	for i := range 5 {
		who := w.access().Repository().As(repo.Principal{Name: string(rune('a' + i))})
		if _, err := who.Put(context.Background(), repo.PutRequest{Key: "archives/" + string(rune('a'+i)), Body: strings.NewReader("x"), Size: 1, Backup: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	for query, want := range map[string]string{"?limit=2": "ed", "?limit=2&skip=4&order=latest": "a", "?limit=3&order=oldest": "abc", "?limit=3&skip=7": ""} {
		got := page[admin.WritersPage](w, "reader", "/r/-/writers"+query)
		names := ""
		for _, w := range got.Writers {
			names += w.Name
		}
		if names != want || got.Total != 5 {
			t.Errorf("%q: got %q of %d, want %q of 5", query, names, got.Total, want)
		}
	}
	if resp, _ := w.call("writer", http.MethodGet, "/r/-/writers?limit=1", ""); resp.StatusCode != http.StatusForbidden {
		t.Errorf("for who may not list: got %d, want 403", resp.StatusCode)
	}
}

// TestGrown: growth is counted from the last day before the time that is asked for, or from the first that is recorded.
func TestGrown(t *testing.T) {
	w := newWorld(t, nil)
	w.put("packs/0", "1234567890")
	today := time.Now().UTC().Truncate(24 * time.Hour)
	table, last := []byte{1}, time.Unix(0, 0)
	for _, d := range []struct {
		ago    int
		change int64
	}{{40, 1}, {30, 2}, {20, 4}, {7, 8}, {3, -6}, {1, 100}} {
		day := today.AddDate(0, 0, -d.ago)
		table = binary.AppendUvarint(table, uint64(day.Sub(last)/(24*time.Hour)))
		table = binary.AppendVarint(table, d.change)
		table = binary.AppendUvarint(table, 0)
		last = day
	}
	if err := w.access().Repository().SetMeta(context.Background(), "growth", table); err != nil {
		t.Fatal(err)
	}
	got := page[admin.Repository](w, "root", "/r/-/").Grown
	if got == nil || *got != (admin.Grown{Day: 10 - 109, Week: 10 - 15, Month: 10 - 3}) {
		t.Errorf("got %+v", got)
	}
	if got := page[admin.Repository](w, "root", "/s/-/").Grown; got != nil {
		t.Errorf("of a new repository: got %+v", got)
	}
}
