package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
)

func TestPoliciesAreKept(t *testing.T) {
	own := t.TempDir()
	got, err := config.KeptPolicies(own)
	if err != nil || !reflect.DeepEqual(got.Of("x"), config.DefaultPolicy()) {
		t.Errorf("without a file: got %+v, %v", got, err)
	}
	c, err := config.Parse("f", []byte("[server]\ngrace = '7d'\n[[repository]]\nname = 'a'\nquota = '1G'\nappend_only = true\npermissions = 'no-delete'\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // anew, and over the one that is there
		if err := c.Policies().Keep(own); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = config.KeptPolicies(own); err != nil {
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
	for _, bad := range []string{"", "{", `{"default":{"grace":"x"}}`, `{"default":{"grace":"1h","lock_ttl":"1h","permissions":"nonsense"}}`} {
		if err := os.WriteFile(filepath.Join(own, "policy.json"), []byte(bad), 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := config.KeptPolicies(own); err == nil {
			t.Errorf("%q was read as %+v", bad, got)
		}
	}
}
