package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"packhouse/repo/layout"
)

// changePages lets fn change the pages of an index in place. fn tells whether it changed the page.
func changePages(t *testing.T, path string, fn func(n int, page []byte) bool) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	page, changed := make([]byte, os.Getpagesize()), 0
	for n := 0; ; n++ {
		if _, err := f.ReadAt(page, int64(n*len(page))); err != nil {
			break
		}
		if fn(n, page) {
			changed++
			if _, err := f.WriteAt(page, int64(n*len(page))); err != nil {
				t.Fatal(err)
			}
		}
	}
	if changed == 0 {
		t.Fatal("no page was changed")
	}
}

// TestDamagedIndex: a server has a repository whose index is damaged in one of several ways, when it starts or while it runs. It
// lives on, other repositories do not notice, the damaged one says what mends it, check ends with exit code 3, health and
// metrics show it, and SIGTERM ends the server.
func TestDamagedIndex(t *testing.T) {
	name := func(i int) string { return fmt.Sprintf("packs/%02d%s", i, strings.Repeat("x", 60)) }
	circle := func(n int, page []byte) bool { // each branch is its own child
		branch := page[8] == 1 && page[9] == 0
		if branch {
			for i := range int(binary.NativeEndian.Uint16(page[10:])) {
				binary.NativeEndian.PutUint64(page[16+16*i+8:], uint64(n))
			}
		}
		return branch
	}
	for _, c := range []struct {
		name    string
		running bool // the server is, when the damage happens
		change  func(n int, page []byte) bool
		cut     bool // the file is cut to nothing
		get     int  // status of an item of the damaged repository, in a page that is not
		check   string
	}{
		{"a branch is its own child", false, circle, false, 500, `bucket items: index is damaged: page \d+: it is below itself`},
		{"both meta pages are zero", false, func(n int, page []byte) bool { clear(page); return n < 2 }, false, 500, "not a database file"},
		{"a branch becomes its own child", true, circle, false, 500, "it is below itself"},
		{"a leaf becomes zero", true, func(n int, page []byte) bool {
			has := bytes.Contains(page, []byte(strings.ReplaceAll(name(30), "/", "\x00")))
			if has {
				clear(page)
			}
			return has
		}, false, 200, `bucket items: index is damaged: page \d+: `},
		{"both meta pages become zero", true, func(n int, page []byte) bool { clear(page); return n < 2 }, false, 200, "page 0"},
		{"it is cut to nothing", true, nil, true, 500, "page 0|the file is empty"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			top := tempDir(t)
			data := filepath.Join(top, "data")
			s := startServer(t, top, "--data-dir", data)
			for _, r := range []string{"sound", "bad"} {
				s.expect(t, http.StatusOK, "POST", "/"+r+"/?cmd=create", "")
				for i := range 60 {
					s.expect(t, http.StatusOK, "POST", "/"+r+"/"+name(i), "content")
				}
			}
			path := filepath.Join(data, "bad", layout.IndexFile)
			if !c.running {
				if code := s.stop(t, syscall.SIGTERM); code != 0 {
					t.Fatalf("exit code of the server: %d", code)
				}
			} else {
				await(t, "the rows to be in the file", func() bool {
					return strings.Contains(page(t, s, "/metrics"), `packhouse_repository_log_pending_rows{repository="bad"} 0`)
				})
			}
			if c.cut {
				if err := os.Truncate(path, 0); err != nil {
					t.Fatal(err)
				}
			} else {
				changePages(t, path, c.change)
			}
			if !c.running {
				s = startServer(t, top, "--data-dir", data)
			}
			quick := func(what string, do func()) {
				t.Helper()
				begin := time.Now()
				if do(); time.Since(begin) > 10*time.Second {
					t.Errorf("%s took %v", what, time.Since(begin))
				}
			}
			quick("requests", func() {
				for range 20 {
					status, text := s.do(t, "GET", "/bad/"+name(30), "")
					if status != 500 && c.get == 500 || status == 500 && !strings.Contains(text, "packhouse repo rebuild bad --replace builds a new one") {
						t.Fatalf("GET of what is damaged: got %d %q", status, text)
					}
					if status, text := s.do(t, "GET", "/bad/"+name(1), ""); status != c.get {
						t.Fatalf("GET of something else: got %d %q, want %d", status, text, c.get)
					}
					// Where all rows can be read, the log takes it.
					if status, text := s.do(t, "POST", "/bad/"+name(30), "other"); (status < 500) != strings.HasPrefix(c.name, "both meta pages become") {
						t.Fatalf("POST: got %d %q", status, text)
					}
				}
				stored := 0 // where the row of its reference falls is up to chance
				for i := range 20 {
					if status, _ := s.do(t, "POST", fmt.Sprintf("/bad/packs/new%d", i), "content"); status == http.StatusOK {
						stored++
					}
				}
				if some := c.get == http.StatusOK; some != (stored > 0) {
					t.Errorf("%d other items were stored", stored)
				}
				s.expect(t, http.StatusOK, "GET", "/sound/"+name(30), "")
				s.expect(t, http.StatusOK, "POST", "/sound/packs/new", "content")
			})
			// The log hides from writers what is wrong with the file, until the next checkpoint.
			await(t, "health to show it", func() bool { return strings.Contains(page(t, s, "/health"), `"status":"degraded"`) })
			for _, want := range []string{`"status":"degraded"`, `"reason":"`, "packhouse check"} {
				if text := page(t, s, "/health"); !strings.Contains(text, want) {
					t.Errorf("health: got %s, want %s", text, want)
				}
			}
			metrics := page(t, s, "/metrics")
			if !strings.Contains(metrics, `packhouse_repository_usable{repository="bad"} 0`) && !strings.Contains(metrics, `packhouse_repository_index_damaged{repository="bad"} 1`) ||
				!strings.Contains(metrics, `packhouse_repository_usable{repository="sound"} 1`) || !strings.Contains(metrics, `packhouse_repository_index_damaged{repository="sound"} 0`) {
				t.Errorf("metrics do not show it:\n%s", metrics)
			}
			check := func() {
				t.Helper()
				quick("check", func() {
					code, out, errs := runHere(t, "check", "-d", data)
					if code != exitFound || !match(`(?s)bad: .*`+c.check, out) || !match(`packhouse repo rebuild bad --replace builds a new (one|index)`, out) ||
						!match(`(?m)^sound: 61 items in the index, 0 problems$`, out) || strings.Contains(out+errs, data) {
						t.Errorf("check: got exit code %d\n%s%s", code, out, errs)
					}
				})
			}
			check()
			quick("SIGTERM", func() {
				if code := s.stop(t, syscall.SIGTERM); code != 0 {
					t.Errorf("exit code of the server: %d\n%s", code, s.errs)
				}
			})
			if text := s.errs.String(); strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
				t.Errorf("the server's log:\n%s", text)
			}
			check() // without a server
			if code, out, errs := runHere(t, "repo", "rebuild", "bad", "--replace", "-d", data); code != 0 {
				t.Errorf("rebuild: exit code %d\n%s%s", code, out, errs)
			}
			if code, out, errs := runHere(t, "check", "--verify", "-d", data); code != 0 || !match(`(?m)^bad: [6-9]\d items in the index`, out) {
				t.Errorf("check of what was rebuilt: exit code %d\n%s%s", code, out, errs)
			}
		})
	}
}

func match(pattern, text string) bool { return regexp.MustCompile(pattern).MatchString(text) }
