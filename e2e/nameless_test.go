//go:build e2e

package e2e

import (
	"os"
	"strings"
	"testing"
)

// TestNamelessURL: real clients whose URL has no path, at a server of many repositories, fail, leave nothing behind, and are
// told what the URL should look like: by the answer, where they print it, and by the server's log.
func TestNamelessURL(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	hint := "the URL names no repository: it should look like http://" + s.addr + "/NAME"
	told := func(t *testing.T, command string) { t.Helper(); s.refusedWith(t, command, hint) }
	t.Run("borg", func(t *testing.T) {
		b := newBorg(t, strings.TrimSuffix(s.url(""), "/"))
		for _, command := range []string{"repo-create --encryption aes256-ocb", "repo-list", "repo-delete", "create story ."} {
			out, code := b.try(strings.Fields(command)...)
			if code == 0 || !strings.Contains(out, hint) {
				t.Errorf("%s: exit code %d\n%s", command, code, lastLines(out, 20))
			}
			told(t, command)
		}
	})
	t.Run("vykar", func(t *testing.T) {
		v := newVykar(t, vykarProgram(t), "http://"+s.addr, t.TempDir())
		for _, command := range []string{"init", "list", "backup", "check", "break-lock", "delete --yes-delete-this-repo"} {
			if out, code := v.try(strings.Fields(command)...); code == 0 || !strings.Contains(out, "HTTP 400") {
				t.Errorf("%s: exit code %d\n%s", command, code, lastLines(out, 20))
			}
			told(t, command)
		}
	})
}

// TestNestedURL: real clients with a URL of several names create no repository, and are told, at least by the server's log, what would be right.
func TestNestedURL(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	hint := "a repository's URL has one name, without further slashes: it should look like http://" + s.addr + "/pc-home"
	told := func(t *testing.T, command string) { t.Helper(); s.refusedWith(t, command, hint) }
	t.Run("borg", func(t *testing.T) {
		out, code := newBorg(t, s.url("pc/home")).try("repo-create", "--encryption", "aes256-ocb")
		if code == 0 || !strings.Contains(out, hint) {
			t.Errorf("repo-create: exit code %d\n%s", code, lastLines(out, 20))
		}
		told(t, "borg repo-create")
	})
	t.Run("vykar", func(t *testing.T) {
		out, code := newVykar(t, vykarProgram(t), "http://"+s.addr+"/pc/home", t.TempDir()).try("init")
		if code == 0 || !strings.Contains(out, "HTTP 400") {
			t.Errorf("init: exit code %d\n%s", code, lastLines(out, 20))
		}
		told(t, "vykar init")
	})
}

// TestDeleteOfNothing: vykar's delete of a repository that was never created says that there is none.
func TestDeleteOfNothing(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := startServer(t)
	v := newVykar(t, program, "http://"+s.addr+"/never", t.TempDir())
	if out, code := v.try("delete", "--yes-delete-this-repo"); code != 1 || !strings.Contains(out, "no repository found at 'http://"+s.addr+"/never'") {
		t.Errorf("delete: exit code %d\n%s", code, lastLines(out, 20))
	}
	// After it there is one, which can be deleted and made anew.
	v.run("init")
	v.run("delete", "--yes-delete-this-repo")
	if out, code := v.try("delete", "--yes-delete-this-repo"); code != 1 || !strings.Contains(out, "no repository found") {
		t.Errorf("delete again: exit code %d\n%s", code, lastLines(out, 20))
	}
	v.run("init")
}

// refusedWith demands that the last request was a 400 for a reason, after a command, and that there is no repository.
func (s *server) refusedWith(t *testing.T, command, reason string) {
	t.Helper()
	requests := s.requests()
	if last := requests[len(requests)-1]; last.Status != 400 || last.Reason != reason {
		t.Errorf("%s: the log ends with %s", command, last.raw)
	}
	if entries, err := os.ReadDir(s.data); err != nil || len(entries) > 1 {
		t.Errorf("%s: the data directory has %v, %v", command, entries, err)
	}
}
