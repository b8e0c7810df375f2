package ui_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/api/ui"
	"packhouse/repo"
	"packhouse/repo/repotest"
)

// cookie is that of the session of a person.
func (p *person) cookie() string {
	p.t.Helper()
	base, err := url.Parse(p.url + "/-/ui/")
	if err != nil {
		p.t.Fatal(err)
	}
	return p.client.Jar.Cookies(base)[0].Value
}

// send sends a form that no page has been asked for, with a token that counts.
func (p *person) send(page string, fields ...string) (int, string) {
	p.t.Helper()
	return p.post(page, append(slices.Clone(fields), "form", p.pages.FormToken(p.cookie(), page))...)
}

// confirmed asks for a page that asks for a confirmation, and confirms it.
func (p *person) confirmed(page string, texts []string, parameters ...string) (int, string) {
	p.t.Helper()
	return p.post(page, p.fields(p.wants(texts, page, parameters...), page)...)
}

// TestOnlyReads: who may only read, or may not administrate, changes nothing by any form, although it is of the session and was never sent before.
func TestOnlyReads(t *testing.T) {
	w := newWorld(t)
	a := w.access("r")
	repotest.MustPut(t, a, "locks/l", "a lock")
	repotest.MustPut(t, a, "packs/a", "x")
	repotest.MustPut(t, a, "packs/gone", "x")
	if err := a.Delete(ctx, "packs/gone"); err != nil {
		t.Fatal(err)
	}
	moment := time.Now().Add(-time.Second).Format(time.RFC3339)
	root := w.loggedIn(strong)
	root.confirmed("scrub", nil, "name", "alice/laptop", "share", "all")
	if status, text := root.confirmed("destroy", nil, "name", "alice/laptop"); status != http.StatusBadRequest {
		t.Fatalf("got %d %s", status, readable(text))
	}
	root.send("new", "new", "doomed", "dialect", "borgstore")
	root.send("destroy", "name", "doomed", "typed", "doomed")
	removed, err := w.set.Removed()
	if err != nil || len(removed) != 1 {
		t.Fatalf("got %v, %v", removed, err)
	}
	ofTrash := root.wants(nil, "trash", "name", "r")
	_, id, _ := strings.Cut(ofTrash, `name="id" value="`)
	fields := map[string][]string{
		"jobs/cancel": {"id", "none"}, "scrub": {"share", "all"}, "plan": {"plan", `{"operations":[{"delete":["packs/a"]}]}`, "delete", "yes"},
		"trash/restore": {"id", id[:32]}, "selection": {"prefix", "packs/"}, "rollback": {"to", moment, "expect", "1"}, "lock": {"id", "locks/l"},
		"quota": {"quota", "5G"}, "check": nil, "salvage": {"hours", "1"}, "loss": nil, "destroy": {"typed", "r"}, "new": {"new", "another", "dialect", "borgstore"},
		"removed/restore": {"id", removed[0].ID, "as", "doomed"}, "tokens/new": {"role", "admin", "all", "yes", "token", "mine"}, "tokens/revoke": {"token", "old"}, "alerts/test": nil,
	}
	fields["plan/estimate"] = fields["plan"]
	if _, _, err := w.tokens.Create(wanted("old")); err != nil {
		t.Fatal(err)
	}
	limited := w.person()
	if status, text := limited.post("login", "user", "limited", "secret", "guessable"); status != http.StatusOK {
		t.Fatalf("got %d %s", status, text)
	}
	// Clients may do more than administrators of nothing.
	client := map[string]bool{"plan": true, "plan/estimate": true}
	for name, p := range map[string]*person{"reader": w.loggedIn("r" + strong), "limited": limited} {
		for _, page := range ui.Forms() {
			switch {
			case page == "logout" || page == "check/stop" || name == "limited" && client[page]:
				continue
			case fields[page] == nil && page != "check" && page != "loss" && page != "alerts/test":
				t.Errorf("%s: the test has no fields for it", page)
			}
			want := http.StatusForbidden
			if page == "jobs/cancel" { // the job is not there, or not to be seen
				want = http.StatusNotFound
			}
			if status, text := p.send(page, append([]string{"name", "r"}, fields[page]...)...); status != want {
				t.Errorf("%s, %s: got %d %s", name, page, status, readable(text))
			}
		}
		for _, page := range ui.Pages() { // nor is any of them asked for a confirmation
			_, text := p.get(strings.TrimPrefix(page, "{$}"), append([]string{"name", "r"}, fields[page]...)...)
			for _, f := range form.FindAllStringSubmatch(text, -1) {
				if f[1] != "logout" && f[1] != "plan/estimate" {
					t.Errorf("%s, page %s: there is a form for %s", name, page, f[1])
				}
			}
		}
	}
	repotest.WantContent(t, a, "locks/l", "a lock")
	repotest.WantContent(t, a, "packs/a", "x")
	if _, err := repotest.Get(a, "packs/gone"); !errors.Is(err, repo.ErrNotFound) {
		t.Errorf("an item was restored: %v", err)
	}
	names, err := w.set.Names()
	if err != nil || !slices.Equal(names, []string{"alice/laptop", "r"}) || len(w.tokens.List()) != 1 || a.Usage().Limit != 1<<30 || a.Repository().Salvaging() {
		t.Errorf("something was changed: %v, %v, %v, %+v", names, err, w.tokens.List(), a.Usage())
	}
}

// TestTokens: a token is created after its rights were shown, its secret is shown once, and it ends when it is revoked.
func TestTokens(t *testing.T) {
	w := newWorld(t)
	p := w.loggedIn(strong)
	p.wants([]string{"No token was issued yet"}, "tokens")
	p.wants([]string{"write-only : back up; read only what the client needs", "admin : everything"}, "tokens/new")
	tomorrow := time.Now().AddDate(0, 0, 2).UTC().Format(time.DateOnly)
	asked := []string{"token", "nightly", "role", "read", "repositories", "r\r\nalice/laptop\r\n", "expires", tomorrow}
	text := p.wants([]string{"Name nightly", "Role read: list, check and restore", "Repositories r, alice/laptop", "Expires " + tomorrow + " 00:00:00 UTC"}, "tokens/new", asked...)
	fields := p.fields(text, "tokens/new")
	status, text := p.post("tokens/new", fields...)
	_, secret, _ := strings.Cut(text, `tabindex="0">`)
	secret, _, _ = strings.Cut(secret, "<")
	if status != http.StatusOK || !strings.Contains(readable(text), "The token nightly is created") || len(secret) < 20 {
		t.Fatalf("got %d %s", status, readable(text))
	}
	// Neither loading that page again nor any other page has it.
	status, text = p.post("tokens/new", fields...)
	if status != http.StatusConflict || strings.Contains(text, secret) {
		t.Errorf("sent again: got %d %s", status, readable(text))
	}
	status, text = p.get("tokens/new", fields...)
	if strings.Contains(text, secret) {
		t.Errorf("by GET: got %d %s", status, text)
	}
	text = p.wants([]string{"nightly", "read", "alice/laptop", "by root"}, "tokens")
	if strings.Contains(text, secret) || strings.Contains(w.log.String(), secret) {
		t.Error("the secret is in the list, or in the log")
	}
	if n := len(w.tokens.List()); n != 1 {
		t.Errorf("there are %d tokens", n)
	}
	p.wants([]string{"No token has that in its name"}, "tokens", "q", "other")
	p.wants([]string{"nightly"}, "tokens", "q", "alice/laptop")

	holder := w.loggedIn(secret)
	if text := holder.wants([]string{"alice/laptop"}, ""); strings.Contains(text, "tokens") {
		t.Error("who may only read is led to the tokens")
	}
	if status, text := holder.get("tokens"); status != http.StatusForbidden {
		t.Errorf("tokens for who may only read: got %d %s", status, readable(text))
	}
	status, text = p.confirmed("tokens/revoke", []string{"Token nightly", "Role read", "Its clients are refused at once"}, "token", "nightly")
	if status != http.StatusOK || !strings.Contains(readable(text), "The token nightly is revoked.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	if status, text := holder.get(""); status != http.StatusUnauthorized || !strings.Contains(readable(text), "The session has ended") {
		t.Errorf("a session of the token: got %d %s", status, readable(text))
	}
	if status, text := p.get("tokens/revoke", "token", "nightly"); status != http.StatusBadRequest {
		t.Errorf("again: got %d %s", status, readable(text))
	}

	p.wants([]string{"all, also those that are created later", "may do everything on this server"}, "tokens/new", "role", "admin", "all", "yes")
	for name, wrong := range map[string][]string{
		"role": {"role", "king", "all", "yes"}, "no repository": {"role", "read"}, "both": {"role", "read", "all", "yes", "repositories", "r"}, "star": {"role", "read", "repositories", "*"},
		"past": {"role", "read", "all", "yes", "expires", "2001-01-01"}, "no day": {"role", "read", "all", "yes", "expires", "soon"},
	} {
		if status, text := p.get("tokens/new", wrong...); status != http.StatusBadRequest {
			t.Errorf("%s: got %d %s", name, status, readable(text))
		}
	}
	if status, text := p.confirmed("tokens/new", nil, "role", "read", "repositories", "none"); status != http.StatusNotFound || !strings.Contains(readable(text), `there is no repository "none"`) && !strings.Contains(readable(text), `There is no repository "none"`) {
		t.Errorf("of no repository: got %d %s", status, readable(text))
	}
	for i := range 120 {
		if _, _, err := w.tokens.Create(wanted(fmt.Sprintf("t%03d", i))); err != nil {
			t.Fatal(err)
		}
	}
	if text := p.wants([]string{"1 to 100 of 120", "t099"}, "tokens"); strings.Contains(text, "t100") {
		t.Error("a page has more than 100")
	}
}

// TestRepositories: one is created, destroyed after its name was typed, and restored under another name.
func TestRepositories(t *testing.T) {
	w := newWorld(t)
	p := w.loggedIn(strong)
	p.wants([]string{"For clients of"}, "new")
	status, text := p.confirmed("new", []string{"Name carol/phone", "For restic, rustic"}, "new", "carol/phone", "dialect", "restic")
	if status != http.StatusBadRequest && status != http.StatusOK { // this server has one protocol
		t.Errorf("got %d %s", status, readable(text))
	}
	status, text = p.confirmed("new", nil, "new", "carol/phone 2", "dialect", "borgstore")
	if status != http.StatusOK || !strings.Contains(readable(text), "The repository is created. Repositories carol/phone 2") {
		t.Errorf("got %d %s", status, readable(text))
	}
	for _, wrong := range [][]string{{"new", "a/b/c", "dialect", "borgstore"}, {"new", "x", "dialect", "ftp"}} {
		if status, text := p.get("new", wrong...); status != http.StatusBadRequest {
			t.Errorf("%q: got %d %s", wrong, status, readable(text))
		}
	}
	repotest.MustPut(t, w.access("carol/phone 2"), "packs/a", "12345")
	name := []string{"name", "carol/phone 2"}
	text = p.wants([]string{"Items 1", "Size 5 B", "Can be restored for 60 min", "Type the name"}, "destroy", name...)
	if status, text = p.post("destroy", append(p.fields(text, "destroy"), "typed", "carol/phone")...); status != http.StatusBadRequest || !strings.Contains(readable(text), "Nothing was changed") {
		t.Errorf("another name: got %d %s", status, readable(text))
	}
	text = p.wants(nil, "destroy", name...)
	if status, text = p.post("destroy", append(p.fields(text, "destroy"), "typed", "carol/phone 2")...); status != http.StatusOK || !strings.Contains(readable(text), "The repository carol/phone 2 is destroyed.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	text = p.wants([]string{"carol/phone 2 borgstore", "5 B 1 item"}, "removed")
	_, id, _ := strings.Cut(text, "removed/restore?id=")
	id, _, _ = strings.Cut(id, `"`)
	text = p.wants([]string{"Repository carol/phone 2", "Items 1, 5 B"}, "removed/restore", "id", id)
	if status, text = p.post("removed/restore", append(p.fields(text, "removed/restore"), "as", "carol")...); status != http.StatusOK || !strings.Contains(readable(text), "The repository is restored. Repositories carol ") {
		t.Errorf("got %d %s", status, readable(text))
	}
	repotest.WantContent(t, w.access("carol"), "packs/a", "12345")
	p.wants([]string{"No repository was destroyed"}, "removed")
	if status, text := p.get("removed/restore", "id", id); status != http.StatusBadRequest {
		t.Errorf("again: got %d %s", status, readable(text))
	}
}

// TestRepair: a check finds a file that is gone, the loss is looked at before it is accepted, and damaged items are served for a time.
func TestRepair(t *testing.T) {
	w := newWorld(t)
	a := w.access("r")
	repotest.MustPut(t, a, "packs/a", strings.Repeat("a", 1<<20))
	repotest.MustPut(t, a, "packs/b", strings.Repeat("b", 1<<20))
	p := w.loggedIn(strong)
	name := []string{"name", "r"}
	p.wants([]string{"No item is known to be damaged", "Destroy the repository"}, "repair", name...)
	status, text := p.confirmed("check", []string{"every byte, 2 MiB"}, append(name, "verify", "yes")...)
	if status != http.StatusOK || !strings.Contains(readable(text), "Done: 2 items, 2 MiB read, 0 problems.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	p.wants([]string{"The last check of this session"}, "repair", name...)
	if status, text := w.loggedIn(strong).get("check/state", name...); status != http.StatusBadRequest {
		t.Errorf("of another session: got %d %s", status, readable(text))
	}
	if err := os.Remove(repotest.BlobPaths(t, filepath.Join(w.dir, "r"))[0]); err != nil {
		t.Fatal(err)
	}
	p.wants([]string{"Missing, not marked yet 1 item of 2, 1 MiB", "Accept the loss in r"}, "loss", name...)
	if status, text = p.confirmed("loss", nil, name...); status != http.StatusOK || !strings.Contains(readable(text), "Marked as missing: 1 item, 1 MiB.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	if status, text = p.confirmed("check", nil, name...); status != http.StatusOK || !strings.Contains(readable(text), ": its file is missing") || !strings.Contains(readable(text), "1 problem.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	if status, text = p.confirmed("salvage", []string{"wrong bytes"}, append(name, "hours", "24")...); status != http.StatusOK || !strings.Contains(readable(text), "Damaged items are served until ") || !a.Repository().Salvaging() {
		t.Errorf("got %d %s", status, readable(text))
	}
	if status, text = p.confirmed("salvage", []string{"refused again"}, append(name, "hours", "0")...); status != http.StatusOK || !strings.Contains(readable(text), "Damaged items are refused again.") || a.Repository().Salvaging() {
		t.Errorf("got %d %s", status, readable(text))
	}
	for _, wrong := range []string{"", "-1", "169", "x"} {
		if status, text := p.get("salvage", append(name, "hours", wrong)...); status != http.StatusBadRequest {
			t.Errorf("%q hours: got %d %s", wrong, status, readable(text))
		}
	}
}

// TestChecksEnd: a check goes on without its page, one at a time, and ends when it is stopped, with the session, and with the handler.
func TestChecksEnd(t *testing.T) {
	begun, ended := make(chan struct{}), make(chan struct{})
	p := stub(t, func(path string) any {
		if !strings.HasSuffix(path, "/check") {
			return hostileAPI(path)
		}
		return func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(object{"progress": true, "bytes": 1 << 20, "total": 4 << 20, "problems": 0})
			begun <- struct{}{}
			<-r.Context().Done()
			ended <- struct{}{}
		}
	})
	name := []string{"name", "r", "verify", "yes"}
	var posts sync.WaitGroup
	defer posts.Wait()
	begin := func() {
		t.Helper()
		fields := p.fields(p.wants(nil, "check", name...), "check")
		posts.Go(func() { p.post("check", fields...) })
		<-begun
		repotest.WaitFor(t, "the page tells how far it is", func() bool {
			_, text := p.get("check/state", name...)
			return strings.Contains(readable(text), "1 MiB of 4 MiB read, 0 problems so far.")
		})
	}
	begin()
	if status, text := p.confirmed("check", nil, name...); status != http.StatusBadRequest || !strings.Contains(readable(text), "checks r already") {
		t.Errorf("a second one: got %d %s", status, readable(text))
	}
	fields := p.fields(p.wants(nil, "check/state", name...), "check/stop")
	if status, text := p.post("check/stop", fields...); status != http.StatusOK || !strings.Contains(readable(text), "1 MiB of 4 MiB read") {
		t.Errorf("stopped, and its disk does not answer: got %d %s", status, readable(text))
	}
	fields = p.fields(p.wants(nil, "check/state", name...), "check/stop")
	go func() { <-ended }()
	if status, text := p.post("check/stop", fields...); status != http.StatusOK || !strings.Contains(readable(text), "The check was stopped before its end.") {
		t.Errorf("stopped: got %d %s", status, readable(text))
	}
	begin()
	p.post("logout", p.fields(p.wants(nil, "check/state", name...), "logout")...)
	<-ended
	p.post("login", "user", "u", "secret", "s")
	begin()
	closed := make(chan error)
	go func() { closed <- p.pages.Close(ctx) }()
	<-ended
	if err := <-closed; err != nil {
		t.Error(err)
	}
}

// TestLists: what may be long is shown in pages.
func TestLists(t *testing.T) {
	w := newWorld(t)
	a := w.access("r")
	for i := range 130 {
		repotest.MustPut(t, a, fmt.Sprintf("locks/%03d", i), "x")
	}
	for i := range 12 {
		if _, err := a.Repository().As(repo.Principal{Name: fmt.Sprintf("writer-%02d", i)}).Put(ctx, repo.PutRequest{Key: fmt.Sprintf("archives/%02d", i), Body: strings.NewReader("x"), Size: 1, Backup: true}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Millisecond)
	}
	p := w.loggedIn(strong)
	name := []string{"name", "r"}
	if text := p.wants([]string{"locks/019", "and 110 more", "12 in all; these are the latest. All, the oldest first"}, "repository", name...); strings.Contains(text, "locks/020") {
		t.Error("the page of the repository has more than 20 locks")
	}
	if text := p.wants([]string{"locks/000", "locks/099", "1 to 100 of 130", "Break…"}, "locks", name...); strings.Contains(text, "locks/100") {
		t.Error("a page has more than 100 locks")
	}
	p.wants([]string{"locks/100", "locks/129", "101 to 130 of 130"}, "locks", append(name, "skip", "100")...)
	if text := w.loggedIn("r"+strong).wants([]string{"locks/000"}, "locks", name...); strings.Contains(text, "Break…") {
		t.Error("who may only read has a button")
	}
	plain := readable(p.wants([]string{"writer-00", "writer-11"}, "writers", append(name, "order", "oldest")...))
	if strings.Index(plain, "writer-00") > strings.Index(plain, "writer-11") {
		t.Errorf("the oldest is not the first: %s", plain)
	}
	plain = readable(p.wants(nil, "writers", name...))
	if strings.Index(plain, "writer-00") < strings.Index(plain, "writer-11") {
		t.Errorf("the latest is not the first: %s", plain)
	}

	s := stub(t, func(path string) any {
		rest := path[strings.Index(path, "/-/")+3:]
		if rest == "alerts" {
			all := make([]object, 150)
			for i := range all {
				all[i] = object{"kind": "backup", "level": "warning", "text": fmt.Sprintf("alert-%03d", i), "since": time.Unix(int64(i), 0).UTC()}
			}
			return object{"alerts": all, "receivers": []object{{"name": "phone", "type": "ntfy", "to": "ntfy.sh"}, {"name": "mail", "type": "mail", "to": "a@example.org"}}}
		}
		if rest == "alerts/test" {
			return object{"results": []object{{"name": "phone"}, {"name": "mail", "error": "no route"}}}
		}
		if rest != "plans" && rest != "kept" {
			return hostileAPI(path)
		}
		return func(w http.ResponseWriter, _ *http.Request) {
			e := json.NewEncoder(w)
			for i := range 20_000 { // of which a page is not read further than it shows
				if err := e.Encode(object{"key": fmt.Sprintf("row-%05d", i), "lock": fmt.Sprintf("row-%05d", i), "since": time.Now(), "removed": time.Now(), "expires": time.Now()}); err != nil {
					return
				}
			}
		}
	})
	for _, page := range []string{"plans", "kept"} {
		if text := s.wants([]string{"row-00000", "row-00099", "1 to 100", "Next page"}, page, name...); strings.Contains(text, "row-00100") {
			t.Errorf("%s: a page has more than 100 rows", page)
		}
		s.wants([]string{"row-00200", "201 to 300", "Previous page"}, page, append(name, "skip", "200")...)
		if text := s.wants([]string{"row-19999", "19901 to 20000"}, page, append(name, "skip", "19900")...); strings.Contains(text, "Next page") {
			t.Errorf("%s: something comes behind the last page", page)
		}
	}
	if text := s.wants([]string{"alert-000", "alert-099", "1 to 100 of 150", "phone", "mail"}, "alerts"); strings.Contains(text, "alert-100") {
		t.Error("a page has more than 100 alerts")
	}
	status, text := s.confirmed("alerts/test", []string{"phone ntfy, to ntfy.sh"}, "receiver", "phone")
	if status != http.StatusOK || !strings.Contains(readable(text), "Accepted by phone. Not delivered. mail: no route.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	if status, text := s.get("alerts/test", "receiver", "none"); status != http.StatusBadRequest {
		t.Errorf("no such receiver: got %d %s", status, readable(text))
	}
}

// TestSelection: what was removed is restored by a rule, and one item under another key.
func TestSelection(t *testing.T) {
	w := newWorld(t)
	a := w.access("r")
	for _, key := range []string{"packs/a", "packs/b", "keys/c"} {
		repotest.MustPut(t, a, key, "old")
		if err := a.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
	repotest.MustPut(t, a, "packs/b", "new")
	p := w.loggedIn(strong)
	name := []string{"name", "r"}
	status, text := p.confirmed("selection", []string{"Keys those that begin with packs/", "Stored by writer", "In the trash 2 versions, 6 B, and of these what this user stored"}, append(name, "prefix", "packs/", "principal", "writer")...)
	if status != http.StatusOK || !strings.Contains(readable(text), "Restored: 1 item (3 B). 1 item stayed in the trash, because something has the key now.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	repotest.WantContent(t, a, "packs/a", "old")
	repotest.WantContent(t, a, "packs/b", "new")
	p.wants([]string{"In the trash 0 versions"}, "selection", append(name, "since", time.Now().Add(time.Hour).UTC().Format(time.DateTime))...)
	for _, wrong := range [][]string{nil, {"since", "yesterday"}} {
		if status, text := p.get("selection", append(name, wrong...)...); status != http.StatusBadRequest {
			t.Errorf("%q: got %d %s", wrong, status, readable(text))
		}
	}
	_, id, _ := strings.Cut(p.wants(nil, "trash", append(name, "prefix", "keys/")...), `name="id" value="`)
	text = p.wants([]string{"Under another key"}, "trash/restore", append(name, "prefix", "keys/", "id", id[:32])...)
	if status, text = p.post("trash/restore", append(p.fields(text, "trash/restore"), "key", "keys/d")...); status != http.StatusOK || !strings.Contains(readable(text), "Restored under the key keys/d.") {
		t.Errorf("got %d %s", status, readable(text))
	}
	repotest.WantContent(t, a, "keys/d", "old")
}

// TestHead: a request for the head of a page ends, also of the progress of a job that runs.
func TestHead(t *testing.T) {
	w := newWorld(t)
	repotest.MustPut(t, w.access("r"), "packs/a", strings.Repeat("x", 8<<20)) // at 1 MiB/s
	p := w.loggedIn(strong)
	_, text := p.confirmed("scrub", nil, "name", "r", "share", "all")
	_, events, _ := strings.Cut(text, `data-events="`)
	events, _, _ = strings.Cut(events, `"`)
	for _, page := range []string{"", "repository?name=r", strings.ReplaceAll(events, "&amp;", "&")} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(w.url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		begun := time.Now()
		if err := conn.SetDeadline(begun.Add(4 * time.Second)); err != nil {
			t.Fatal(err)
		}
		// The answer to the second request comes when the first has ended.
		fmt.Fprintf(conn, "HEAD /-/ui/%s HTTP/1.1\r\nHost: x\r\nCookie: packhouse_session=%s\r\n\r\nGET /-/ui/assets/icon.svg HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", page, p.cookie())
		text, err := io.ReadAll(conn)
		if err != nil || !strings.HasPrefix(string(text), "HTTP/1.1 200 OK") || strings.Count(string(text), "HTTP/1.1 200 OK") != 2 || !strings.HasSuffix(string(text), "</svg>\n") {
			t.Errorf("%s: got %q, %v after %v", page, text, err, time.Since(begun))
		}
	}
}
