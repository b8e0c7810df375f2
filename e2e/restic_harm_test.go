//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/hex"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// itemFile is the file of an item that has one of its own, by its size.
func itemFile(t testing.TB, data, repository string, size int64) string {
	t.Helper()
	var found []string
	err := filepath.WalkDir(filepath.Join(data, repository, "blobs"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() == size {
			found = append(found, path)
		}
		return err
	})
	if err != nil || len(found) != 1 {
		t.Fatalf("files of %d bytes: %v, %v, want one", size, found, err)
	}
	return found[0]
}

// largeTags are tags that make a snapshot larger than what is stored in the log.
func largeTags() (args []string) {
	for i := range uint64(4) {
		args = append(args, "--tag", hex.EncodeToString(noise(900+i, 60_000)))
	}
	return args
}

// find chooses the file that has bytes, and where they lie in it.
func (h *harmed) find(content []byte) {
	h.t.Helper()
	err := filepath.WalkDir(h.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		body, err := os.ReadFile(path)
		if at := bytes.Index(body, content); at >= 0 {
			h.path, h.at = path, int64(at+len(content)/2)
		}
		return err
	})
	if err != nil || h.path == "" {
		h.t.Fatalf("no file has the %d bytes, %v", len(content), err)
	}
}

// TestResticLostSnapshot: when the file of a snapshot is lost on the server's disk, prune refuses and deletes nothing: without that snapshot it
// would call all packs unused that only this one refers to. The same for a snapshot of which a byte is damaged, in a file of its own or in the log.
func TestResticLostSnapshot(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		tags []string // of the snapshot that is harmed
		harm func(h *harmed)
	}{{"lost", largeTags(), (*harmed).takeAway}, {"damaged", largeTags(), (*harmed).flip}, {"damaged in the log", nil, (*harmed).flip}} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := startServer(t)
			s.harmed = true
			r := resticOn(t, s, "laptop")
			tr := newTree(t, 81, 20, 8<<20)
			first := r.backup(tr, c.tags...)
			want := map[string]picture{first: look(t, tr.dir)}
			raw := newResticHTTP(s, "laptop")
			snapshots, err := raw.list("snapshots")
			if err != nil || len(snapshots) != 1 {
				t.Fatalf("snapshots: %v, %v", snapshots, err)
			}
			tr.change(0, 2)
			want[r.backup(tr)] = look(t, tr.dir)
			before, err := raw.everything()
			if err != nil {
				t.Fatal(err)
			}
			h := &harmed{t: t, dir: filepath.Join(s.data, "laptop")}
			for name, size := range snapshots {
				if c.tags != nil {
					h.path = itemFile(t, s.data, "laptop", size)
					continue
				}
				body, err := raw.do("GET", "/snapshots/"+name, nil)
				if err != nil {
					t.Fatal(err)
				}
				h.find(body)
			}
			whole, err := os.ReadFile(h.path)
			if err != nil {
				t.Fatal(err)
			}
			c.harm(h)
			for range 2 { // before the server has noticed it, and when it has
				fresh := newRestic(t, r.program, s.url("laptop")) // has no cache
				for _, args := range [][]string{{"prune", "--max-unused", "0"}, {"check"}} {
					if out, code := fresh.try(args...); code == 0 || !strings.Contains(out, first) {
						t.Errorf("%v: exit code %d, want 1 and snapshot %s\n%s", args, code, first, lastLines(out, 20))
					}
				}
				fresh.try("forget", "--keep-last", "1", "--prune", "--max-unused", "0") // keeps the one that it can read
				if out, code := try(t, nil, packhouse(), "scrub", "--wait", "--repo", "laptop", "-d", s.data); code != 3 {
					t.Errorf("scrub: exit code %d\n%s", code, out)
				}
				s.stop()
				s.start()
			}
			after, err := raw.everything()
			if err != nil || !maps.Equal(before, after) {
				t.Errorf("%d objects are left of %d, %v", len(after), len(before), err)
			}
			for _, e := range s.requests() {
				if e.Operation == "delete" && !strings.HasPrefix(e.Key, "locks/") {
					t.Errorf("deleted: %s", e.raw)
				}
			}
			if c.tags == nil {
				h.flip()
			} else { // comes back, as from a backup of the server
				writeFile(t, h.path, string(whole), 0o600)
			}
			run(t, nil, packhouse(), "scrub", "--wait", "--repo", "laptop", "-d", s.data)
			fresh := newRestic(t, r.program, s.url("laptop"))
			fresh.run("prune", "--max-unused", "0")
			fresh.sound(want)
		})
	}
}

// TestResticVanished: a repository whose directory is taken away is no empty one for its clients, also after a restart of the server: what they ask fails, and
// nothing is deleted. It goes on when the directory is back.
func TestResticVanished(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.harmed, s.expectErrors = true, "laptop"
	r := resticOn(t, s, "laptop")
	_, _, want := resticTrees(t, r, 82, 2)
	raw := newResticHTTP(s, "laptop")
	before, err := raw.everything()
	if err != nil {
		t.Fatal(err)
	}
	home, away := filepath.Join(s.data, "laptop"), filepath.Join(s.dir, "away")
	if err := os.Rename(home, away); err != nil {
		t.Fatal(err)
	}
	for _, kill := range []func(){func() {}, s.kill, s.stop} {
		if kill(); s.cmd == nil {
			s.start()
		}
		for _, kind := range []string{"snapshots", "index", "locks", "keys", "data"} {
			list, err := raw.list(kind)
			status, ok := err.(*statusError)
			if !ok || status.status < 500 {
				t.Errorf("listing of %s of a repository that vanished: %v, %v, want a 5xx", kind, list, err)
			}
		}
	}
	// It repeats what is answered with 5xx for a quarter of an hour.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, r.program, "prune", "--max-unused", "0")
	cmd.Env = append(os.Environ(), r.env...)
	if out, err := cmd.CombinedOutput(); err == nil {
		t.Errorf("prune ends well:\n%s", out)
	}
	if err := os.Rename(away, home); err != nil {
		t.Fatal(err)
	}
	r.run("unlock", "--remove-all")
	after, err := raw.everything()
	maps.DeleteFunc(before, func(key string, _ int64) bool { return strings.HasPrefix(key, "locks/") })
	if err != nil || !maps.Equal(before, after) {
		t.Errorf("%d objects are left of %d, %v", len(after), len(before), err)
	}
	r.run("prune", "--max-unused", "0")
	r.sound(want)
}

// wholeFiles is how many files of a snapshot are what they were.
func (r *restic) wholeFiles(id string, want picture) (n int) {
	r.t.Helper()
	dir := r.t.TempDir()
	r.run("restore", id, "--target", dir)
	for name, digest := range look(r.t, filepath.Join(dir, "tree")).digests {
		if want.digests[name] == digest {
			n++
		}
	}
	return n
}

// TestResticHarmedPacks: check names a pack that is lost, and one that is damaged. What can be read is kept by restic's own means; of a damaged pack
// when the administrator has its bytes sent as they are. The next backup stores again what was given up.
func TestResticHarmedPacks(t *testing.T) {
	t.Parallel()
	s := startServer(t)
	s.harmed = true
	r := resticOn(t, s, "laptop")
	tr := newTree(t, 83, 40, 24<<20)
	r.backup(tr)
	want := look(t, tr.dir)
	raw := newResticHTTP(s, "laptop")
	packs, err := raw.list("data")
	if err != nil {
		t.Fatal(err)
	}
	bySize := slices.SortedFunc(maps.Keys(packs), func(a, b string) int { return int(packs[b] - packs[a]) })
	lost := &harmed{t: t, dir: filepath.Join(s.data, "laptop", "blobs"), path: itemFile(t, s.data, "laptop", packs[bySize[0]])}
	damaged := &harmed{t: t, dir: lost.dir, path: itemFile(t, s.data, "laptop", packs[bySize[1]])}
	names := func(pack string) {
		t.Helper()
		for range 2 { // also when the server has marked it
			out, code := r.try("check", "--read-data")
			if code != 1 || !strings.Contains(out, pack[:8]) {
				t.Errorf("check: exit code %d, want 1 and pack %s\n%s", code, pack[:8], lastLines(out, 40))
			}
		}
		if out, code := try(t, nil, packhouse(), "check", "-d", s.data); code != 3 || !strings.Contains(out, pack) {
			t.Errorf("packhouse check: exit code %d, want 3 and pack %s\n%s", code, pack, out)
		}
	}

	lost.takeAway()
	names(bySize[0])
	r.run("repair", "index")
	r.run("repair", "snapshots", "--forget")
	r.run("check", "--read-data")
	left := r.wholeFiles("latest", want)
	if left == 0 || left == len(want.digests) {
		t.Errorf("%d files of %d are whole without a pack", left, len(want.digests))
	}

	damaged.flip()
	names(bySize[1])
	if out, code := r.try("repair", "packs", bySize[1]); code == 0 {
		t.Errorf("repair packs of a pack that is not served: exit code 0\n%s", lastLines(out, 20))
	}
	run(t, nil, packhouse(), "repo", "salvage", "laptop", "--for", "1h", "-d", s.data)
	r.run("repair", "packs", bySize[1])
	r.run("repair", "snapshots", "--forget")
	r.run("check", "--read-data")
	if now := r.wholeFiles("latest", want); now < left-1 {
		t.Errorf("%d files are whole after the repair of a pack with one wrong byte, %d were before", now, left)
	}

	id := r.backup(tr, "--force")
	r.sound(map[string]picture{id: want})
	s.onlyStatuses(200, 206, 403, 404)
}
