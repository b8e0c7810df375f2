package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"
)

// TestStates is the table of docs/trouble.md: what clients of both dialects are told of an item that is good, one whose
// file is gone, and one whose bytes are known to be wrong.
func TestStates(t *testing.T) {
	top := tempDir(t)
	plain := &statesServer{data: filepath.Join(top, "plain")}
	plain.running = startServer(t, top, "--data-dir", plain.data, "--quota", "1M")
	strict := &statesServer{data: filepath.Join(top, "strict")}
	strict.running = startServer(t, top, "--data-dir", strict.data, "--append-only")

	// Per operation what is answered for a good, a missing and a damaged item.
	tables := map[string]struct {
		make func(s *statesServer, name, content string) stateItem
		rows []stateRow
	}{
		"borgstore": {borgItem, []stateRow{
			{"GET", plain, func(i stateItem) string { return i.call("GET", i.key, "", nil) }, "200 right", "404", "412 salvage"},
			{"range", plain, func(i stateItem) string { return i.call("GET", i.key, "", http.Header{"Range": {"bytes=0-3"}}) }, "206", "404", "206"},
			{"range with the wrong byte", plain, func(i stateItem) string { return i.call("GET", i.key, "", i.lastBytes()) }, "206", "404", "404 salvage"},
			{"HEAD", plain, func(i stateItem) string { return i.call("HEAD", i.key, "", nil) }, "200", "404", "200"},
			{"listing", plain, stateItem.listed, "listed", "not listed", "listed"},
			{"hash", plain, borgHash, "200 right", "404", "200 wrong"},
			{"plan", plain, stateItem.defrag, "200", "404", "200"},
			{"plan with the wrong byte", plain, func(i stateItem) string { return i.last().defrag() }, "200", "404", "416 salvage"},
			{"gather", plain, stateItem.gather, "200", "404", "200"},
			{"gather with the wrong byte", plain, func(i stateItem) string { return i.last().gather() }, "200", "404", "412 salvage"},
			{"PUT same", plain, func(i stateItem) string { return i.call("POST", i.key, i.body, nil) + i.after() }, "200, then 200 right, counted", "200, then 200 right, counted", "200, then 200 right, counted"},
			{"PUT other", plain, func(i stateItem) string { return i.call("POST", i.key, "other", nil) + i.after() }, "200, then 200, counted", "200, then 200, counted", "200, then 200, counted"},
			{"PUT same without W", strict, func(i stateItem) string { return i.call("POST", i.key, i.body, nil) + i.after() }, "200, then 200 right, counted", "200, then 200 right, counted", "200, then 200 right, counted"},
			{"PUT other without W", strict, func(i stateItem) string { return i.call("POST", i.key, "other", nil) + i.after() }, "403, then 200 right, counted", "403, then 404, not counted", "403, then 412 salvage, counted"},
			{"delete", plain, func(i stateItem) string { return i.call("DELETE", i.key, "", nil) + i.after() }, "200, then 404, not counted", "200, then 404, not counted", "200, then 404, not counted"},
			{"quota", plain, stateItem.counted, "counted", "not counted", "counted"},
		}},
		"vger": {vgerItem, []stateRow{
			{"GET", plain, func(i stateItem) string { return i.call("GET", i.key, "", nil) }, "200 right", "404", "422 salvage"},
			{"range", plain, func(i stateItem) string { return i.call("GET", i.key, "", http.Header{"Range": {"bytes=0-3"}}) }, "206", "404", "206"},
			{"range with the wrong byte", plain, func(i stateItem) string { return i.call("GET", i.key, "", i.lastBytes()) }, "206", "404", "422 salvage"},
			{"HEAD", plain, func(i stateItem) string { return i.call("HEAD", i.key, "", nil) }, "200", "404", "200"},
			{"listing", plain, stateItem.listed, "listed", "not listed", "listed"},
			{"verify-packs", plain, vgerVerify, "200 right", "200 no such pack", "200 damaged"},
			{"plan", plain, vgerRepack, "200", "409 no such pack", "409 damaged"},
			{"PUT same", plain, func(i stateItem) string { return i.call("PUT", i.key, i.body, nil) + i.after() }, "204, then 200 right, counted", "204, then 200 right, counted", "204, then 200 right, counted"},
			{"PUT other", plain, func(i stateItem) string { return i.call("PUT", i.key, "other", nil) + i.after() }, "400, then 200 right, counted", "400, then 404, not counted", "400, then 422 salvage, counted"},
			{"PUT same without W", strict, func(i stateItem) string { return i.call("PUT", i.key, i.body, nil) + i.after() }, "204, then 200 right, counted", "204, then 200 right, counted", "204, then 200 right, counted"},
			{"delete", plain, func(i stateItem) string { return i.call("DELETE", i.key, "", nil) + i.after() }, "204, then 404, not counted", "204, then 404, not counted", "204, then 404, not counted"},
			{"quota", plain, stateItem.counted, "counted", "not counted", "counted"},
		}},
	}
	for dialect, table := range tables {
		for n, row := range table.rows {
			for state, want := range map[string]string{
				"good": row.good, "missing": row.missing, "damaged": row.damaged, "good-log": row.good, "damaged-log": row.damaged,
			} {
				if state == "damaged-log" && (row.name == "range" || dialect == "borgstore" && (row.name == "plan" || row.name == "gather")) {
					continue // it is checked whole: see the row below
				}
				t.Run(dialect+"/"+row.name+"/"+state, func(t *testing.T) {
					row.server.t = t
					name := fmt.Sprintf("%s-%d-%s", dialect, n, state)
					state, small := strings.CutSuffix(state, "-log")
					content := "precious " + name
					if !small {
						content += strings.Repeat(".", smallItems)
					}
					item := table.make(row.server, name, content)
					item.bring(state, small)
					if got := row.do(item); got != want {
						t.Errorf("got %q, want %q", got, want)
					}
				})
			}
		}
	}
}

// stateRow is an operation and what it gives in each state.
type stateRow struct {
	name                   string
	server                 *statesServer
	do                     func(stateItem) string
	good, missing, damaged string
}

type statesServer struct {
	*running
	t    *testing.T
	data string
}

// stateItem is the only item of a repository.
type stateItem struct {
	*statesServer
	dialect, name, key, body string
	off                      int // of what defrag and gather read
}

// call sends a request and tells the status and, where it says something, the answer.
func (i stateItem) call(method, path, body string, header http.Header) string {
	i.t.Helper()
	status, text := i.ask(method, path, body, header)
	switch {
	case text == i.body && method == "GET":
		return fmt.Sprint(status, " right")
	case strings.Contains(text, "packhouse repo salvage"):
		return fmt.Sprint(status, " salvage")
	}
	for _, says := range []string{"no such pack", "damaged"} {
		if strings.Contains(text, says) {
			return fmt.Sprint(status, " ", says)
		}
	}
	return fmt.Sprint(status)
}

func (i stateItem) ask(method, path, body string, header http.Header) (int, string) {
	i.t.Helper()
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.url+"/"+i.name+path, strings.NewReader(body))
	if err != nil {
		i.t.Fatal(err)
	}
	for name, values := range header {
		req.Header[name] = values
	}
	if i.dialect == "borgstore" {
		req.Header.Set("Accept", acceptBorgStore)
		req.SetBasicAuth("packhouse", i.token)
	} else {
		req.Header.Set("Authorization", "Bearer "+i.token)
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		i.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// bring puts the item, which lies in a file or, if it is small, in the log, into a state. That it is missing nobody is told; that
// it is damaged a scrub finds.
func (i stateItem) bring(state string, small bool) {
	i.t.Helper()
	path, at, dir := "", 0, "blobs"
	if small {
		dir = "log"
	}
	err := filepath.WalkDir(filepath.Join(i.data, i.name, dir), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if content, err := os.ReadFile(name); err == nil {
			if found := bytes.Index(content, []byte(i.body)); found >= 0 {
				path, at = name, found
			}
		}
		return nil
	})
	if err != nil || path == "" {
		i.t.Fatalf("file of the item: %q, %v", path, err)
	}
	switch state {
	case "missing":
		err = os.Remove(path)
	case "damaged":
		flip(i.t, path, int64(at+len(i.body)-1))
		if code, out, errs := runHere(i.t, "scrub", "--repo", i.name, "--wait", "-d", i.data); code != 3 {
			i.t.Fatalf("scrub: exit code %d\n%s%s", code, out, errs)
		}
	}
	if err != nil {
		i.t.Fatal(err)
	}
}

// lastBytes is the header of a request for the last bytes of the item, one of which is wrong when it is damaged.
func (i stateItem) lastBytes() http.Header {
	return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", len(i.body)-4, len(i.body)-1)}}
}

// flip inverts one byte of a file.
func flip(t testing.TB, path string, at int64) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte{^b[0]}, at); err != nil {
		t.Fatal(err)
	}
}

// counted tells whether the quota counts the item, after somebody has noticed what became of it.
func (i stateItem) counted() string {
	i.t.Helper()
	i.call("GET", i.key, "", nil)
	var r struct {
		Usage struct {
			Counted int64 `json:"bytes_counted"`
		}
	}
	_, text, errs := runHere(i.t, "repo", "info", i.name, "--json", "-d", i.data)
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		i.t.Fatal(err, text, errs)
	}
	if r.Usage.Counted == 0 {
		return "not counted"
	}
	return "counted"
}

// after tells what is there after a change.
func (i stateItem) after() string {
	i.t.Helper()
	return ", then " + i.call("GET", i.key, "", nil) + ", " + i.counted()
}

func (i stateItem) listed() string {
	i.t.Helper()
	i.call("GET", i.key, "", nil) // somebody notices
	dir, name := filepath.Split(i.key)
	query := ""
	if i.dialect == "vger" {
		dir, query = strings.TrimSuffix(dir, "/"), "?list"
	}
	status, text := i.ask("GET", dir+query, "", nil)
	if status != 200 {
		return fmt.Sprint(status)
	}
	if strings.Contains(text, name) {
		return "listed"
	}
	return "not listed"
}

func borgItem(s *statesServer, name, content string) stateItem {
	s.t.Helper()
	i := stateItem{s, "borgstore", name, "/packs/x", content, 0}
	i.want(200, "POST", "/?cmd=create", "")
	i.want(200, "POST", i.key, i.body)
	return i
}

func (i stateItem) want(status int, method, path, body string) {
	i.t.Helper()
	if got, text := i.ask(method, path, body, nil); got != status {
		i.t.Fatalf("%s %s: got %d %s, want %d", method, path, got, text, status)
	}
}

func borgHash(i stateItem) string {
	i.t.Helper()
	status, text := i.ask("POST", i.key+"?cmd=hash&algorithm=sha256", "", nil)
	sum := sha256.Sum256([]byte(i.body))
	switch {
	case status != 200:
		return fmt.Sprint(status)
	case text == hex.EncodeToString(sum[:]):
		return "200 right"
	}
	return "200 wrong"
}

// last is the item of which defrag and gather read the last bytes, one of which is wrong when it is damaged, rather than the first.
func (i stateItem) last() stateItem {
	i.off = -4
	return i
}

func (i stateItem) defrag() string {
	i.t.Helper()
	return i.call("POST", "/?cmd=defrag&algorithm=sha256&namespace=packs", fmt.Sprintf(`[["packs/x",%d,4]]`, i.off), nil)
}

func (i stateItem) gather() string {
	i.t.Helper()
	return i.call("POST", "/?cmd=gather", fmt.Sprintf(`[["packs/x",%d,4]]`, i.off), nil)
}

func vgerItem(s *statesServer, name, content string) stateItem {
	s.t.Helper()
	pack := append([]byte("VGERPACK\x01"), binary.LittleEndian.AppendUint32(nil, uint32(len(content)))...)
	pack = append(pack, content...)
	sum := blake2b.Sum256(pack)
	digest := hex.EncodeToString(sum[:])
	i := stateItem{s, "vger", name, "/packs/" + digest[:2] + "/" + digest, string(pack), 0}
	i.want(201, "POST", "?init", "")
	i.want(201, "PUT", i.key, i.body)
	return i
}

func vgerVerify(i stateItem) string {
	i.t.Helper()
	n := len(i.body) - 13
	status, text := i.ask("POST", "?verify-packs", fmt.Sprintf(
		`{"packs":[{"pack_key":%q,"expected_size":%d,"expected_blobs":[{"offset":13,"length":%d}]}],"protocol_version":1}`,
		strings.TrimPrefix(i.key, "/"), len(i.body), n), nil)
	if strings.Contains(text, `"hash_valid":true,"header_valid":true,"blobs_valid":true`) {
		return fmt.Sprint(status, " right")
	}
	for _, says := range []string{"no such pack", "damaged"} {
		if strings.Contains(text, says) {
			return fmt.Sprint(status, " ", says)
		}
	}
	return fmt.Sprint(status, " ", text)
}

func vgerRepack(i stateItem) string {
	i.t.Helper()
	return i.call("POST", "?repack", fmt.Sprintf(
		`{"operations":[{"source_pack":%q,"keep_blobs":[{"offset":13,"length":%d}],"delete_after":false}],"protocol_version":1}`,
		strings.TrimPrefix(i.key, "/"), len(i.body)-13), nil)
}
