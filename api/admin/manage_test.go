package admin_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/api/admin"
	"packhouse/repo/datadir"
)

// TestManage: whoever may do everything creates, destroys and restores repositories over the network, and nobody else does.
func TestManage(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) {
		o.Removals, o.Dialects = o.Set.(*datadir.Set), []string{"silent"}
	})
	for _, q := range []struct{ method, path, body string }{
		{http.MethodPost, "/-/repositories", `{"name":"new","dialect":"silent"}`}, {http.MethodDelete, "/r/-/", ""}, {http.MethodGet, "/-/removed", ""},
		{http.MethodPost, "/-/removed/restore", `{"name":"r"}`}, {http.MethodPost, "/r/-/check", `{}`}, {http.MethodPut, "/r/-/salvage", `{"seconds":60}`}, {http.MethodPost, "/r/-/accept-loss", `{}`},
	} {
		for _, as := range []string{"writer", "reader"} {
			if resp, text := w.call(as, q.method, q.path, q.body); resp.StatusCode != http.StatusForbidden {
				t.Errorf("%s %s as %s: got %d %s, want 403", q.method, q.path, as, resp.StatusCode, text)
			}
		}
	}
	for body, status := range map[string]int{
		`{"name":"r","dialect":"silent"}`: http.StatusConflict, `{"name":"x","dialect":"other"}`: http.StatusBadRequest,
		`{"name":"../x","dialect":"silent"}`: http.StatusBadRequest, `{"name":"x"}`: http.StatusBadRequest, `{`: http.StatusBadRequest,
	} {
		if resp, text := w.call("root", http.MethodPost, "/-/repositories", body); resp.StatusCode != status || strings.Contains(text, w.dir) {
			t.Errorf("create %s: got %d %s, want %d", body, resp.StatusCode, text, status)
		}
	}
	if made := w.document("root", http.MethodPost, "/-/repositories", `{"name":"new","dialect":"silent"}`, http.StatusCreated); made["name"] != "new" || made["grace_seconds"] != 3600.0 {
		t.Errorf("created: got %v", made)
	}
	w.put("a", "bytes")
	if resp, text := w.call("root", http.MethodDelete, "/r/-/", ""); resp.StatusCode != http.StatusNoContent {
		t.Fatalf("destroy: got %d %s", resp.StatusCode, text)
	}
	if resp, _ := w.call("root", http.MethodGet, "/r/-/", ""); resp.StatusCode != http.StatusNotFound {
		t.Errorf("the destroyed repository: got %d, want 404", resp.StatusCode)
	}
	list := w.document("root", http.MethodGet, "/-/removed", "", http.StatusOK)["removed"].([]any)
	if len(list) != 1 || list[0].(map[string]any)["name"] != "r" {
		t.Fatalf("removed: got %v", list)
	}
	if resp, _ := w.call("root", http.MethodPost, "/-/removed/restore", `{"name":"never"}`); resp.StatusCode != http.StatusNotFound {
		t.Errorf("restore of none: got %d, want 404", resp.StatusCode)
	}
	w.document("root", http.MethodPost, "/-/removed/restore", `{"name":"r"}`, http.StatusOK)
	w.want("a", "bytes")
	for body, status := range map[string]int{`{}`: 400, `{"seconds":-1}`: 400, `{"seconds":604801}`: 400, `{"seconds":60}`: 200, `{"seconds":0}`: 200} {
		if resp, text := w.call("root", http.MethodPut, "/r/-/salvage", body); resp.StatusCode != status {
			t.Errorf("salvage %s: got %d %s, want %d", body, resp.StatusCode, text, status)
		}
	}
	if loss := w.document("root", http.MethodPost, "/r/-/accept-loss", `{"dry_run":true}`, http.StatusOK); loss["total"] != 1.0 || loss["items"] != 0.0 {
		t.Errorf("accept-loss: got %v", loss)
	}
}

// TestVanished: a repository that is missing is 410, and listed with that. Whoever may do everything has it forgotten, and nobody else does.
func TestVanished(t *testing.T) {
	w := newWorld(t, func(o *admin.Options) { o.Removals = o.Set.(*datadir.Set) })
	if err := os.RemoveAll(filepath.Join(w.dir, "r")); err != nil {
		t.Fatal(err)
	}
	kind := func(document map[string]any) string {
		text, _ := document["type"].(string)
		return text[strings.LastIndexByte(text, ':')+1:]
	}
	if got := kind(w.document("root", http.MethodGet, "/r/-/", "", http.StatusGone)); got != "vanished" {
		t.Errorf("got the type %q", got)
	}
	list := w.document("reader", http.MethodGet, "/-/repositories", "", http.StatusOK)["repositories"].([]any)
	if first := list[0].(map[string]any); len(list) != 2 || first["name"] != "r" || kind(first["error"].(map[string]any)) != "vanished" {
		t.Errorf("list: %v", list)
	}
	for as, status := range map[string]int{"writer": http.StatusForbidden, "reader": http.StatusForbidden} {
		if resp, text := w.call(as, http.MethodDelete, "/r/-/", ""); resp.StatusCode != status {
			t.Errorf("delete as %s: got %d %s, want %d", as, resp.StatusCode, text, status)
		}
	}
	if resp, _ := w.call("root", http.MethodDelete, "/r/-/jobs/1", ""); resp.StatusCode != http.StatusGone {
		t.Errorf("delete of something in it: got %d, want 410", resp.StatusCode)
	}
	for _, status := range []int{http.StatusNoContent, http.StatusNotFound} {
		if resp, text := w.call("root", http.MethodDelete, "/r/-/", ""); resp.StatusCode != status {
			t.Errorf("delete: got %d %s, want %d", resp.StatusCode, text, status)
		}
	}
	if list := w.document("root", http.MethodGet, "/-/repositories", "", http.StatusOK)["repositories"].([]any); len(list) != 1 {
		t.Errorf("list after that: %v", list)
	}
}
