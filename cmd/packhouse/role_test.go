package main

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestRole(t *testing.T) {
	for _, test := range []struct {
		args []string
		code int
		want string // all of stdout, or a part of stderr
	}{
		{[]string{"role", "show", "backup", "--dialect", "vger"}, 0, "\"\"\tlrw\nindex\tlrwW\nindex.gen\tlrwW\nlocks\tlrwWD\nmanifest\tlrwW\nsessions\tlrwWD\n"},
		{[]string{"role", "show", "read", "--dialect", "borgstore"}, 0, "\"\"\tlr\nlocks\tlrwD\n"},
		{[]string{"role", "show", "admin", "--dialect", "borgstore"}, 0, "\"\"\tlrwWD\n"},
		{[]string{"role", "show", "backup"}, 2, "--dialect must be borgstore"},
		{[]string{"role", "show", "backup", "--dialect", "borg"}, 2, "--dialect must be borgstore"},
		{[]string{"role", "show", "--dialect", "vger"}, 2, "needs a ROLE"},
		{[]string{"role", "show", "maintian", "--dialect", "vger"}, 2, `did you mean "maintain"?`},
		{[]string{"role", "list", "x"}, 2, "takes no arguments"},
	} {
		code, out, errs := runHere(t, test.args...)
		if code != test.code || code == 0 && out != test.want || code != 0 && !strings.Contains(errs, test.want) {
			t.Errorf("%q: got %d, %q, %q; want %d, %q", test.args, code, out, errs, test.code, test.want)
		}
	}
	if code, out, errs := runHere(t, "role", "list"); code != 0 || !strings.Contains(out, "backup\tback up and restore") || strings.Count(out, "\n") != 5 {
		t.Errorf("list: got %d, %q, %q", code, out, errs)
	}
	var list struct {
		Roles []struct{ Role, Purpose string }
	}
	_, out, _ := runHere(t, "role", "list", "--json")
	if err := json.Unmarshal([]byte(out), &list); err != nil || len(list.Roles) != 5 || list.Roles[2].Role != "backup" {
		t.Errorf("list --json: got %s, %v", out, err)
	}
	var shown struct {
		Role, Dialect string
		Permissions   []struct{ Prefix, Letters string }
	}
	_, out, _ = runHere(t, "role", "show", "read", "--dialect", "borgstore", "--json")
	if err := json.Unmarshal([]byte(out), &shown); err != nil || len(shown.Permissions) != 2 || shown.Permissions[1].Letters != "lrwD" {
		t.Errorf("show --json: got %s, %v", out, err)
	}
}
