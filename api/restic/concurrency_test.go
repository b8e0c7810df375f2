package restic_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"packhouse/api"
	"packhouse/repo/datadir"
)

// TestListsWhileObjectsChange: clients that add and delete their locks see their own, and one that stays, in each listing meanwhile, as soon as they are
// answered; and none that they have deleted. rest-server answers some of these listings with 404. Source: restic-rest 2.5 C9, 5.1 #54.
func TestListsWhileObjectsChange(t *testing.T) {
	t.Parallel()
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	w.store("all", "r", "locks", "stays")
	w.store("all", "r", "data", "stays")
	var clients sync.WaitGroup
	for client := range 4 {
		kind := []string{"locks", "data"}[client%2]
		clients.Go(func() {
			listed := func(content string) bool {
				a := w.call("all", "GET", "/r/"+kind+"/", "")
				if a.StatusCode != 200 || !strings.Contains(a.body, id("stays")) {
					t.Errorf("listing of %s: %s %q, want the one that stays", kind, a.Status, a.body)
				}
				return strings.Contains(a.body, id(content))
			}
			for round := range 60 {
				content := fmt.Sprint(client, " ", round)
				path := "/r/" + kind + "/" + id(content)
				if a := w.call("all", "POST", path, content); a.StatusCode != 200 {
					t.Errorf("store: %s %s", a.Status, a.body)
				}
				if !listed(content) {
					t.Errorf("%s %q was stored and is not listed", kind, content)
				}
				if a := w.call("all", "DELETE", path, ""); a.StatusCode != 200 {
					t.Errorf("delete: %s %s", a.Status, a.body)
				}
				if listed(content) {
					t.Errorf("%s %q was deleted and is listed", kind, content)
				}
			}
		})
	}
	clients.Wait()
}

// TestSameObjectAtOnce: clients store the same object at once, as after a lost answer, and each is told that it is there; it is stored once. The same of
// a config: two clients that create the repository at once have different ones, and only one of them is told that it has succeeded.
func TestSameObjectAtOnce(t *testing.T) {
	t.Parallel()
	w := start(t, api.Options{}, datadir.Options{})
	w.create("r")
	for round := range 20 {
		var clients sync.WaitGroup
		configs := make(chan string, 4)
		repository := fmt.Sprint("new", round)
		for client := range 4 {
			clients.Go(func() {
				content := fmt.Sprint("the same in round ", round)
				if a := w.call("all", "POST", "/r/data/"+id(content), content); a.StatusCode != 200 {
					t.Errorf("store: %s %s", a.Status, a.body)
				}
				if a := w.call("all", "POST", "/"+repository+"/?create=true", ""); a.StatusCode != 200 {
					t.Errorf("create: %s %s", a.Status, a.body)
				}
				config := fmt.Sprint("config of ", client)
				switch a := w.call("all", "POST", "/"+repository+"/config", config); a.StatusCode {
				case 200:
					configs <- config
				case 403:
				default:
					t.Errorf("config: %s %s", a.Status, a.body)
				}
			})
		}
		clients.Wait()
		close(configs)
		stored := w.want(200, "all", "GET", "/"+repository+"/config", "").body
		n := 0
		for config := range configs {
			if n++; config != stored {
				t.Errorf("%q was acknowledged, and %q is stored", config, stored)
			}
		}
		if n != 1 {
			t.Errorf("%d clients have stored a config, want one", n)
		}
	}
	if list := w.want(200, "all", "GET", "/r/data/", "").body; strings.Count(list, `"name"`) != 20 {
		t.Errorf("listed: %s", list)
	}
}
