//go:build e2e

package e2e

import (
	"encoding/json"
	"path/filepath"
	"testing"
	"time"
)

// lastBackup is when a backup of a repository was last completed, as the server knows; zero: never.
func (s *server) lastBackup(repository string) time.Time {
	s.t.Helper()
	var info struct {
		Usage struct {
			LastBackup time.Time `json:"last_backup"`
		} `json:"usage"`
	}
	text := run(s.t, nil, packhouse(), "repo", "info", repository, "--json", "-d", s.data)
	if err := json.Unmarshal([]byte(text), &info); err != nil {
		s.t.Fatalf("repo info: %v\n%s", err, text)
	}
	return info.Usage.LastBackup
}

// TestFreshnessOfBorg: with real borg only what completes a backup counts as one.
func TestFreshnessOfBorg(t *testing.T) {
	t.Parallel()
	for _, version := range []struct {
		name     string
		program  func(testing.TB) string
		commands [][]string // "" stands for the newest archive
	}{
		{"borg", func(t testing.TB) string { return need(t, "borg") }, [][]string{
			{"tag", "", "--add", "kept"}, {"rename", "", "renamed"}, {"recreate", "--comment", "second", ""}, {"prune", "--keep", "1"},
		}},
		{"newest", newestBorg, [][]string{{"tag", "", "--add", "kept"}, {"delete", ""}}},
	} {
		t.Run(version.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			b := newBorgOf(t, version.program(t), s.url("laptop"))
			tr := newTree(t, 31, 5, 1<<16)
			b.run("repo-create", "--encryption", "aes256-ocb")
			if at := s.lastBackup("laptop"); !at.IsZero() {
				t.Errorf("a repository without backups has one of %v", at)
			}
			create := func() time.Time {
				b.in(filepath.Dir(tr.dir), `"$BORG" create --comment first story tree`)
				return s.lastBackup("laptop")
			}
			create()
			last := create()
			if last.IsZero() {
				t.Fatal("a backup was completed, and the server does not know")
			}
			newest := func() string {
				ids := b.archives()
				return "aid:" + ids[len(ids)-1]
			}
			for _, command := range version.commands {
				for i := range command {
					if command[i] == "" {
						command[i] = newest()
					}
				}
				b.run(command...)
				if at := s.lastBackup("laptop"); !at.Equal(last) {
					t.Errorf("after %q the last backup is of %v, want %v", command, at, last)
				}
			}
			if at := create(); !at.After(last) {
				t.Errorf("after another backup the last is of %v", at)
			}
		})
	}
}

// TestFreshnessOfFormat1: with V'Ger's first format a backup is complete when its manifest is stored.
func TestFreshnessOfFormat1(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	run(t, nil, packhouse(), "repo", "create", "laptop", "--dialect", "vger", "-d", s.data)
	h := hiding{newVault(t, s, "laptop")}
	h.o.Format, h.token = 1, s.issued("laptop", "maintain")
	if err := h.client(h.next).Init(); err != nil {
		t.Fatal(err)
	}
	if at := s.lastBackup("laptop"); !at.IsZero() {
		t.Errorf("a repository without backups has one of %v", at)
	}
	h.backup("monday")
	h.backup("tuesday")
	last := s.lastBackup("laptop")
	if last.IsZero() {
		t.Fatal("a backup was completed, and the server does not know")
	}
	if warnings, err := h.client(h.next).Delete("monday"); err != nil || len(warnings) > 0 {
		t.Fatalf("delete: %v, %v", warnings, err)
	}
	if at := s.lastBackup("laptop"); !at.Equal(last) {
		t.Errorf("after the deletion of a snapshot the last backup is of %v, want %v", at, last)
	}
}
