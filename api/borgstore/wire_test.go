package borgstore_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/borgstore"
	"packhouse/blobstore/vfs"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

// send writes raw bytes to a connection and reads one answer.
func send(t *testing.T, conn net.Conn, raw string, method string) (*http.Response, string) {
	t.Helper()
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, raw); err != nil {
		t.Fatalf("send: %v", err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read answer: %v", err)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	return response, string(body)
}

const head = "Host: x\r\nAccept: " + mediaType + "\r\n"

// W7: an upload that is cut short stores nothing, whether or not its hash was announced.
func TestTruncatedUploadStoresNothing(t *testing.T) {
	hashed := sha256.Sum256([]byte("0123456789"))
	tests := map[string]string{
		"length":         "Content-Length: 10\r\n\r\n012",
		"length, hash":   "Content-Length: 10\r\nX-Content-hash-sha256: " + hex.EncodeToString(hashed[:]) + "\r\n\r\n012",
		"chunked":        "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n5\r\n01",
		"chunked, plain": "Transfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n",
		"bad chunk":      "Transfer-Encoding: chunked\r\n\r\nxx\r\n01234\r\n",
	}
	for name, rest := range tests {
		t.Run(name, func(t *testing.T) {
			f := start(t, options{})
			c := client{t: t, url: "http://" + f.Addr}
			c.want("POST", "/?cmd=create", "", 200, "")
			conn := f.Dial(t)
			if _, err := io.WriteString(conn, "POST /cut HTTP/1.1\r\n"+head+rest); err != nil {
				t.Fatal(err)
			}
			if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
				t.Fatal(err)
			}
			response, err := http.ReadResponse(bufio.NewReader(conn), &http.Request{Method: "POST"})
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != 400 {
				t.Errorf("got %d, want 400", response.StatusCode)
			}
			c.want("GET", "/cut", "", 404, "cut")
			c.want("POST", "/?cmd=quota", "", 200, "")
			r, err := f.Set.Get(t.Context(), "")
			if err != nil {
				t.Fatal(err)
			}
			if u := r.Usage(); u.Items != 0 || u.Reserved != 0 {
				t.Errorf("got %d items, %d bytes reserved, want none", u.Items, u.Reserved)
			}
		})
	}
}

// HTTP/1.0 has no chunks: what comes in such is not stored as an empty object.
func TestOldUploadNeedsLength(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	const old = " HTTP/1.0\r\nAccept: " + mediaType + "\r\n"
	for raw, want := range map[string]int{
		"POST /o" + old + "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n": 411,
		"POST /o" + old + "\r\n":                         411,
		"POST /p" + old + "Content-Length: 3\r\n\r\nabc": 200,
		"POST /d?cmd=mkdir" + old + "\r\n":               200,
	} {
		if response, body := send(t, f.Dial(t), raw, "POST"); response.StatusCode != want {
			t.Errorf("%q: got %d %q, want %d", raw, response.StatusCode, body, want)
		}
	}
	c.want("GET", "/o", "", 404, "o")
	c.want("GET", "/p", "", 200, "abc")
}

// Many clients at once, on their own objects and on shared ones (W1): no status but the expected ones, and what
// is read is always one of the values written.
func TestParallelClients(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	c.want("POST", "/shared", strings.Repeat("0", 5000), 200, "")
	var wait sync.WaitGroup
	for n := range 8 {
		wait.Go(func() {
			for i := range 12 {
				own := fmt.Sprintf("/packs/%02x/%d-%d", n, n, i)
				value := strings.Repeat(fmt.Sprint(n), 5000)
				c.want("POST", own, value, 200, "")
				c.want("GET", own, "", 200, value)
				c.want("POST", "/shared", value, 200, "")
				if status, got := c.do("GET", "/shared", ""); status != 200 || len(got) != 5000 || strings.Trim(got, got[:1]) != "" {
					t.Errorf("shared object: got %d, %d bytes", status, len(got))
				}
				c.want("POST", "/?cmd=move&current="+own[1:]+"&new="+own[1:]+".del", "", 200, "")
				c.want("GET", own, "", 404, "")
				c.want("GET", fmt.Sprintf("/packs/%02x/", n), "", 200, "")
				c.want("DELETE", own+".del", "", 200, "")
			}
		})
	}
	wait.Wait()
}

// What was stored comes back, whole and in parts, for sizes around those of buffers.
func TestSizes(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	random := rand.New(rand.NewSource(1))
	for _, size := range []int{1, 4095, 4096, 128<<10 - 1, 128<<10 + 1, 1 << 20, 3<<20 + 17} {
		value := make([]byte, size)
		random.Read(value)
		target := fmt.Sprintf("/o%d", size)
		c.want("POST", target, string(value), 200, "")
		c.want("GET", target, "", 200, string(value))
		r, err := http.NewRequest("GET", c.url+target, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", mediaType)
		r.Header.Set("Range", fmt.Sprintf("bytes=%d-", size/2))
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil || !bytes.Equal(body, value[size/2:]) || response.ContentLength != int64(size-size/2) {
			t.Errorf("half of %d bytes: got %d bytes, %v", size, len(body), err)
		}
	}
}

// A listing that does not fit memory has all entries: in chunks over the network, with its exact length
// on the side of stdio.
func TestLargeListing(t *testing.T) {
	const count = 9000
	f := start(t, options{dir: withDirectories(t, count, 60)})
	conn := f.Dial(t)
	response, body := send(t, conn, "GET /packs/ HTTP/1.1\r\n"+head+"\r\n", "GET")
	if response.StatusCode != 200 || response.ContentLength != -1 || len(body) < 1<<20 {
		t.Fatalf("got status %d, length %d, %d bytes", response.StatusCode, response.ContentLength, len(body))
	}
	local := httptest.NewServer(f.Server.Trusted())
	defer local.Close()
	request, err := http.NewRequest("GET", local.URL+"/packs/", nil)
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Accept", "application/vnd.x.borgstore.rest.v1")
	piped, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer piped.Body.Close()
	same, err := io.ReadAll(piped.Body)
	if err != nil || piped.ContentLength != int64(len(body)) || string(same) != body {
		t.Errorf("on the trusted side: length %d, %d bytes, %v; want %d", piped.ContentLength, len(same), err, len(body))
	}
	var entries []struct {
		Name      string
		Size      int64
		Directory bool
		Atime     float64
		Mtime     float64
	}
	if err := json.Unmarshal([]byte(body), &entries); err != nil {
		t.Fatal(err)
	}
	if len(entries) != count {
		t.Fatalf("got %d entries, want %d", len(entries), count)
	}
	for i, e := range entries {
		if e.Name != fmt.Sprintf("%060d", i) || !e.Directory || e.Size != 4096 || e.Atime <= 0 || e.Mtime <= 0 {
			t.Fatalf("entry %d is %+v", i, e)
		}
	}
	// The connection is in step.
	if response, _ := send(t, conn, "GET /none HTTP/1.1\r\n"+head+"\r\n", "GET"); response.StatusCode != 404 {
		t.Errorf("next request: got %d, want 404", response.StatusCode)
	}
}

// Requests that come in one go are answered in order, errors and their bodies included (W12, W13).
func TestPipeline(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	conn := f.Dial(t)
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 600<<10) // more than net/http reads of its own accord
	requests := []struct {
		line, rest string
		status     int
	}{
		{"HEAD /none", "\r\n", 404},
		{"POST /UPPER", "Content-Length: 6\r\n\r\nHEAD /", 400},
		{"POST /a", "Content-Length: 1\r\n\r\nx", 200},
		{"POST /a?cmd=mkdir", "Content-Length: 5\r\n\r\nhello", 400},
		{"POST /?cmd=move", fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(long), long), 400},
		{"POST /" + strings.Repeat("y", 101), fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(long), long), 400},
		{"PUT /x", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", 501},
		{"GET /a", "Content-Length: 3\r\n\r\nGET", 200},
		{"DELETE /a", "\r\n", 200},
		{"GET /a", "\r\n", 404},
	}
	go func() {
		for _, r := range requests {
			if _, err := io.WriteString(conn, r.line+" HTTP/1.1\r\n"+head+r.rest); err != nil {
				t.Errorf("send: %v", err)
			}
		}
	}()
	reader := bufio.NewReader(conn)
	for _, r := range requests {
		method, _, _ := strings.Cut(r.line, " ")
		response, err := http.ReadResponse(reader, &http.Request{Method: method})
		if err != nil {
			t.Fatalf("%.40s: %v", r.line, err)
		}
		if _, err := io.Copy(io.Discard, response.Body); err != nil {
			t.Fatalf("%.40s: %v", r.line, err)
		}
		if response.StatusCode != r.status || response.Close {
			t.Errorf("%.40s: got %d, close %v, want %d", r.line, response.StatusCode, response.Close, r.status)
		}
	}
}

// Some clients compare the names of the dialect's headers byte for byte.
func TestHeaderSpelling(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	conn := f.Dial(t)
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "HEAD / HTTP/1.1\r\n"+head+"Connection: close\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"X-BorgStore-Atime: 1795307688.331", "X-BorgStore-Mtime: 1795307688.331", "X-BorgStore-Is-Directory: true", "Content-Length: 4096"} {
		if !strings.Contains(string(raw), "\r\n"+line+"\r\n") {
			t.Errorf("got no %q in %q", line, raw)
		}
	}
}

// A client that waits for "100 Continue" is told at once when its body is not wanted.
func TestExpectContinue(t *testing.T) {
	f := start(t, options{quota: 10})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	response, body := send(t, f.Dial(t), "POST /big HTTP/1.1\r\n"+head+"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n", "POST")
	if response.StatusCode != 507 || body != "Quota exceeded: 1000 > 10" {
		t.Errorf("got %d %q", response.StatusCode, body)
	}
	conn := f.Dial(t)
	response, _ = send(t, conn, "POST /small HTTP/1.1\r\n"+head+"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n", "POST")
	if response.StatusCode != 100 {
		t.Fatalf("got %d, want 100", response.StatusCode)
	}
	if response, _ = send(t, conn, "hello", "POST"); response.StatusCode != 200 {
		t.Errorf("got %d, want 200", response.StatusCode)
	}
}

// An item larger than the server accepts is refused, announced or not.
func TestTooLarge(t *testing.T) {
	f := start(t, options{limits: api.Limits{ItemBytes: 1000}})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	big := strings.Repeat("x", 1001)
	c.want("POST", "/big", big, 413, "the object is larger than the server accepts: big")
	response, _ := send(t, f.Dial(t), "POST /big HTTP/1.1\r\n"+head+"Transfer-Encoding: chunked\r\n\r\n3e9\r\n"+big+"\r\n0\r\n\r\n", "POST")
	if response.StatusCode != 413 {
		t.Errorf("chunked: got %d, want 413", response.StatusCode)
	}
	c.want("GET", "/big", "", 404, "big")
	c.want("POST", "/fits", big[:1000], 200, "")
	c.want("POST", "/?cmd=defrag&target=big", `[["fits",0,1000],["fits",0,1]]`, 413, "")
}

// Only new archives are backups; soft deletion and all else are not.
func TestFreshness(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	r, err := f.Set.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	c.want("POST", "/packs/x", "x", 200, "")
	c.want("POST", "/config/manifest", "x", 200, "")
	c.want("POST", "/archives/x.del", "", 200, "")
	c.want("POST", "/?cmd=move&current=archives/x.del&new=archives/x", "", 200, "")
	if last := r.Usage().LastBackup; !last.IsZero() {
		t.Errorf("before a backup: got %v, want never", last)
	}
	c.want("POST", "/archives/y", "", 200, "")
	if last := r.Usage().LastBackup; !last.Equal(now) {
		t.Errorf("after a backup: got %v, want %v", last, now)
	}
}

// TestRewrittenArchiveIsNoBackup: an archive that replaces another under the same lock, as after borg tag, rename or recreate, leaves what was known of
// the last backup; so do archives that are removed and brought back.
func TestRewrittenArchiveIsNoBackup(t *testing.T) {
	clock := repotest.FixedClock(now)
	f := start(t, options{clock: clock.Now})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	r, err := f.Set.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	locks := 0
	// under runs a command under a lock of its own, a day later.
	under := func(requests ...string) {
		t.Helper()
		clock.Advance(24 * time.Hour)
		locks++
		c.want("POST", fmt.Sprintf("/locks/%d", locks), "{}", 200, "")
		for _, request := range requests {
			method, path, _ := strings.Cut(request, " ")
			c.want(method, path, "", 200, "")
		}
		c.want("DELETE", fmt.Sprintf("/locks/%d", locks), "", 200, "")
	}
	expect := func(what string, want time.Time) {
		t.Helper()
		if got := r.Usage().LastBackup; !got.Equal(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	const remove = "POST /?cmd=move&current=archives/%s&new=archives/%[1]s.del"
	under("POST /archives/a")
	backup := clock.Now()
	expect("create", backup)
	under("POST /archives/b", fmt.Sprintf(remove, "a"))
	expect("tag", backup)
	under("POST /archives/c", fmt.Sprintf(remove, "b"), "POST /archives/d", fmt.Sprintf(remove, "c"))
	expect("recreate of two", backup)
	under("POST /archives/e", "DELETE /archives/d")
	expect("a rewrite by a client that removes for good", backup)
	under("POST /archives/f")
	backup = clock.Now()
	under(fmt.Sprintf(remove, "e"))
	expect("create and prune", backup)
	under("POST /?cmd=move&current=archives/e.del&new=archives/e", "DELETE /archives/a.del")
	expect("undelete and compact", backup)
}

// A repository of another dialect is refused by name, and not created over.
func TestOtherDialect(t *testing.T) {
	f := start(t, options{many: true})
	c := client{t: t, url: "http://" + f.Addr}
	if _, err := f.Set.Create(t.Context(), "theirs", "vger"); err != nil {
		t.Fatal(err)
	}
	text := (&api.DialectError{Name: "theirs", Has: "vger", Asked: "borgstore"}).Error()
	c.want("GET", "/theirs/config/readme", "", 400, text)
	c.want("POST", "/theirs/x", "x", 400, text)
	c.want("DELETE", "/theirs/?cmd=destroy", "", 400, text)
	c.want("POST", "/theirs/?cmd=create", "", 409, "repository exists: "+text)
	if _, err := f.Set.Get(t.Context(), "theirs"); err != nil {
		t.Errorf("their repository: %v", err)
	}
}

// TestNestedURL: a store by a URL with more than a name is refused when it is created, so that it does not become keys of another one. What was
// made so by an earlier version, that is the repository of the first name, goes on.
func TestNestedURL(t *testing.T) {
	f := start(t, options{many: true})
	c := client{t: t, url: "http://" + f.Addr}
	want := func(name string) string {
		return "a repository's URL has one name, without further slashes: it should look like " + c.url + "/" + name
	}
	for path, name := range map[string]string{"/a/b/": "a-b", "/a//b/c": "a-b-c", "/a/%41/": "NAME", "/.x/b/": "NAME"} {
		c.want("POST", path+"?cmd=create", "", 400, want(name))
	}
	if names, err := f.Set.Names(); err != nil || len(names) > 0 {
		t.Errorf("there are %q, %v", names, err)
	}
	c.want("POST", "/a/?cmd=create", "", 200, "")
	c.want("POST", "/a/b/?cmd=create", "", 400, want("a-b")) // also while it is empty
	c.want("POST", "/a/b/config/id", "x", 200, "")
	c.want("GET", "/a/b/config/id", "", 200, "x")
	one := start(t, options{}) // which takes all paths
	c = client{t: t, url: "http://" + one.Addr}
	c.want("POST", "/b/?cmd=create", "", 200, "")
	c.want("POST", "/b/config/id", "x", 200, "")
}

// A gathering whose object is replaced on the way is cut: it never mixes old and new bytes.
func TestGatherReplaced(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	big := strings.Repeat("a", 8<<20)
	c.want("POST", "/a", big, 200, "")
	c.want("POST", "/b", "old", 200, "")
	conn := f.Dial(t)
	if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	sources := `[` + strings.Repeat(`["a",0,8388608],`, 8) + `["b",0,3]]`
	if _, err := fmt.Fprintf(conn, "POST /?cmd=gather HTTP/1.1\r\n%sContent-Length: %d\r\n\r\n%s", head, len(sources), sources); err != nil {
		t.Fatal(err)
	}
	reader := bufio.NewReader(conn)
	response, err := http.ReadResponse(reader, &http.Request{Method: "POST"})
	if err != nil || response.StatusCode != 200 || response.ContentLength != 8*8<<20+3 {
		t.Fatalf("got %v, %v", response, err)
	}
	// The answer does not fit the buffers of the connection: "b" is not read yet.
	c.want("POST", "/b", "new", 200, "")
	n, err := io.Copy(io.Discard, response.Body)
	if err == nil || n != 8*8<<20 {
		t.Errorf("got %d bytes, %v, want %d and a connection cut", n, err, 8*8<<20)
	}
}

// One upload and download costs no more memory when it is larger. Client and server share the process: the
// client streams, too.
func TestMemoryOfTransfers(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	transfer(t, c, 1<<20) // fills the pools
	small, large := transfer(t, c, 1<<20), transfer(t, c, 32<<20)
	if large > small+4<<20 {
		t.Errorf("1 MiB there and back allocates %d bytes, 32 MiB %d", small, large)
	}
}

// Nor do the operations on whole objects: hash, defrag and gather read them in pieces.
func TestMemoryOfOperations(t *testing.T) {
	f := start(t, options{})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	sizes := map[string]int64{"/small": 1 << 20, "/large": 48 << 20}
	for name, size := range sizes {
		r, err := http.NewRequest("POST", c.url+name, io.LimitReader(zeros{}, size))
		if err != nil {
			t.Fatal(err)
		}
		r.ContentLength = size
		exchange(t, r)
	}
	for _, operation := range []string{"%s?cmd=hash", "%s?cmd=hash&algorithm=blake3", "/?cmd=defrag&target=made", "/?cmd=gather"} {
		allocated := func(name string) uint64 {
			target, body := operation, ""
			if strings.HasPrefix(target, "%s") {
				target = fmt.Sprintf(target, name)
			} else {
				body = fmt.Sprintf(`[["%s",0,%d]]`, name[1:], sizes[name])
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := http.NewRequest("POST", c.url+target, strings.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			exchange(t, r)
			runtime.ReadMemStats(&after)
			return after.TotalAlloc - before.TotalAlloc
		}
		allocated("/small") // fills the pools
		small, large := allocated("/small"), allocated("/large")
		if large > small+8<<20 {
			t.Errorf("%s of 1 MiB allocates %d bytes, of 48 MiB %d", operation, small, large)
		}
	}
}

// exchange sends a request, which must succeed, and reads the answer in pieces.
func exchange(t *testing.T, r *http.Request) int64 {
	t.Helper()
	r.Header.Set("Accept", mediaType)
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	n, err := io.Copy(io.Discard, response.Body)
	response.Body.Close()
	if err != nil || response.StatusCode != 200 {
		t.Fatalf("%s %s: got %d, %d bytes, %v", r.Method, r.URL, response.StatusCode, n, err)
	}
	return n
}

// transfer stores and loads an object of so many bytes and returns what that allocated.
func transfer(t *testing.T, c client, size int64) uint64 {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, method := range []string{"POST", "GET"} {
		var body io.Reader
		if method == "POST" {
			body = io.LimitReader(zeros{}, size)
		}
		r, err := http.NewRequest(method, c.url+"/x", body)
		if err != nil {
			t.Fatal(err)
		}
		if method == "POST" {
			r.ContentLength = size
		}
		if n := exchange(t, r); method == "GET" && n != size {
			t.Fatalf("got %d bytes, want %d", n, size)
		}
	}
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A client that stops in the middle of a long listing holds no snapshot of the index: what commits leave behind
// meanwhile is used again, and the index does not grow for its sake.
func TestStalledListing(t *testing.T) {
	dir := withDirectories(t, 60_000, 90) // more than the buffers of a connection hold
	f := start(t, options{dir: dir})
	r, err := f.Set.Get(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	a := r.As(repo.Principal{})
	conn := f.Dial(t)
	if err := conn.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "GET /packs/ HTTP/1.1\r\n"+head+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
	before := indexSize(t, dir)
	for range 500 {
		if err := errors.Join(a.MakeDir(t.Context(), "other"), a.RemoveDir(t.Context(), "other")); err != nil {
			t.Fatal(err)
		}
	}
	if grown := indexSize(t, dir) - before; grown > 20<<20 {
		t.Errorf("the index grew by %d bytes in 1000 commits that change nothing", grown)
	}
}

// withDirectories makes a data directory that is one repository, with so many directories below packs/, whose names have digits.
func withDirectories(t *testing.T, count, digits int) (dir string) {
	t.Helper()
	var made []index.Mutation
	for i := range count {
		made = append(made, index.MakeDir{Key: fmt.Sprintf("packs/%0*d", digits, i), Now: now})
	}
	dir = t.TempDir()
	repotest.Seed(t, datadir.Options{Dir: dir, Single: true}, "", borgstore.Name, slices.Values([][]index.Mutation{made}))
	return dir
}

// indexSize is the length of the index below dir, in bytes.
func indexSize(t *testing.T, dir string) int64 {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "index*"))
	if err != nil || len(files) != 1 {
		t.Fatalf("got %d index files, %v, want one", len(files), err)
	}
	info, err := os.Stat(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return info.Size()
}

// Locks are exempt from the quota; a rename must not take that to packs.
func TestMoveCannotPassTheQuota(t *testing.T) {
	f := start(t, options{quota: 1000})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	lock := strings.Repeat("x", 60_000)
	for i := range 5 {
		c.want("POST", fmt.Sprintf("/locks/%d", i), lock, 200, "")
		c.want("POST", fmt.Sprintf("/?cmd=move&current=locks/%d&new=packs/%d", i, i), "", 507, "Quota exceeded: 60000 > 1000")
	}
	c.want("POST", "/locks/small", "held", 200, "")
	c.want("POST", "/?cmd=move&current=locks/small&new=packs/small", "", 200, "")
	c.want("POST", "/?cmd=quota", "", 200, `{"limit": 1000, "usage": 4}`)
}

// full is a file system that has so many bytes free.
type full struct {
	vfs.FS
	free *atomic.Int64
}

func (d full) Space(string) (free, total int64, err error) { return d.free.Load(), 1 << 40, nil }

// A full disk refuses a defrag before it begins, and says how much is short, to the client and in the log; the index of the
// client would have to fit after it.
func TestDefragOnFullDisk(t *testing.T) {
	free := new(atomic.Int64)
	free.Store(1 << 40)
	f := start(t, options{fs: full{vfs.OS(), free}})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	c.want("POST", "/packs/a", strings.Repeat("x", 1000), 200, "")
	c.want("POST", "/index/a", strings.Repeat("x", 4000), 200, "")
	free.Store(500 + 4096 + 5000 + 2<<20 - 77) // with one for the log
	const text = "no space left on the server: 77 bytes short for 4596 bytes of new items and 1053576 for the index that is stored after them, " +
		"beside what is kept free for deleting; nothing was changed: delete something else or enlarge the disk, then compact again"
	c.want("POST", "/?cmd=defrag&algorithm=sha256&namespace=packs", `[["packs/a",0,500]]`, 507, text)
	for range 500 {
		if strings.Contains(f.Logged(t), text) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if !strings.Contains(f.Logged(t), text) {
		t.Errorf("the log does not say it: %s", f.Logged(t))
	}
	free.Add(77)
	c.want("POST", "/?cmd=defrag&target=packs/b", `[["packs/a",0,500]]`, 200, "packs/b")
	c.want("POST", "/index/b", strings.Repeat("x", 5000), 200, "")
}

// What borg compact stores last, and its caches, is stored beyond a quota that was lowered.
func TestIndexBeyondTheQuota(t *testing.T) {
	f := start(t, options{quota: 10})
	c := client{t: t, url: "http://" + f.Addr}
	c.want("POST", "/?cmd=create", "", 200, "")
	c.want("POST", "/packs/a", strings.Repeat("x", 11), 507, "Quota exceeded: 11 > 10")
	for _, name := range []string{"locks/l", "cache/referenced-by-archive.x", "index/a", "config/manifest"} {
		c.want("POST", "/"+name, strings.Repeat("x", 1000), 200, "")
		c.want("POST", "/"+name, strings.Repeat("x", 900), 200, "")
	}
	c.want("POST", "/config/id", strings.Repeat("x", 11), 507, "Quota exceeded: 2711 > 10")
	c.want("POST", "/?cmd=move&current=index/a&new=packs/a", "", 507, "Quota exceeded: 2700 > 10")
}
