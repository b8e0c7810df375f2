package admin_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"packhouse/compact"
	"packhouse/repo"
)

// client is a client of V'Ger at a repository of its own.
type client struct {
	*world
	a *repo.Access
}

func newClient(t *testing.T) *client {
	t.Helper()
	w := newWorld(t, nil)
	r, err := w.set.Create(context.Background(), "v", "vger")
	if err != nil {
		t.Fatal(err)
	}
	return &client{w, r.As(repo.Principal{Name: "laptop", Address: "192.0.2.1"})}
}

func (c *client) put(key, body string) {
	c.t.Helper()
	_, err := c.a.Put(context.Background(), repo.PutRequest{Key: key, Body: strings.NewReader(body), Size: int64(len(body))})
	if err != nil {
		c.t.Fatal(err)
	}
}

// repack copies all but the first byte of packs into new ones, as ?repack does; it returns when the answer is written.
func (c *client) repack(keys ...string) {
	c.t.Helper()
	plan := c.engine.NewPlan(compact.Limits{})
	defer plan.Close()
	for _, key := range keys {
		entry, err := c.a.Stat(context.Background(), key)
		if err == nil {
			err = plan.Add(compact.Operation{
				Ranges: []compact.Range{{Key: key, Offset: 1, Length: entry.Item.Size - 1}}, Target: "packs/of-" + key[len("packs/"):], Deletes: []string{key},
			})
		}
		if err != nil {
			c.t.Fatal(err)
		}
	}
	compaction, err := c.engine.RunOpen(context.Background(), c.a, plan, func(int, compact.Outcome) error { return nil })
	if err != nil {
		c.t.Fatal(err)
	}
	compaction.Answering()
}

func (c *client) usage() map[string]any {
	c.t.Helper()
	return c.document("reader", "GET", "/v/-/", "", 200)["usage"].(map[string]any)
}

// jobs are the IDs of all jobs, oldest first.
func (c *client) jobs() (ids []string) {
	c.t.Helper()
	for _, job := range c.document("reader", "GET", "/v/-/jobs", "", 200)["jobs"].([]any) {
		ids = append(ids, job.(map[string]any)["id"].(string))
	}
	return ids
}

// An open plan is seen with its sender, its lock and its job until the client's index completes it; then what is kept
// after it, until an administrator gives that back.
func TestOpenPlans(t *testing.T) {
	c := newClient(t)
	c.put("index", "1")
	c.put("packs/a", "first pack")
	c.put("packs/b", "second pack")
	before := c.usage()
	if before["open_plans"] != 0.0 || before["bytes_open"] != 0.0 || before["kept_items"] != 0.0 || before["kept_bytes"] != 0.0 || before["bytes_returned"] != 0.0 {
		t.Errorf("before: got %v", before)
	}
	c.put("locks/l.json", "{}")
	c.repack("packs/a", "packs/b")

	job := c.jobs()[0]
	r := c.document("reader", "GET", "/v/-/", "", 200)
	plans, _ := r["plans"].([]any)
	if len(plans) != 1 {
		t.Fatalf("repository: got %v, want one open plan", r)
	}
	p := plans[0].(map[string]any)
	for name, want := range map[string]any{
		"principal": "laptop", "address": "192.0.2.1", "packs": 2.0, "bytes": 21.0, "lock": "locks/l.json", "job": job,
	} {
		if p[name] != want {
			t.Errorf("plan: %s: got %v, want %v", name, p[name], want)
		}
	}
	for _, name := range []string{"since", "lock_since"} {
		text, _ := p[name].(string)
		if at, err := time.Parse(time.RFC3339, text); err != nil || time.Since(at) > time.Minute || time.Since(at) < -time.Minute {
			t.Errorf("plan: %s: got %v", name, p[name])
		}
	}
	if u := c.usage(); u["open_plans"] != 1.0 || u["bytes_open"] != 21.0 || u["bytes_counted"] != before["bytes_counted"].(float64)-2 {
		t.Errorf("open: got %v, before %v", u, before)
	}
	shown := c.document("reader", "GET", "/v/-/jobs/"+job, "", 200)
	if plan, _ := shown["plan"].(map[string]any); shown["state"] != "done" || plan["open"] != true || plan["packs"] != 2.0 || plan["bytes"] != 21.0 ||
		plan["detail"] != "waits for its client's index: 2 packs, 21 bytes stay" {
		t.Errorf("job of an open plan: got %v", shown)
	}
	if resp, text := c.call("reader", "GET", "/v/-/kept", ""); resp.StatusCode != 403 {
		t.Errorf("kept, by one who is no administrator: got %d %s", resp.StatusCode, text)
	}
	if resp, text := c.call("writer", "GET", "/v/-/plans", ""); resp.StatusCode != 403 {
		t.Errorf("plans, by one who may not list: got %d %s", resp.StatusCode, text)
	}

	c.a.IndexRead("index", c.a.ReadTime())
	c.put("index", "2")
	if u := c.usage(); u["open_plans"] != 0.0 || u["bytes_open"] != 0.0 || u["kept_items"] != 2.0 || u["kept_bytes"] != 21.0 {
		t.Errorf("complete: got %v", u)
	}
	if plans := c.document("reader", "GET", "/v/-/", "", 200)["plans"]; plans != nil {
		t.Errorf("complete: got plans %v", plans)
	}
	shown = c.document("reader", "GET", "/v/-/jobs/"+job, "", 200)
	if plan, _ := shown["plan"].(map[string]any); plan["open"] != false || !strings.HasPrefix(fmt.Sprint(plan["detail"]), "no longer open: ") {
		t.Errorf("job of a plan that is complete: got %v", shown)
	}
	_, text := c.call("root", "GET", "/v/-/kept", "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var row struct {
		Key, Why         string
		Size             int64
		Removed, Expires time.Time
	}
	if err := json.Unmarshal([]byte(lines[0]), &row); err != nil || len(lines) != 2 || row.Key != "packs/a" || row.Why != "replaced" || row.Size != 10 || row.Expires.Sub(row.Removed).Round(time.Minute) != 48*time.Hour {
		t.Errorf("kept: got %s, %v", text, err)
	}

	// Who asks for one of them gets it, and then it is an item again.
	if _, err := c.a.Lookup(context.Background(), "packs/a"); err != nil {
		t.Fatal(err)
	}
	if u := c.usage(); u["bytes_returned"] != 10.0 || u["kept_items"] != 1.0 || u["kept_bytes"] != 11.0 {
		t.Errorf("returned: got %v", u)
	}
	// Emptying the trash leaves what is kept alone.
	c.document(onTheServer, "DELETE", "/v/-/trash", "", 200)
	if u := c.usage(); u["kept_items"] != 1.0 {
		t.Errorf("the trash was emptied: got %v", u)
	}
	for _, user := range []string{"reader", "writer", "root"} {
		c.document(user, "DELETE", "/v/-/kept", "", 403)
	}
	c.document(onTheServer, "DELETE", "/v/-/kept?removed_before=2020-01-01T00:00:00Z", "", 400)
	if got := c.document(onTheServer, "DELETE", "/v/-/kept", "", 200); got["items"] != 1.0 || got["bytes"] != 11.0 {
		t.Errorf("given back: got %v", got)
	}
	if u := c.usage(); u["kept_items"] != 0.0 || u["trash_items"] != 0.0 {
		t.Errorf("after it was given back: got %v", u)
	}
	if got := c.document(onTheServer, "DELETE", "/v/-/kept", "", 200); got["items"] != 0.0 || got["bytes"] != 0.0 {
		t.Errorf("given back again: got %v", got)
	}
	for _, want := range []string{
		`level=INFO msg=request .* principal=local repository=v .* operation=empty-kept method=DELETE key="" status=200`,
		`principal=reader repository=v .* operation=empty-kept method=DELETE key="" status=403`,
	} {
		c.log.Await(t, 0, want)
	}
}

// A client has a plan for every batch: the answer for a repository has the oldest few, the list all of them.
func TestManyOpenPlans(t *testing.T) {
	c := newClient(t)
	c.put("index", "1")
	c.put("locks/l.json", "{}")
	for n := range 13 {
		c.put(fmt.Sprintf("packs/%02d", n), "some pack")
	}
	for n := range 13 {
		c.repack(fmt.Sprintf("packs/%02d", n))
	}
	r := c.document("reader", "GET", "/v/-/", "", 200)
	plans, _ := r["plans"].([]any)
	if len(plans) != 10 || plans[0].(map[string]any)["id"] != 1.0 || r["usage"].(map[string]any)["open_plans"] != 13.0 {
		t.Errorf("got %d plans, %v", len(plans), r)
	}
	_, text := c.call("reader", "GET", "/v/-/plans", "")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for i, line := range lines {
		var p struct{ ID int }
		if err := json.Unmarshal([]byte(line), &p); err != nil || p.ID != i+1 {
			t.Errorf("line %d: got %s, %v", i, line, err)
		}
	}
	if len(lines) != 13 {
		t.Errorf("got %d plans, want 13", len(lines))
	}
	// In the list of repositories are sums only.
	for _, r := range c.document("reader", "GET", "/-/repositories", "", 200)["repositories"].([]any) {
		if r := r.(map[string]any); r["plans"] != nil {
			t.Errorf("repositories: got %v", r)
		}
	}
	if resp, text := c.call("reader", "HEAD", "/v/-/plans", ""); resp.StatusCode != 200 || text != "" {
		t.Errorf("HEAD: got %d %q", resp.StatusCode, text)
	}
}

// A job that has left nothing to its client has no plan to show.
func TestJobWithoutPlan(t *testing.T) {
	w := newWorld(t, nil)
	w.put("a", "aAAAa")
	w.put("b", "b")
	job := w.document("root", "POST", "/r/-/compactions", plan, 202)
	w.call("root", "GET", fmt.Sprintf("/r/-/jobs/%s/events", job["id"]), "")
	if done := w.document("root", "GET", fmt.Sprintf("/r/-/jobs/%s", job["id"]), "", 200); done["state"] != "done" || done["plan"] != nil {
		t.Errorf("got %v", done)
	}
}
