package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/layout"
)

func TestPoliciesAreKept(t *testing.T) {
	data := t.TempDir()
	own := layout.ServerDir(data)
	if err := os.Mkdir(own, 0o700); err != nil {
		t.Fatal(err)
	}
	got, err := config.KeptPolicies(data)
	if err != nil || !reflect.DeepEqual(got.Of("x"), config.DefaultPolicy()) {
		t.Errorf("without a file: got %+v, %v", got, err)
	}
	const text = "[server]\ngrace = '7d'\n[[repository]]\nname = 'a'\nquota = '1G'\ntrash_quota = '2G'\nappend_only = true\npermissions = 'no-delete'\ncompact_grace = '9d'\ncompact_young = '2h'\n"
	c, err := config.Parse("f", []byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	keep := func(text string) os.FileInfo {
		t.Helper()
		c, err := config.Parse("f", []byte(text), nil)
		if err == nil {
			err = c.Policies().Keep(data)
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(own, "policy.json"))
		if err != nil {
			t.Fatal(err)
		}
		return info
	}
	other := keep("[server]\ngrace = '8d'\n")
	first := keep(text)
	if second := keep(text); os.SameFile(other, first) || !os.SameFile(first, second) { // which has to work on a full disk
		t.Error("the file is not written when the policies are others, or written when they are the same")
	}
	if got, err = config.KeptPolicies(data); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"a", "b"} {
		g, w := got.Of(name), c.PolicyOf(name)
		if g.Permissions.String() != w.Permissions.String() {
			t.Errorf("permissions of %s: got %s, want %s", name, g.Permissions, w.Permissions)
		}
		g.Permissions, w.Permissions = nil, nil
		if !reflect.DeepEqual(g, w) {
			t.Errorf("policy of %s: got %+v, want %+v", name, g, w)
		}
	}
	if entries, _ := os.ReadDir(own); len(entries) != 1 {
		t.Errorf("files: got %v, want one", entries)
	}
	// A version before compact_grace, compact_young and trash_quota wrote it.
	old := `{"default":{"quota":-1,"reserve":1,"append_only":false,"lock_ttl":"1h0m0s","grace":"1h0m0s","permissions":"{}"}}`
	if err := os.WriteFile(filepath.Join(own, "policy.json"), []byte(old), 0o600); err != nil {
		t.Fatal(err)
	}
	want := config.DefaultPolicy()
	if got, err := config.KeptPolicies(data); err != nil || got.Default.Reserve != 1 || got.Default.CompactGrace != want.CompactGrace || got.Default.CompactYoung != want.CompactYoung || got.Default.TrashQuota != 0 {
		t.Errorf("a file of an older version: got %+v, %v", got, err)
	}
	for _, bad := range []string{"", "{", `{"default":{"grace":"1h","lock_ttl":"1h","permissions":"{}","compact_grace":"long"}}`, `{"default":{"grace":"x"}}`, `{"default":{"grace":"1h","lock_ttl":"1h","permissions":"nonsense"}}`} {
		if err := os.WriteFile(filepath.Join(own, "policy.json"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := config.KeptPolicies(data); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}
