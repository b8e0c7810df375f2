//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// TestBorgPermissions holds each permission preset to what real borg may and may not do under it.
func TestBorgPermissions(t *testing.T) {
	t.Parallel()
	const works, fails = true, false
	presets := []struct {
		name string
		// What works, in this order: repo-info, create, repo-list, list, extract, check, delete, prune,
		// compact, repo-delete.
		info, create, repoList, list, extract, check, delete, prune, compact, repoDelete bool
	}{
		{"all", works, works, works, works, works, works, works, works, works, works},
		{"no-delete", works, works, works, works, works, works, fails, fails, fails, fails},
		{"write-only", works, works, fails, fails, fails, fails, fails, fails, fails, fails},
		{"read-only", works, fails, works, works, works, fails, fails, fails, fails, fails},
	}
	for _, preset := range presets {
		// Over HTTP the server is given the preset, over ssh the forced command.
		ways := map[string]func(t *testing.T, tr *tree) (b *borg, archive string){
			"http": func(t *testing.T, tr *tree) (b *borg, archive string) {
				s := oneStore(t)
				b = newBorg(t, "http://"+s.addr+"/")
				archive = prepare(b, tr)
				s.stop()
				if preset.name != "all" {
					s.args = append(s.args, "--permissions", "borgbackup-"+preset.name)
				}
				s.start()
				return b, archive
			},
			"ssh": func(t *testing.T, tr *tree) (b *borg, archive string) {
				home := t.TempDir()
				b = overShell(t, home, "")
				archive = prepare(b, tr)
				forced := "packhouse serve --rest --permissions " + preset.name +
					" --restrict-to-repository " + filepath.Join(home, "repository")
				return b.with("BORG_RSH=" + remoteShell(t, home, forced)), archive
			},
		}
		for way, start := range ways {
			if way == "ssh" && (preset.name == "all" || preset.name == "write-only") {
				continue // the same tables by another way; two of them show that the way works
			}
			t.Run(preset.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				tr := newTree(t, 2, 40, 1<<20)
				b, archive := start(t, tr)
				steps := []struct {
					want bool
					args []string
				}{
					{preset.info, []string{"repo-info"}},
					{preset.create, []string{"create", "more", tr.dir}},
					{preset.repoList, []string{"repo-list"}},
					{preset.list, []string{"list", "aid:" + archive}},
					{preset.extract, []string{"extract", "--dry-run", "aid:" + archive}},
					{preset.check, []string{"check"}},
					{preset.delete, []string{"delete", "aid:" + archive}},
					{preset.prune, []string{"prune", "--keep", "1"}},
					{preset.compact, []string{"compact", "--threshold", "0"}},
					{preset.repoDelete, []string{"repo-delete"}},
				}
				for _, step := range steps {
					out, code := b.try(step.args...)
					if got := code == 0; got != step.want {
						t.Errorf("borg %s: worked %v (exit code %d), want %v\n%s",
							strings.Join(step.args, " "), got, code, step.want, lastLines(out, 15))
					}
				}
			})
		}
	}
}

// prepare makes a repository with two archives and one that is deleted but not compacted away, and returns
// the ID of the first.
func prepare(b *borg, tr *tree) string {
	b.t.Helper()
	b.run("repo-create", "--encryption", "aes256-ocb")
	for range 2 {
		b.run("create", "story", tr.dir)
		tr.change(0, 3)
	}
	id := b.archives()[0]
	tr.change(1, 3)
	b.run("create", "gone", tr.dir)
	b.run("delete", "-a", "gone")
	return id
}

// with is a client with the same caches and another variable.
func (b *borg) with(variable string) *borg {
	return &borg{t: b.t, program: b.program, env: append(append([]string(nil), b.env...), variable)}
}
