//go:build e2e

package e2e

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// harmed is a repository below whose directory packs are harmed.
type harmed struct {
	t    testing.TB
	dir  string
	path string // of the pack
	at   int64  // of the byte in it that flip inverts; 0: that in the middle
}

// pick chooses a pack with data of several files: the largest.
func (h *harmed) pick() {
	h.t.Helper()
	most := int64(0)
	err := filepath.WalkDir(h.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		info, err := entry.Info()
		if err == nil && info.Size() > most {
			most, h.path = info.Size(), path
		}
		return err
	})
	if err != nil || most < 500_000 {
		h.t.Fatalf("no pack: %d bytes, %v", most, err)
	}
}

func (h *harmed) move(from, to string) {
	h.t.Helper()
	if err := os.Rename(from, to); err != nil {
		h.t.Fatal(err)
	}
}

func (h *harmed) aside() string { return filepath.Join(filepath.Dir(filepath.Dir(h.dir)), "aside") }
func (h *harmed) takeAway()     { h.t.Helper(); h.move(h.path, h.aside()) }
func (h *harmed) bringBack()    { h.t.Helper(); h.move(h.aside(), h.path) }

// flip inverts a byte of the file, which stays the same one.
func (h *harmed) flip() {
	h.t.Helper()
	f, err := os.OpenFile(h.path, os.O_RDWR, 0)
	if err != nil {
		h.t.Fatal(err)
	}
	defer f.Close()
	at := h.at
	if at == 0 {
		info, err := f.Stat()
		if err != nil {
			h.t.Fatal(err)
		}
		at = info.Size() / 2
	}
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		h.t.Fatal(err)
	}
	b[0] ^= 0xff
	if _, err := f.WriteAt(b, at); err != nil {
		h.t.Fatal(err)
	}
}

// whole extracts an archive and counts the files that are what they were.
func (b *borg) whole(name string, want picture) (n, code int, out string) {
	b.t.Helper()
	dir := b.t.TempDir()
	out, code = try(b.t, append(b.env, "BORG="+b.program), "sh", "-c", "cd '"+dir+`' && "$BORG" extract `+name)
	for file, digest := range look(b.t, dir).digests {
		if want.digests[strings.TrimPrefix(file, "tree/")] == digest {
			n++
		}
	}
	return n, code, out
}

// lostPackStory is what happens to a client whose repository loses a pack, gets it back, and loses it for good. told is
// called when somebody has looked after the repository, with whether a pack is missing.
func lostPackStory(t *testing.T, b *borg, h *harmed, told func(lost bool)) (transcript []string) {
	note := func(step string, code int) { transcript = append(transcript, fmt.Sprint(step, " ", code)) }
	tr := newTree(t, 31, 60, 12<<20)
	want := look(t, tr.dir)
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.in(filepath.Dir(tr.dir), `"$BORG" create before tree`)
	h.pick()
	h.takeAway()
	told(true)
	_, code := b.try("check")
	note("check of the loss", code)
	h.bringBack()
	told(false)
	_, code = b.try("check")
	note("check after it came back", code)
	n, code, _ := b.whole("before", want)
	note(fmt.Sprint("extract ", n, " of ", len(want.digests)), code)
	h.takeAway()
	told(true)
	n, code, _ = b.whole("before", want)
	note("extract of what is left", code)
	if n == 0 || n == len(want.digests) {
		t.Errorf("%d of %d files are whole without a pack", n, len(want.digests))
	}
	out, code := b.try("check", "--repair")
	note("repair", code)
	if strings.Contains(out, "Traceback") {
		t.Errorf("repair:\n%s", lastLines(out, 30))
	}
	left, code, _ := b.whole("before", want)
	note("extract after the repair", code)
	if left != n {
		t.Errorf("%d files are whole after the repair, %d were before", left, n)
	}
	// The next backup stores again what was lost.
	b.in(filepath.Dir(tr.dir), `"$BORG" create after tree`)
	n, code, _ = b.whole("after", want)
	note(fmt.Sprint("next backup, extract ", n), code)
	return transcript
}

// TestBorgLostPack: a client fares as it does on a plain directory that loses the same pack, and the server says what is lost.
func TestBorgLostPack(t *testing.T) {
	t.Parallel()
	size := "BORG_PACK_MAX_SIZE=1000000"
	yes := "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES"
	plain := t.TempDir()
	want := lostPackStory(t, newBorg(t, filepath.Join(plain, "repository"), size, yes),
		&harmed{t: t, dir: filepath.Join(plain, "repository", "packs")}, func(bool) {})
	s := startServer(t)
	s.harmed = true
	check := func(lost bool) {
		t.Helper()
		out, code := try(t, nil, packhouse(), "check", "laptop", "-d", s.data)
		if lost && (code != 3 || !strings.Contains(out, ": its file is missing")) || !lost && code != 0 {
			t.Errorf("packhouse check, lost %v: exit code %d\n%s", lost, code, out)
		}
	}
	got := lostPackStory(t, newBorg(t, s.url("laptop"), size, yes), &harmed{t: t, dir: filepath.Join(s.data, "laptop", "blobs")}, check)
	t.Logf("%q", got)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q, want as on a plain directory\n%q", got, want)
	}
	s.onlyStatuses(200, 206, 404)
}

// flippedByteStory is what happens to a client with a flipped byte in a pack.
func flippedByteStory(t *testing.T, b *borg, h *harmed, harmed func(), salvage func()) (transcript []string) {
	note := func(step string, code int) { transcript = append(transcript, fmt.Sprint(step, " ", code)) }
	tr := newTree(t, 32, 60, 12<<20)
	want := look(t, tr.dir)
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.in(filepath.Dir(tr.dir), `"$BORG" create before tree`)
	h.pick()
	h.flip()
	harmed()
	_, code := b.try("check")
	note("check", code)
	salvage()
	_, code = b.try("check", "--repair", "--verify-data")
	note("repair", code)
	n, code, _ := b.whole("before", want)
	note(fmt.Sprint("extract ", n, " of ", len(want.digests)), code)
	return transcript
}

// TestBorgFlippedByte: damage does not make a client do harm; with salvage its own repair keeps what it keeps on a plain directory.
func TestBorgFlippedByte(t *testing.T) {
	t.Parallel()
	size := "BORG_PACK_MAX_SIZE=1000000"
	yes := "BORG_CHECK_I_KNOW_WHAT_I_AM_DOING=YES"
	plain := t.TempDir()
	nothing := func() {}
	want := flippedByteStory(t, newBorg(t, filepath.Join(plain, "repository"), size, yes),
		&harmed{t: t, dir: filepath.Join(plain, "repository", "packs")}, nothing, nothing)
	s := startServer(t)
	s.harmed = true
	b := newBorg(t, s.url("laptop"), size, yes)
	scrub := func() {
		if out, code := try(t, nil, packhouse(), "scrub", "--wait", "--repo", "laptop", "-d", s.data); code != 3 {
			t.Errorf("scrub: exit code %d\n%s", code, out)
		}
	}
	salvage := func() {
		// Without it nothing is served that is wrong, and nothing is given up: chunks that touch the wrong bytes are missing,
		// the others are verified, and the pack stays. Who wants all of the pack is told what helps.
		out, code := b.try("check", "--repair", "--verify-data")
		if code != 0 || !strings.Contains(out, "1 integrity errors") {
			t.Errorf("repair without salvage: exit code %d\n%s", code, lastLines(out, 20))
		}
		if _, code, out := b.whole("before", picture{}); code == 0 || !strings.Contains(out, "packhouse repo salvage") {
			t.Errorf("extract without salvage: exit code %d\n%s", code, lastLines(out, 20))
		}
		for _, r := range s.requests() {
			if r.Operation == "delete" && strings.HasPrefix(r.Key, "packs/") {
				t.Errorf("repair without salvage removed %s", r.Key)
			}
		}
		if out, code := try(t, nil, packhouse(), "check", "-d", s.data); code != 3 || !strings.Contains(out, "stored bytes are damaged") {
			t.Errorf("packhouse check: exit code %d\n%s", code, out)
		}
		run(t, nil, packhouse(), "repo", "salvage", "laptop", "--for", "1h", "-d", s.data)
	}
	got := flippedByteStory(t, b, &harmed{t: t, dir: filepath.Join(s.data, "laptop", "blobs")}, scrub, salvage)
	t.Logf("%q", got)
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got\n%q, want as on a plain directory\n%q", got, want)
	}
	// The damaged pack was deleted when its right chunks had been copied.
	run(t, nil, packhouse(), "check", "--verify", "-d", s.data)
	s.onlyStatuses(200, 202, 206, 404, 412)
}

// TestVykarLostPack: a check finds a lost pack at once, and repairs the repository.
func TestVykarLostPack(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := startServer(t)
	s.harmed = true
	tr := newTree(t, 33, 60, 12<<20)
	v := newVykar(t, program, "http://"+s.addr+"/laptop", tr.dir)
	v.run("init")
	v.run("backup")
	h := &harmed{t: t, dir: filepath.Join(s.data, "laptop", "blobs")}
	h.pick()
	h.takeAway()
	began := time.Now()
	if out, code := v.try("check"); code == 0 || !strings.Contains(out, "no such pack") {
		t.Errorf("check of the loss: exit code %d\n%s", code, lastLines(out, 20))
	}
	h.bringBack()
	v.run("check")
	h.takeAway()
	if out, code := v.try("check", "--repair", "--yes"); code != 0 {
		t.Errorf("repair: exit code %d\n%s", code, lastLines(out, 30))
	}
	v.run("check")
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("four checks took %v: something was repeated", took)
	}
	for _, r := range s.requests() {
		if r.Status >= 500 {
			t.Errorf("the server answered %s", r.raw)
		}
	}
	v.run("backup")
	v.run("check", "--verify-data")
}

// TestVykarFlippedByte: reads of a damaged pack fail at once, and nothing is struck by mistake; with salvage its own
// repair keeps all chunks but the damaged one.
func TestVykarFlippedByte(t *testing.T) {
	t.Parallel()
	program := vykarProgram(t)
	s := startServer(t)
	s.harmed = true
	tr := newTree(t, 34, 60, 12<<20)
	v := newVykar(t, program, "http://"+s.addr+"/laptop", tr.dir)
	v.run("init")
	v.run("backup")
	h := &harmed{t: t, dir: filepath.Join(s.data, "laptop", "blobs")}
	h.pick()
	h.flip()
	if out, code := try(t, nil, packhouse(), "check", "--verify", "-d", s.data); code != 3 {
		t.Errorf("packhouse check --verify: exit code %d\n%s", code, out)
	}
	began := time.Now()
	out, code := v.try("check", "--verify-data")
	if code == 0 || !strings.Contains(out, "damaged") {
		t.Errorf("check: exit code %d\n%s", code, lastLines(out, 20))
	}
	if out, code = v.try("check", "--verify-data", "--distrust-server"); code == 0 || !strings.Contains(out, "HTTP 422") {
		t.Errorf("check by the client: exit code %d\n%s", code, lastLines(out, 20))
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("two checks took %v: something was repeated", took)
	}
	run(t, nil, packhouse(), "repo", "salvage", "laptop", "--for", "1h", "-d", s.data)
	out, code = v.try("check", "--repair", "--verify-data", "--yes")
	if code != 0 {
		t.Errorf("repair: exit code %d\n%s", code, lastLines(out, 30))
	}
	t.Log(lastLines(out, 12))
	v.run("backup")
	v.run("check", "--verify-data")
	for _, r := range s.requests() {
		if r.Status >= 500 {
			t.Errorf("the server answered %s", r.raw)
		}
	}
}
