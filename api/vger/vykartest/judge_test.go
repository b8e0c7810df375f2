package vykartest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/api/vger/vykartest"
	"packhouse/index"
	"packhouse/repo"
)

// judge looks at the repository from behind, after every request that may have changed it. What it holds the server to is
// that each pack that the stored index names is served: which index that is, the clients decide.
type judge struct {
	t testing.TB
	m *machine

	ref     string // of the index that was read last
	stored  *vykartest.Index
	history []string                  // requests, for the report
	chunks  map[string][]vykartest.ID // of every snapshot that was begun

	// forgotten are chunks of snapshots that a client with an old view dropped from the index: its fault, not the
	// server's, which still has the bytes for a while.
	forgotten map[vykartest.ID]forgotten
	format    int
	shared    bool // several clients write: the index may be overwritten
	scarce    bool // disk or quota are short: what is kept may have to go early
}

type forgotten struct {
	vykartest.Place
	at   time.Time
	size int64 // of the pack
}

// full tells whether so many bytes more would be beyond what is kept at most: as much as there is of items.
func (j *judge) full(r *repo.Repository, bytes int64) bool {
	_, kept := kept(j.t, r)
	open, returned := doubts(j.t, r)
	return kept+open+returned+bytes > r.Usage().Used
}

// keptFor is how long after a client's mistake the bytes are still there.
const keptFor = 48 * time.Hour

// kept are the packs that the server keeps beside the items.
func kept(t testing.TB, r *repo.Repository) (items, bytes int64) {
	t.Helper()
	c := r.Usage()
	return c.KeptItems, c.KeptBytes
}

// doubts are the bytes of packs that the server has not removed, or has brought back, because it does not know which
// index a client has.
func doubts(t testing.TB, r *repo.Repository) (open, returned int64) {
	t.Helper()
	c := r.Usage()
	return c.OpenBytes, c.ReturnedBytes
}

// served tells whether a pack can be read, also when it is only kept, without asking for it as a client does.
func served(t testing.TB, r *repo.Repository, key string) (size int64, ok bool) {
	t.Helper()
	entry, err := r.Entry(key)
	if err == nil && !entry.Dir {
		return entry.Item.Size, true
	}
	if errors.Is(err, repo.ErrNotFound) {
		err = r.EachKept(func(k index.Kept) error {
			if k.Key == key {
				size, ok = k.Item.Size, true
			}
			return nil
		})
	}
	if err != nil {
		t.Fatalf("look for %s: %v", key, err)
	}
	return size, ok
}

// read is an object's content as it is stored.
func (j *judge) read(r *repo.Repository, key string) []byte {
	j.t.Helper()
	o, err := r.As(repo.Principal{Name: "judge"}).Open(context.Background(), key)
	if err != nil {
		j.fail("read %s: %v", key, err)
	}
	defer o.Close()
	body, err := io.ReadAll(io.NewSectionReader(o, 0, o.Size()))
	if err != nil {
		j.fail("read %s: %v", key, err)
	}
	return body
}

// fail ends the trial with the requests that led to it.
func (j *judge) fail(format string, args ...any) {
	last := j.history[max(0, len(j.history)-120):]
	panic(verdict(fmt.Sprintf(format, args...) + "\nin " + j.history[0] + "\nafter\n  " + strings.Join(last, "\n  ")))
}

func (j *judge) note(format string, args ...any) {
	j.history = append(j.history, fmt.Sprintf(format, args...))
}

// look is held after each change.
func (j *judge) look() {
	j.t.Helper()
	r := j.m.repository()
	if r == nil {
		return
	}
	entry, err := r.Entry("index")
	if errors.Is(err, repo.ErrNotFound) {
		return
	}
	if err != nil {
		j.fail("look: %v", err)
	}
	if entry.Item.Ref != j.ref {
		j.changed(r, entry.Item.Ref)
	}
	for id, p := range j.stored.Chunks {
		size, ok := served(j.t, r, p.Pack.PackKey())
		if !ok || size < p.Offset+p.Length {
			j.fail("LOST: the stored index has chunk %s in %s, which is not served", id, p.Pack.PackKey())
		}
	}
	for id, f := range j.forgotten {
		if _, ok := j.stored.Chunks[id]; ok {
			delete(j.forgotten, id)
		} else if size, ok := served(j.t, r, f.Pack.PackKey()); ok {
			f.size = size
			j.forgotten[id] = f
		} else if age := j.m.now.Now().Sub(f.at); !j.scarce && age < keptFor && !j.full(r, f.size) {
			j.fail("LOST: %s with chunk %s of another client is gone %s after the index was overwritten", f.Pack.PackKey(), id, age)
		}
	}
}

// changed reads a new index, and notes which chunks of snapshots it does not have any more.
func (j *judge) changed(r *repo.Repository, ref string) {
	j.t.Helper()
	before := j.stored
	x, err := vykartest.DecodeIndex(j.read(r, "index"))
	if err != nil {
		j.fail("stored index: %v", err)
	}
	j.ref, j.stored = ref, x
	if before == nil {
		return
	}
	for _, id := range j.referred(r) {
		p, had := before.Chunks[id]
		if _, has := x.Chunks[id]; has || !had {
			continue
		}
		if !j.shared {
			j.fail("the client dropped chunk %s, which a snapshot refers to, from the index", id)
		}
		j.forgotten[id] = forgotten{Place: p, at: j.m.now.Now()}
	}
}

// referred are the chunks of all stored snapshots.
func (j *judge) referred(r *repo.Repository) (ids []vykartest.ID) {
	j.t.Helper()
	for _, s := range j.snapshots(r) {
		ids = append(append(ids, s.Tree), j.chunks[s.Name]...)
	}
	return ids
}

// snapshots are those that are stored; of format 1 those that the manifest names.
func (j *judge) snapshots(r *repo.Repository) (all []vykartest.Snapshot) {
	j.t.Helper()
	if j.format == 1 {
		var manifest struct{ Snapshots []vykartest.Snapshot }
		if err := json.Unmarshal(j.read(r, "manifest"), &manifest); err != nil {
			j.fail("manifest: %v", err)
		}
		return manifest.Snapshots
	}
	for _, key := range j.list(r, "snapshots") {
		var s vykartest.Snapshot
		if err := json.Unmarshal(j.read(r, key), &s); err != nil {
			j.fail("%s: %v", key, err)
		}
		all = append(all, s)
	}
	return all
}

// list are the keys below a directory, of the items alone.
func (j *judge) list(r *repo.Repository, dir string) (keys []string) {
	j.t.Helper()
	err := r.Items(context.Background(), "", func(e index.Entry) error {
		if strings.HasPrefix(e.Key, dir+"/") {
			keys = append(keys, e.Key)
		}
		return nil
	})
	if err != nil {
		j.fail("list %s: %v", dir, err)
	}
	return keys
}

// broken tells whether a client has dropped something of the snapshot from the index.
func (j *judge) broken(r *repo.Repository, name string) bool {
	j.t.Helper()
	for _, s := range j.snapshots(r) {
		if s.Name != name {
			continue
		}
		for _, id := range append([]vykartest.ID{s.Tree}, j.chunks[name]...) {
			if _, ok := j.stored.Chunks[id]; !ok {
				return true
			}
		}
	}
	return false
}

// settled wants the repository to hold what the index names and nothing else: no orphan, nothing kept, no open plan,
// no removed item, no file that no row names, exact counters.
func (j *judge) settled() {
	j.t.Helper()
	r := j.m.repository()
	packs := j.stored.Packs()
	for _, key := range j.list(r, "packs") {
		if !slices.ContainsFunc(packs, func(id vykartest.ID) bool { return id.PackKey() == key }) {
			j.fail("LEFT: %s is listed, and no index names it", key)
		}
	}
	if items, bytes := kept(j.t, r); items != 0 || bytes != 0 {
		j.fail("LEFT: %d packs of %d bytes are kept", items, bytes)
	}
	// What came back and is in the index is in use: it never counts again, but it is nothing that is left.
	if open, _ := doubts(j.t, r); open != 0 {
		j.fail("LEFT: %d bytes are sources of open plans", open)
	}
	u := r.Usage()
	if u.Reserved != 0 || u.TrashItems != 0 {
		j.fail("LEFT: usage %+v", u)
	}
	report, err := r.CheckIndex(context.Background())
	if err != nil || len(report.Problems) > 0 || report.Counted != report.Stored {
		j.fail("check of the server's index: %v, counted %+v, stored %+v, problems %q", err, report.Counted, report.Stored, report.Problems)
	}
	if files := j.m.disk.blobs(); files != int(u.Items) {
		j.fail("LEFT: %d files for %d items", files, u.Items)
	}
	if others := int(u.Items) - len(j.list(r, "packs")) - len(j.list(r, "snapshots")); others > 8 {
		j.fail("LEFT: %d objects beside packs and snapshots: %q", others, append(j.list(r, "locks"), j.list(r, "sessions")...))
	}
}

// answered is the judge's view of one request of a link. repacked tells that the process was answered a plan before.
func (j *judge) answered(who string, r *http.Request, cut vykartest.Cut, out outage, status int, repacked bool) {
	j.t.Helper()
	target := strings.TrimPrefix(r.URL.RequestURI(), "/"+repositoryName)
	how := ""
	if cut != vykartest.Whole {
		how = ", " + cut.String()
	}
	if out.at != stays {
		how += fmt.Sprintf(", server %+v", out)
	}
	j.note("%s %s %s: %d%s", who, r.Method, target, status, how)
	if cut == vykartest.Midway || cut == vykartest.Unanswered || out.at != stays || j.m.power.gone() || *patient {
		return // whatever the answer is, nobody gets it
	}
	switch {
	case status >= 500:
		j.fail("%s %s was answered with %d", r.Method, target, status)
	case status == http.StatusRequestEntityTooLarge && r.Method == http.MethodPut && commits(target):
		free, _, _ := j.m.disk.Space("")
		if need := j.m.reserve/8 + max(r.ContentLength, 0) + 64<<10; repacked || free > need {
			j.fail("PUT %s was refused for its size: %d bytes are free, %d were needed; a plan was answered before: %v", target, free, need, repacked)
		}
	}
}

// commits tells whether a client needs to store this object to end what it has begun.
func commits(target string) bool {
	switch target {
	case "/index", "/index.gen", "/manifest":
		return true
	}
	return strings.HasPrefix(target, "/locks/") || strings.HasPrefix(target, "/sessions/")
}
