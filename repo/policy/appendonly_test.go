package policy_test

import (
	"strings"
	"testing"

	"packhouse/repo/policy"
)

// TestAppendOnly holds the tables of append-only mode. That of V'Ger is held against its protocol in package vger, too.
func TestAppendOnly(t *testing.T) {
	all := "lrwWD"
	borg := map[string]string{
		"": "lrw", "archives/x": "lrw", "cache/x": all, "config/x": "lrwW", "data/x": "lrw", "index/x": all, "keys/x": "lrw",
		"locks/x": "lrwD", "packs/ab/x": "lrw",
	}
	for dialect, rows := range map[string]map[string]string{
		"borgstore": borg,
		"":          borg,
		"vger": {
			"": "lrw", "config": "lrw", "index": "lrwW", "index.gen": "lrwW", "manifest": "lrwW", "keys/repokey": "lrw",
			"locks/x": all, "sessions/x": all, "packs/ab/x": "lrw", "snapshots/x": "lrw",
		},
	} {
		p := policy.AppendOnly(dialect)
		for key, granted := range rows {
			for _, letter := range all {
				if got, want := p.Allows(key, string(letter)), strings.ContainsRune(granted, letter); got != want {
					t.Errorf("%q: %c on %q: got %v, want %v", dialect, letter, key, got, want)
				}
			}
		}
		if p.AllowsBatchDelete() || p.AllowsReplacingFinal() {
			t.Errorf("%q: batches %v, final %v; want neither", dialect, p.AllowsBatchDelete(), p.AllowsReplacingFinal())
		}
	}
	var everything *policy.Permissions
	if !everything.AllowsBatchDelete() || !everything.AllowsReplacingFinal() {
		t.Error("no restriction is one")
	}
}
