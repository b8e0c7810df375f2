package vger_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/index"
)

type verified struct {
	PackKey string  `json:"pack_key"`
	Hash    bool    `json:"hash_valid"`
	Header  bool    `json:"header_valid"`
	Blobs   bool    `json:"blobs_valid"`
	Error   *string `json:"error"`
}

func verifyPack(key string, size int, blobs ...int) string {
	var list []string
	for i := 0; i < len(blobs); i += 2 {
		list = append(list, fmt.Sprintf(`{"offset":%d,"length":%d}`, blobs[i], blobs[i+1]))
	}
	return fmt.Sprintf(`{"pack_key":%q,"expected_size":%d,"expected_blobs":[%s]}`, key, size, strings.Join(list, ","))
}

func (s *server) verify(rest string, packs ...string) (results []verified, truncated bool) {
	s.t.Helper()
	r := s.want(200, s.do("POST", "/r?verify-packs", `{"packs":[`+strings.Join(packs, ",")+`]`+rest+`}`))
	var got struct {
		Results   []verified
		Truncated bool
	}
	decode(s.t, r, &got)
	if got.Results == nil {
		s.t.Errorf("results are null: %s", r.body)
	}
	return got.Results, got.Truncated
}

// TestVerifyPacks walks contract 6.1.
func TestVerifyPacks(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, body := range map[string]string{
		"S": packS, "empty": makePack(), "zero": makePack("", "a"), "trailing": packS + "x", "short": packS[:20], "no header": "VGERPACK",
		"magic": "vgerpack\x01", "version": "VGERPACK\x02", "half length": packS + "\x01\x00", "nothing": "",
	} {
		s.putPack("/r", body)
		s.put("/r/"+packKey(b3(body)), body, "X-Content-BLAKE3", b3(body))
	}
	header, boundary := ptr("invalid pack header"), ptr("blob boundary mismatch")
	for _, c := range []struct {
		name, body            string
		blobs                 []int
		headerValid, blobsFit bool
		err                   *string
	}{
		{"no expectations", packS, nil, true, true, nil},
		{"all blobs", packS, []int{13, 2, 19, 3}, true, true, nil},
		{"any order, twice", packS, []int{19, 3, 13, 2, 19, 3}, true, true, nil},
		{"one blob", packS, []int{19, 3}, true, true, nil},
		{"wrong length", packS, []int{19, 2}, true, false, boundary},
		{"wrong offset", packS, []int{14, 2}, true, false, boundary},
		{"length prefix as blob", packS, []int{9, 4}, true, false, boundary},
		{"right and wrong", packS, []int{13, 2, 13, 3}, true, false, boundary},
		{"beyond the end", packS, []int{100, 2}, true, false, boundary},
		{"beyond an int", packS, []int{math.MaxInt - 5, 2}, true, false, boundary},
		{"empty pack", makePack(), nil, true, true, nil},
		{"empty pack, blob", makePack(), []int{13, 1}, true, false, boundary},
		{"blob of no bytes", makePack("", "a"), []int{17, 1}, true, true, nil},
		{"trailing bytes", packS + "x", nil, true, false, boundary},
		{"half a length", packS + "\x01\x00", nil, true, false, boundary},
		{"overrun", packS[:20], nil, true, false, boundary},
		{"no header", "VGERPACK", nil, false, false, header},
		{"other magic", "vgerpack\x01", nil, false, false, header},
		{"other version", "VGERPACK\x02", nil, false, false, header},
		{"empty file", "", nil, false, false, header},
	} {
		for _, hash := range []struct{ rest, name string }{
			{"", b2(c.body)}, {`,"hash":"blake2b","protocol_version":1`, b2(c.body)}, {`,"hash":"blake3","protocol_version":2`, b3(c.body)},
		} {
			key := packKey(hash.name)
			got, truncated := s.verify(hash.rest, verifyPack(key, 1, c.blobs...))
			want := verified{key, true, c.headerValid, c.blobsFit, c.err}
			if len(got) != 1 || truncated || !same(got[0], want) {
				t.Errorf("%s%s: got %s, want %s", c.name, hash.rest, show(got), show([]verified{want}))
			}
		}
	}
	// A pack of the other hash is not what its name says.
	key := packKey(b3(packS))
	got, _ := s.verify("", verifyPack(key, 1))
	if want := (verified{key, false, true, true, ptr("hash mismatch: expected " + b3(packS) + ", got " + b2(packS))}); !same(got[0], want) {
		t.Errorf("got %s, want %s", show(got), show([]verified{want}))
	}
	missing := packKey(strings.Repeat("0", 64))
	got, _ = s.verify("", verifyPack(missing, 1), verifyPack("/"+packKey(b2(packS))+"/", 1))
	if want := (verified{missing, false, false, false, ptr("stat failed: no such pack")}); !same(got[0], want) {
		t.Errorf("got %s, want %s", show(got[:1]), show([]verified{want}))
	}
	if got[1].PackKey != "/"+packKey(b2(packS))+"/" || got[1].Error != nil {
		t.Errorf("got %s", show(got[1:]))
	}
	if got, _ := s.verify(""); len(got) != 0 {
		t.Errorf("no packs: got %s", show(got))
	}
}

func same(a, b verified) bool {
	return a.PackKey == b.PackKey && a.Hash == b.Hash && a.Header == b.Header && a.Blobs == b.Blobs &&
		(a.Error == nil) == (b.Error == nil) && (a.Error == nil || *a.Error == *b.Error)
}

func show(results []verified) string {
	var b strings.Builder
	for _, r := range results {
		text := "null"
		if r.Error != nil {
			text = *r.Error
		}
		fmt.Fprintf(&b, "{%s %v %v %v %s}", r.PackKey, r.Hash, r.Header, r.Blobs, text)
	}
	return b.String()
}

// TestVerifyDamage: bytes that changed on disk are seen, with the cheap proof and without it, and if nothing is checked while
// it is read, by their digest.
func TestVerifyDamage(t *testing.T) {
	t.Parallel()
	for _, unchecked := range []bool{false, true} {
		dir := t.TempDir()
		s := newServer(t, func(c *setup) { c.set.Dir, c.set.Unchecked = dir, unchecked })
		body := makePack(strings.Repeat("data", 1000))
		a := s.putPack("/r", body)
		s.put("/r/"+packKey(b3(body)), body, "X-Content-BLAKE3", b3(body))
		damage(t, dir, "datadatadata", "dat\x00datadata")
		damaged := strings.Replace(body, "datadatadata", "dat\x00datadata", 1)
		for _, c := range []struct{ key, rest, got string }{
			{a, "", b2(damaged)}, {packKey(b3(body)), `,"hash":"blake3","protocol_version":2`, b3(damaged)},
		} {
			got, _ := s.verify(c.rest, verifyPack(c.key, 1))
			want := verified{c.key, false, true, true, ptr("hash mismatch: expected " + c.key[9:] + ", got " + c.got)}
			if !unchecked {
				want = verified{c.key, false, false, false, ptr("read failed: the stored bytes are damaged")}
			}
			if !same(got[0], want) {
				t.Errorf("unchecked %v: got %s, want %s", unchecked, show(got), show([]verified{want}))
			}
		}
	}
}

// damage replaces the first occurrence of old in every blob file below dir.
func damage(t *testing.T, dir, old, replacement string) {
	t.Helper()
	count := 0
	err := filepath.WalkDir(filepath.Join(dir, "r", "blobs"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil || !bytes.Contains(text, []byte(old)) {
			return err
		}
		count++
		return os.WriteFile(path, bytes.Replace(text, []byte(old), []byte(replacement), 1), 0o600)
	})
	if err != nil || count == 0 {
		t.Fatalf("damaged %d files: %v", count, err)
	}
}

// TestVerifyRefusals: the limits of a request, before any file is opened.
func TestVerifyRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) { c.dialect.Limits.VerifyPacks, c.dialect.Limits.VerifyBytes = 3, 100 })
	key := s.putPack("/r", packS)
	ok := verifyPack(key, 1)
	for _, c := range []struct {
		name, body string
		status     int
		text       string
	}{
		{"no JSON", "[", 400, "invalid verify-packs plan: expected an object"},
		{"no packs", "{}", 400, "invalid verify-packs plan: missing field `packs`"},
		{"no blobs", `{"packs":[{"pack_key":"x"}]}`, 400, "missing field `expected_blobs`"},
		{"no key", `{"packs":[{"expected_blobs":[]}]}`, 400, "missing field `pack_key`"},
		{"size twice", `{"packs":[{"pack_key":"` + key + `","expected_size":1,"expected_size":1,"expected_blobs":[]}]}`, 400, "duplicate field `expected_size`"},
		{"hash", `{"packs":[],"hash":"md5"}`, 400, "invalid verify-packs plan: unknown variant `md5`"},
		{"version", `{"packs":[],"protocol_version":3}`, 400, "protocol version 3 not supported; server supports <= 2"},
		{"pairing", `{"packs":[],"hash":"blake3"}`, 400, "hash blake3 requires protocol version >= 2, but the request declared 0"},
		{"too many", `{"packs":[` + strings.Join([]string{ok, ok, ok, ok}, ",") + `]}`, 400, "too many packs to verify: 4 (max 3)"},
		{"key form", `{"packs":[` + ok + `,` + verifyPack("packs/xx", 1) + `]}`, 400, "invalid pack_key at pack 1: packs/xx"},
		{"no size", `{"packs":[{"pack_key":"` + key + `","expected_blobs":[]}]}`, 400, "expected_size must be > 0 at pack 0"},
		{"blob length", `{"packs":[` + verifyPack(key, 1, 13, 2, 19, 0) + `]}`, 400, "blob length must be > 0 at pack 0 blob 1"},
		{"volume", `{"packs":[` + verifyPack(key, 60) + `,` + verifyPack(key, 41) + `]}`, 400, "estimated verify I/O too large: 101 bytes (max 100)"},
		{"volume beyond 64 bits", `{"packs":[` + strings.Replace(verifyPack(key, 7777)+","+verifyPack(key, 2), "7777", "18446744073709551615", 1) + `]}`, 400, "estimated verify I/O too large"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.do("POST", "/r?verify-packs", c.body)
			if r.status != c.status || !strings.Contains(r.body, c.text) {
				t.Errorf("got %d %q, want %d %q", r.status, r.body, c.status, c.text)
			}
		})
	}
	s.want(404, s.do("POST", "/q?verify-packs", `{"packs":[]}`))
}

// TestVerifyTruncation: results are the first packs of the request, in its order, by their real sizes.
func TestVerifyTruncation(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) { c.dialect.Limits.VerifyBytes = 100 })
	var keys, packs []string
	for i := range 7 {
		body := makePack(fmt.Sprintf("%06d", i)) // 19 bytes
		keys = append(keys, s.putPack("/r", body))
		packs = append(packs, verifyPack(keys[i], 1))
	}
	got, truncated := s.verify("", packs...)
	if !truncated || len(got) != 5 {
		t.Fatalf("got %d results, truncated %v", len(got), truncated)
	}
	for i, r := range got {
		if r.PackKey != keys[i] || r.Error != nil {
			t.Errorf("result %d: got %s", i, show(got[i:i+1]))
		}
	}
	if got, truncated := s.verify("", packs[:5]...); truncated || len(got) != 5 {
		t.Errorf("exactly the limit: got %d results, truncated %v", len(got), truncated)
	}
	large := s.putPack("/r", makePack(strings.Repeat("x", 100)))
	if got, truncated := s.verify("", verifyPack(large, 1), packs[0]); !truncated || len(got) != 0 {
		t.Errorf("one that is too large: got %s, truncated %v", show(got), truncated)
	}
}

// watchedFS knows how many files are open for reading at once.
type watchedFS struct {
	vfs.FS
	open, most *atomic.Int64
	takes      time.Duration // to open a file
}

func (w watchedFS) Open(name string) (vfs.File, error) {
	f, err := w.FS.Open(name)
	if err != nil {
		return nil, err
	}
	n := w.open.Add(1)
	for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
	}
	time.Sleep(w.takes)
	return watchedFile{f, w.open}, nil
}

type watchedFile struct {
	vfs.File
	open *atomic.Int64
}

func (w watchedFile) Close() error {
	w.open.Add(-1)
	return w.File.Close()
}

// TestReadersAreBounded: all verifications of all clients together read only so many packs at once.
func TestReadersAreBounded(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int64
	s := newServer(t, func(c *setup) {
		c.set.FS = watchedFS{unsynced{vfs.OS()}, &open, &most, 100 * time.Microsecond} // long enough to be met by others
		c.set.Index.FS = unsynced{vfs.OS()}                                            // the log is open all the time
		c.dialect.Readers = 3
	})
	var packs []string
	for i := range 40 {
		packs = append(packs, verifyPack(s.putPack("/r", makePack(fmt.Sprintf("%06d", i))), 1))
	}
	most.Store(0)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() { s.verify("", packs...) })
		wg.Go(func() { s.want(200, s.do("GET", "/r?verify-structure", "")) })
	}
	wg.Wait()
	if got := most.Load(); got != 3 {
		t.Errorf("%d packs were read at once, want 3", got)
	}
}

// TestVerifySlowly: verifications that take long begin their answer early, with white space, and stay one JSON text.
func TestVerifySlowly(t *testing.T) {
	t.Parallel()
	var open, most atomic.Int64
	s := newServer(t, func(c *setup) {
		c.set.FS = watchedFS{unsynced{vfs.OS()}, &open, &most, 20 * time.Millisecond}
		c.dialect.Readers, c.dialect.KeepAlive = 1, 5*time.Millisecond
	})
	key := s.putPack("/r", packS)
	for _, r := range []reply{
		s.do("POST", "/r?verify-packs", `{"packs":[`+verifyPack(key, 1)+`]}`),
		s.do("GET", "/r?verify-structure", ""),
	} {
		if r.status != 200 || !strings.HasPrefix(r.body, " ") || r.header.Get("Content-Length") != "" || !json.Valid([]byte(r.body)) {
			t.Errorf("got %d %q %v", r.status, r.body, r.header)
		}
	}
}

// TestVerifyStructure walks contract 6.2.
func TestVerifyStructure(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 7, 31, 10, 0, 0, 0, time.UTC)
	s := newServer(t, func(c *setup) { c.set.Now = func() time.Time { return now } })
	type structure struct {
		OK         bool     `json:"ok"`
		Errors     []string `json:"errors"`
		PackCount  int64    `json:"pack_count"`
		TotalSize  int64    `json:"total_size"`
		StaleLocks int      `json:"stale_locks"`
		TempFiles  *int     `json:"temp_files"`
	}
	look := func() structure {
		t.Helper()
		var got structure
		r := s.want(200, s.do("GET", "/r?verify-structure", ""))
		if decode(t, r, &got); got.Errors == nil || got.TempFiles == nil || *got.TempFiles != 0 {
			t.Errorf("a member is missing: %s", r.body)
		}
		return got
	}
	wantErrors := func(want ...string) structure {
		t.Helper()
		got := look()
		if !slices.Equal(got.Errors, want) || got.OK != (len(want) == 0) {
			t.Errorf("got %+v, want %q", got, want)
		}
		return got
	}
	s.want(404, s.do("GET", "/r?verify-structure", ""))
	s.want(201, s.do("POST", "/r?init", ""))
	wantErrors("missing required file: config", "missing required file: index", "missing required file: keys/repokey")
	s.put("/r/config", configOf(1, "aes256gcm"))
	wantErrors("missing required file: manifest", "missing required file: index", "missing required file: keys/repokey")
	s.put("/r/config", configOf(2, "none"))
	s.put("/r/index", "x")
	wantErrors()
	good := s.putPack("/r", packS)
	a, b, c := s.putPack("/r", "VGERPACK"), s.putPack("/r", "VGERPACK\x07"), s.putPack("/r", "not a pack at all")
	var want []string
	for _, key := range sorted([]string{a, b, c}) {
		want = append(want, map[string]string{
			a: "pack too small (8 bytes): ", b: "unsupported pack version 7 (supported: 1..=1): ", c: "invalid pack magic: ",
		}[key]+key)
	}
	got := wantErrors(want...)
	if got.PackCount != 4 || got.TotalSize != 22+8+9+17 {
		t.Errorf("got %+v", got)
	}
	// What other programs put there by other ways.
	store(t, s.repository("r"), []string{"packs/zz/x", "packs/00/y"})
	want = append([]string{"invalid pack name: packs/00/y"}, want...)
	wantErrors(append(want, "invalid shard directory: packs/zz")...)
	s.put("/r/locks/"+fmt.Sprintf("%020d", now.Add(-7*time.Hour).UnixMicro())+"-x.json", "{}")
	s.put("/r/locks/"+fmt.Sprintf("%020d", now.Add(-5*time.Hour).UnixMicro())+"-x.json", "{}")
	if got := look(); got.StaleLocks != 1 {
		t.Errorf("stale locks: got %d, want 1", got.StaleLocks)
	}
	if entry, err := s.repository("r").Stat(t.Context(), good); err != nil || entry.Item.Flags&index.FlagDamaged != 0 {
		t.Errorf("a good pack: %+v, %v", entry, err)
	}
}
