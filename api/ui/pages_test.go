package ui_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"packhouse/api/ui"
	"packhouse/repo"
	"packhouse/repo/repotest"
)

// TestRead: who may only read sees the pages, no buttons, and in words why a form is refused.
func TestRead(t *testing.T) {
	w := newWorld(t)
	repotest.MustPut(t, w.access("r"), "locks/l", "a lock")
	admin, reader := w.loggedIn(strong), w.loggedIn("r"+strong)
	for _, p := range []*person{admin, reader} {
		text := p.wants([]string{"locks/l", "Latest jobs", "Health"}, "repository", "name", "r")
		plain := readable(text)
		for _, only := range []string{"Trash History Roll back", "Break…", "Change the quota"} {
			if got := strings.Contains(plain, only); got != (p == admin) {
				t.Errorf("admin: %v, %q on the page: %v", p == admin, only, got)
			}
		}
		text = p.wants([]string{"There was no job"}, "jobs", "name", "r")
		if got := strings.Contains(text, "Check…"); got != (p == admin) {
			t.Errorf("admin: %v, a button to check: %v", p == admin, got)
		}
		if got := strings.Contains(readable(text), "read-only for you"); got != (p == reader) {
			t.Errorf("admin: %v, said to be read-only: %v", p == admin, got)
		}
	}
	for _, page := range []string{"trash", "history"} {
		if status, text := reader.get(page, "name", "r"); status != http.StatusForbidden || !strings.Contains(readable(text), "You may not do that: ") {
			t.Errorf("%s: got %d %s", page, status, readable(text))
		}
	}
	if status, text := reader.get("lock", "name", "r", "id", "locks/l"); status != http.StatusForbidden || !strings.Contains(readable(text), "You may not do that: ") {
		t.Errorf("break a lock: got %d %s", status, readable(text))
	}
	if _, err := repotest.Get(w.access("r"), "locks/l"); err != nil {
		t.Errorf("the lock is gone: %v", err)
	}
	for _, page := range []string{"repository", "jobs", "trash", "rollback"} {
		if status, text := admin.get(page, "name", "not there"); status != http.StatusNotFound || !strings.Contains(readable(text), "Not there") {
			t.Errorf("%s of no repository: got %d %s", page, status, readable(text))
		}
	}
}

// TestPrivate: who may enter some repositories only sees nothing of others, and nothing of the server, in any page.
func TestPrivate(t *testing.T) {
	w := newWorld(t)
	repotest.MustPut(t, w.access("r"), "packs/secret-of-r", strings.Repeat("x", 5000))
	repotest.MustPut(t, w.access("alice/laptop"), "packs/a", "x")
	if _, _, err := w.tokens.Create(wanted("secret-of-r")); err != nil {
		t.Fatal(err)
	}
	w.alerts.JobEnded("r", "scrub", "secret-of-r")
	p := w.person()
	if status, text := p.post("login", "user", "bob", "secret", "guessable"); status != http.StatusOK || strings.Contains(text, ">Tokens<") {
		t.Fatalf("got %d %s", status, text)
	}
	if text := readable(p.wants([]string{"alice/laptop", "Stored 1 B 1 item", "Repositories 1 you may list"}, "")); strings.Contains(text, "r borgstore") {
		t.Errorf("got %s", text)
	}
	for _, page := range ui.Pages() {
		for _, name := range []string{"r", "not there"} { // which look alike
			status, text := p.get(strings.TrimPrefix(page, "{$}"), "name", name, "id", "x", "role", "read", "all", "yes", "token", "x")
			if page != "{$}" && status != http.StatusForbidden || strings.Contains(text, "secret-of-r") {
				t.Errorf("%s of %s: got %d %s", page, name, status, readable(text))
			}
		}
	}
}

// TestAlerts: what is wrong is on the first page, for who may do everything, and nothing of a hostile text is markup.
func TestAlerts(t *testing.T) {
	w := newWorld(t)
	admin, reader := w.loggedIn(strong), w.loggedIn("r"+strong)
	if _, text := admin.get(""); strings.Contains(readable(text), "Alerts") {
		t.Errorf("nothing is wrong: %s", readable(text))
	}
	w.alerts.JobEnded("alice/laptop", "scrub", "it has failed: <b>disk</b>")
	for _, p := range []*person{admin, reader} {
		_, text := p.get("")
		for _, want := range []string{"Alerts", "alice/laptop", "it has failed: <b>disk</b>"} {
			if got := strings.Contains(readable(text), want); got != (p == admin) && want != "alice/laptop" {
				t.Errorf("admin: %v, %q on the page: %v", p == admin, want, got)
			}
		}
		if strings.Contains(text, "<b>disk") {
			t.Error("the text of an alert is markup")
		}
	}
}

// TestRestore: the trash in pages, and items from it, after a page that names them.
func TestRestore(t *testing.T) {
	w := newWorld(t)
	a := w.access("alice/laptop")
	for i := range 130 {
		repotest.MustPut(t, a, fmt.Sprintf("packs/%03d", i), "x")
	}
	for i := range 130 {
		if err := a.Delete(ctx, fmt.Sprintf("packs/%03d", i)); err != nil {
			t.Fatal(err)
		}
	}
	p := w.loggedIn(strong)
	name := []string{"name", "alice/laptop"}
	text := p.wants([]string{"packs/000", "packs/099", "Next page"}, "trash", name...)
	if strings.Contains(text, "packs/100") {
		t.Error("a page has more than 100 items")
	}
	_, after, _ := strings.Cut(text, "?after=")
	after = after[:32]
	text = p.wants([]string{"packs/100", "packs/129", "First page"}, "trash", append(name, "after", after)...)
	var ids []string
	for range 3 {
		_, row, _ := strings.Cut(text, `name="id" value="`)
		ids = append(ids, row[:32])
		text = row
	}
	chosen := append(name, "after", after, "id", ids[0], "id", ids[1], "id", ids[2])
	text = p.wants([]string{"Restore 3 items, 3 B", "packs/100", "packs/101", "packs/102"}, "trash/restore", chosen...)
	repotest.MustPut(t, a, "packs/102", "something else")
	fields := p.fields(text, "trash/restore")
	status, text := p.post("trash/restore", fields...)
	if status != http.StatusOK || !strings.Contains(readable(text), "Restored: 2 items (2 B). 1 item stayed in the trash, because something has the key now.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	repotest.WantContent(t, a, "packs/100", "x")
	repotest.WantContent(t, a, "packs/102", "something else")
	text = p.wants([]string{"Restore 1 item, 1 B", "2 of those that were chosen are not in the trash any more"}, "trash/restore", chosen...)
	status, text = p.post("trash/restore", append(p.fields(text, "trash/restore"), "replace", "yes")...)
	if status != http.StatusOK || !strings.Contains(readable(text), "Restored: 1 item (1 B).") {
		t.Errorf("got %d %s", status, readable(text))
	}
	repotest.WantContent(t, a, "packs/102", "x")

	p.wants([]string{"packs/05", "Key begins with"}, "trash", append(name, "prefix", "packs/05")...)
	if text := p.wants(nil, "trash", append(name, "prefix", "packs/05")...); strings.Contains(text, "packs/04") {
		t.Error("the filter lets others through")
	}
	p.wants([]string{"nothing that can be restored"}, "trash", append(name, "from", time.Now().AddDate(0, 0, 2).Format(time.DateOnly))...)
	p.wants([]string{"packs/000"}, "trash", append(name, "from", time.Now().AddDate(0, 0, -2).Format(time.DateOnly))...)
	for _, wrong := range [][]string{{"from", "yesterday"}, {"after", "xyz"}} {
		if status, text := p.get("trash", append(name, wrong...)...); status != http.StatusBadRequest {
			t.Errorf("%q: got %d %s", wrong, status, readable(text))
		}
	}
	if status, text := p.get("trash/restore", name...); status != http.StatusBadRequest || !strings.Contains(readable(text), "no item is chosen") {
		t.Errorf("nothing chosen: got %d %s", status, readable(text))
	}
}

// TestRollback: the plan first, then what it says, and nothing else when something has changed meanwhile.
func TestRollback(t *testing.T) {
	w := newWorld(t)
	a := w.access("alice/laptop")
	repotest.MustPut(t, a, "packs/a", "old")
	time.Sleep(20 * time.Millisecond)
	moment := time.Now().UTC().Format(time.RFC3339Nano)
	time.Sleep(20 * time.Millisecond)
	repotest.MustPut(t, a, "packs/b", "new")
	if err := a.Delete(ctx, "packs/a"); err != nil {
		t.Fatal(err)
	}
	p := w.loggedIn(strong)
	p.wants([]string{"delete", "packs/a", "store", "writer 192.0.2.1", "Roll back…"}, "history", "name", "alice/laptop")
	p.wants([]string{"packs/b"}, "history", "name", "alice/laptop", "key", "packs/b", "principal", "writer")
	p.wants([]string{"Nothing like that is recorded"}, "history", "name", "alice/laptop", "key", "packs/b", "principal", "nobody")
	asked := []string{"name", "alice/laptop", "to", moment}
	text := p.wants([]string{"Changes undone 2", "Come back 1 item, 3 B", "Go to the trash 1 item, 3 B", "Roll back 2 changes of alice/laptop"}, "rollback", asked...)
	fields := p.fields(text, "rollback")
	repotest.MustPut(t, a, "packs/c", "meanwhile")
	if status, text := p.post("rollback", fields...); status != http.StatusConflict {
		t.Errorf("more has changed: got %d %s", status, readable(text))
	}
	if _, err := repotest.Get(a, "packs/a"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("it was carried out: %v", err)
	}
	text = p.wants([]string{"Changes undone 3"}, "rollback", asked...)
	status, text := p.post("rollback", p.fields(text, "rollback")...)
	if status != http.StatusOK || !strings.Contains(readable(text), "Done: 1 item came back, 0 took the place of another one, 2 went to the trash.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	repotest.WantContent(t, a, "packs/a", "old")
	p.wants([]string{"The last rollback of this session"}, "rollback", asked...)
	for _, to := range []string{"yesterday", "2001-01-01 00:00", "2999-01-01 00:00"} {
		if status, text := p.get("rollback", "name", "alice/laptop", "to", to); status != http.StatusBadRequest {
			t.Errorf("to %s: got %d %s", to, status, readable(text))
		}
	}
	if status, text := w.loggedIn(strong).get("rollback/state", "name", "alice/laptop"); status != http.StatusBadRequest || !strings.Contains(readable(text), "has not begun a rollback") {
		t.Errorf("of another session: got %d %s", status, readable(text))
	}
}

// TestClose: a stop does not wait longer than it is told to for a rollback that goes on, and the page of that says how far it is.
func TestClose(t *testing.T) {
	begun, goOn := make(chan struct{}), make(chan struct{})
	p := stub(t, func(path string) any {
		if !strings.HasSuffix(path, "/rollback") {
			return hostileAPI(path)
		}
		return func(w http.ResponseWriter, r *http.Request) {
			var asked struct {
				DryRun bool `json:"dry_run"`
			}
			if err := json.NewDecoder(r.Body).Decode(&asked); err != nil || asked.DryRun {
				fmt.Fprint(w, `{"last":1,"changes":4}`)
				return
			}
			fmt.Fprintln(w, `{"done":1,"total":4}`)
			close(begun)
			<-goOn
			fmt.Fprintln(w, `{"plan":{"removes":{"items":4}}}`)
		}
	})
	text := p.wants([]string{"Roll back 4 changes"}, "rollback", "name", "r", "to", "2026-01-01 00:00")
	fields := p.fields(text, "rollback")
	answered := make(chan string)
	go func() {
		_, text := p.post("rollback", fields...)
		answered <- text
	}()
	<-begun
	repotest.WaitFor(t, "the page says how far it is", func() bool {
		_, text := p.get("rollback/state", "name", "r")
		return strings.Contains(readable(text), "1 of 4 changes are made")
	})
	over, cancel := context.WithCancel(ctx)
	cancel()
	if err := p.pages.Close(over); !errors.Is(err, context.Canceled) {
		t.Errorf("while it goes on: got %v", err)
	}
	close(goOn)
	<-answered
	if err := p.pages.Close(ctx); err != nil {
		t.Errorf("when it is over: got %v", err)
	}
}

// TestJobs: a scrub and a compaction from the pages, and the end of one.
func TestJobs(t *testing.T) {
	w := newWorld(t)
	a := w.access("alice/laptop")
	repotest.MustPut(t, a, "packs/a", strings.Repeat("x", 4<<20)) // at 1 MiB/s
	p := w.loggedIn(strong)
	name := []string{"name", "alice/laptop"}
	text := p.wants([]string{"about 4 MiB of 4 MiB"}, "scrub", append(name, "share", "all")...)
	status, text := p.post("scrub", p.fields(text, "scrub")...)
	if status != http.StatusOK || !strings.Contains(text, "data-events=") || !strings.Contains(readable(text), "The scrub is ") {
		t.Fatalf("got %d %s", status, text)
	}
	_, events, _ := strings.Cut(text, `data-events="`)
	events, _, _ = strings.Cut(events, `"`)
	events = strings.ReplaceAll(events, "&amp;", "&")
	_, id, _ := strings.Cut(events, "id=")
	id, _, _ = strings.Cut(id, "&")
	told := make(chan string, 1)
	go func() {
		_, text := p.do(p.request(http.MethodGet, "/-/ui/"+events, ""))
		told <- text
	}()
	repotest.WaitFor(t, "the scrub runs", func() bool {
		_, text := p.get("jobs", name...)
		return strings.Contains(readable(text), "running")
	})
	text = p.wants([]string{"The job will be cancelled", id, "Begun by root"}, "jobs/cancel", append(name, "id", id)...)
	if status, text = p.post("jobs/cancel", p.fields(text, "jobs/cancel")...); status != http.StatusOK || !strings.Contains(readable(text), "The job is cancelled.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	if got := <-told; !strings.Contains(got, `"ended":true`) || !strings.Contains(got, "cancelled: ") {
		t.Errorf("events: got %q", got)
	}
	if status, text := p.post("jobs/cancel", p.fields(p.wants(nil, "jobs/cancel", append(name, "id", id)...), "jobs/cancel")...); status != http.StatusConflict {
		t.Errorf("cancel it again: got %d %s", status, readable(text))
	}
	p.wants([]string{"scrub", "cancelled", "root"}, "repository", name...)

	plan := `{"operations":[{"ranges":[["packs/a",0,10]],"target":"packs/b"}]}`
	text = p.wants(nil, "plan", name...)
	status, text = p.post("plan/estimate", append(p.fields(text, "plan/estimate"), "plan", plan, "delete", "yes")...)
	if status != http.StatusOK || !strings.Contains(readable(text), "Operations 1, which make 1 item") {
		t.Errorf("estimate: got %d %s", status, readable(text))
	}
	if status, text = p.post("plan", p.fields(text, "plan")...); status != http.StatusOK || !strings.Contains(readable(text), "The compaction is ") {
		t.Errorf("compaction: got %d %s", status, readable(text))
	}
	repotest.WaitFor(t, "the compaction is done", func() bool {
		got, err := repotest.Get(a, "packs/b")
		return err == nil && got == "xxxxxxxxxx"
	})
	text = p.wants(nil, "plan", name...)
	if status, text = p.post("plan/estimate", append(p.fields(text, "plan/estimate"), "plan", "{")...); status != http.StatusBadRequest {
		t.Errorf("half a plan: got %d %s", status, readable(text))
	}
	if status, _ := p.get("job", append(name, "id", "<none>")...); status != http.StatusNotFound {
		t.Errorf("no job: got %d", status)
	}
	if status, _ := p.get("job/events", append(name, "id", "none")...); status != http.StatusNotFound {
		t.Errorf("events of no job: got %d", status)
	}
}

// TestQuota: a limit is looked at before it is set.
func TestQuota(t *testing.T) {
	w := newWorld(t)
	p := w.loggedIn(strong)
	repotest.MustPut(t, w.access("r"), "packs/a", strings.Repeat("x", 3000))
	text := p.wants([]string{"Now 1 GiB", "Then 2 KiB", "More than that is used"}, "quota", "name", "r", "quota", "2K")
	if status, text := p.post("quota", p.fields(text, "quota")...); status != http.StatusForbidden || !strings.Contains(readable(text), "only packhouse repo quota on the server itself") {
		t.Errorf("less than before: got %d %s", status, readable(text))
	}
	text = p.wants([]string{"Then 2 GiB", "Used 2.9 KiB"}, "quota", "name", "r", "quota", "2G")
	if status, text := p.post("quota", p.fields(text, "quota")...); status != http.StatusOK || !strings.Contains(readable(text), "The quota is now 2 GiB.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	text = p.wants([]string{"Now 2 GiB", "Then no limit"}, "quota", "name", "r", "quota", "none")
	p.post("quota", p.fields(text, "quota")...)
	p.wants([]string{"Quota none"}, "repository", "name", "r")
	p.wants([]string{"Then that of the configuration"}, "quota", "name", "r", "quota", "default")
	for _, wrong := range []string{"much", "-1", "", "1.5", "1e3"} {
		if status, text := p.get("quota", "name", "r", "quota", wrong); status != http.StatusBadRequest {
			t.Errorf("%q: got %d %s", wrong, status, readable(text))
		}
	}
}
