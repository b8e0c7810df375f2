package vger_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestVectors: the digests of the contract, section 15, so that the helpers of these tests are right.
func TestVectors(t *testing.T) {
	for _, v := range []struct{ name, body, b2, b3 string }{
		{"empty", "", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		{"header", makePack(), "b620a729ff30b444d367dda07e7799d9f387225d74b2c9b6a2e2675bdcd7c6ff", "f549bc171cbc687979628b6d01d06eead9a9212c562d34768db7d5e63f09d3d9"},
		{"S", packS, "22a8d80ade59e7f5243303d9665162b12953f31ffd5cf281f1e052a4fb101d2a", "910ba1e4959e9ac85af4de673f187a53c28a1031d91b805096fc1efb1cc13df4"},
		{"A", packA, "12e32af13fe308ccb9d5ba91e72a2197a67990851c4c0d615c240314aa3a1887", "9dcfed8c53cd1fe0a91eeaad4b23908830d232f787456bf000737c51c6dd30b6"},
		{"B", packB, "faa0ed092737e5bae9346a24ccad42be84ee0feaafa73989a64d0b9f25dd236c", "78536d9a3db64d80218f556f8da502a4c707b74c7976cfc4127ea53f1961119e"},
	} {
		if b2(v.body) != v.b2 || b3(v.body) != v.b3 {
			t.Errorf("%s: got %s, %s", v.name, b2(v.body), b3(v.body))
		}
	}
}

// TestPut walks the table of contract 2.2 for PUT, and the digest rules of 4.3.
func TestPut(t *testing.T) {
	t.Parallel()
	wrong := strings.Repeat("0", 64)
	for _, c := range []struct {
		name, target, body string
		headers            []string
		status             int
		text               string // contained in the answer
	}{
		{"new object", "/r/config", "x", nil, 201, ""},
		{"digest BLAKE2b", "/r/index", "x", []string{"X-Content-BLAKE2b", b2("x")}, 201, ""},
		{"digest BLAKE3 on any key", "/r/index", "x", []string{"X-Content-BLAKE3", b3("x")}, 201, ""},
		{"digest in capitals", "/r/index", "x", []string{"X-Content-BLAKE2b", strings.ToUpper(b2("x"))}, 201, ""},
		{"digest too short", "/r/index", "x", []string{"X-Content-BLAKE2b", "00"}, 400, "X-Content-BLAKE2b must be 64 hex characters"},
		{"digest not hex", "/r/index", "x", []string{"X-Content-BLAKE3", strings.Repeat("g", 64)}, 400, "X-Content-BLAKE3 must be 64 hex characters"},
		{"digest empty", "/r/index", "x", []string{"X-Content-BLAKE3", ""}, 400, "X-Content-BLAKE3 must be 64 hex characters"},
		{"digest not ASCII counts as absent", "/r/index", "x", []string{"X-Content-BLAKE3", "\xff"}, 201, ""},
		{"BLAKE2b is looked at first", "/r/index", "x", []string{"X-Content-BLAKE3", "1", "X-Content-BLAKE2b", "2"}, 400, "X-Content-BLAKE2b must be"},
		{"both digests", "/r/index", "x", []string{"X-Content-BLAKE2b", b2("x"), "X-Content-BLAKE3", b3("x")}, 400, "X-Content-BLAKE2b and X-Content-BLAKE3 are mutually exclusive"},
		{"wrong digest", "/r/index", "x", []string{"X-Content-BLAKE2b", wrong}, 409, "BLAKE2b checksum mismatch: expected " + wrong + ", got " + b2("x")},
		{"wrong BLAKE3", "/r/index", "x", []string{"X-Content-BLAKE3", b2("x")}, 409, "BLAKE3 checksum mismatch: expected " + b2("x") + ", got " + b3("x")},
		{"pack", "/r/" + packKey(b2(packS)), packS, []string{"X-Content-BLAKE2b", b2(packS)}, 201, ""},
		{"pack BLAKE3", "/r/" + packKey(b3(packS)), packS, []string{"X-Content-BLAKE3", b3(packS)}, 201, ""},
		{"pack without digest is BLAKE2b", "/r/" + packKey(b2(packS)), packS, nil, 201, ""},
		{"pack without digest, other name", "/r/" + packKey(b3(packS)), packS, nil, 400, "X-Content-BLAKE2b or X-Content-BLAKE3 header required for pack uploads"},
		{"pack S, BLAKE2b as BLAKE3", "/r/" + packKey(b2(packS)), packS, []string{"X-Content-BLAKE3", b2(packS)}, 409, "BLAKE3 checksum mismatch"},
		{"pack with both", "/r/" + packKey(b2(packS)), packS, []string{"X-Content-BLAKE2b", b2(packS), "X-Content-BLAKE3", b3(packS)}, 400, "mutually exclusive"},
		{"pack of another name", "/r/" + packKey(b2(packA)), packS, []string{"X-Content-BLAKE2b", b2(packS)}, 409, "is not the pack's name"},
		{"pack in the wrong shard", "/r/packs/00/" + b2(packS), packS, []string{"X-Content-BLAKE2b", b2(packS)}, 400, "packs/22/"},
		{"slashes do not hide a pack", "/r//" + packKey(b2(packA)) + "/", packS, nil, 400, "header required"},
		{"escapes do not hide a pack", "/r/pack%73/" + packKey(b2(packA))[6:], packS, nil, 400, "header required"},
		{"pack in capitals", "/r/" + strings.ToUpper(packKey(b2(packS))), packS, nil, 400, "invalid path"},
		{"capital name", "/r/packs/22/" + strings.ToUpper(b2(packS)), packS, nil, 400, "invalid path"},
		{"directory", "/r/keys", "x", nil, 400, "invalid path"},
		{"shard", "/r/packs/ab", "x", nil, 400, "invalid path"},
		{"unknown name", "/r/other", "x", nil, 400, "invalid path"},
		{"temporary name", "/r/snapshots/.tmp.x.1", "x", nil, 400, "invalid path"},
		{"temporary name of repack", "/r/packs/ab/.repack_tmp.1/", "x", nil, 400, "invalid path"},
		{"too deep", "/r/keys/a/b", "x", nil, 400, "invalid path"},
		{"empty part", "/r/keys//a", "x", nil, 400, "invalid path"},
		{"dot", "/r/keys/.", "x", nil, 400, "invalid path"},
		{"dots", "/r/keys/%2e%2e/config", "x", nil, 400, "invalid path"},
		{"backslash", "/r/keys/a%5cb", "x", nil, 400, "invalid path"},
		{"NUL", "/r/keys/a%00", "x", nil, 400, "invalid path"},
		{"bad escape is no key", "/r/keys/%ff", "x", nil, 400, "invalid path"},
		{"query", "/r/config?part=1", "x", nil, 400, "nothing was stored"},
		{"bare question mark", "/r/config?", "x", nil, 400, "nothing was stored"},
		{"Content-Range", "/r/config", "x", []string{"Content-Range", "bytes 0-0/2"}, 400, "nothing was stored"},
		{"bad repository name", "/.r/config", "x", nil, 400, "invalid path"},
		{"index.gen", "/r/index.gen", "12345678", nil, 201, ""},
		{"session", "/r/sessions/00.json", "{}", nil, 201, ""},
		{"pending_index", "/r/pending_index", "x", nil, 201, ""},
		{"pending_index, two parts", "/r/pending_index/a", "x", nil, 201, ""},
		{"second key", "/r/keys/repokey.2", "x", nil, 201, ""},
		{"empty object", "/r/index", "", nil, 201, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			r := s.do("PUT", c.target, c.body, c.headers...)
			if r.status != c.status || !strings.Contains(r.body, c.text) {
				t.Fatalf("got %d %q, want %d %q", r.status, r.body, c.status, c.text)
			}
			key := strings.SplitN(strings.TrimPrefix(c.target, "/r/"), "?", 2)[0]
			if c.status >= 400 {
				if r.header.Get("Content-Type") != "text/plain; charset=utf-8" {
					t.Errorf("content type of an error: %q", r.header.Get("Content-Type"))
				}
				if got := s.do("GET", "/r/"+key, ""); got.status == 200 {
					t.Errorf("a refused object is there: %q", got.body)
				}
				return
			}
			if r.body != "" {
				t.Errorf("got body %q, want none", r.body)
			}
			got := s.do("GET", "/r/"+key, "")
			if got.status != 200 || got.body != c.body {
				t.Errorf("read back: got %d %q", got.status, got.body)
			}
			if _, ok := got.header["Content-Type"]; ok {
				t.Errorf("an object has a content type: %q", got.header["Content-Type"])
			}
		})
	}
}

// TestPutStatus: 201 for an object that was absent or empty, else 204.
func TestPutStatus(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	for _, step := range []struct {
		body   string
		status int
	}{{"", 201}, {"", 201}, {"a", 201}, {"a", 204}, {"bb", 204}, {"", 204}, {"c", 201}} {
		if r := s.do("PUT", "/r/index", step.body); r.status != step.status {
			t.Errorf("PUT of %q: got %d, want %d", step.body, r.status, step.status)
		}
	}
}

// TestHashOfFormat: the config's format fixes the hash of packs.
func TestHashOfFormat(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		config string
		b2, b3 int
	}{
		{"format 1", configOf(1, "aes256gcm"), 201, 409},
		{"format 2", configOf(2, "aes256gcm"), 201, 409},
		{"format 3", configOf(3, "aes256gcm"), 409, 201},
		{"format unknown", configOf(9, "aes256gcm"), 201, 201},
		{"not msgpack", "{}", 201, 201},
		{"empty", "", 201, 201},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, nil)
			s.put("/r/config", c.config)
			if r := s.do("PUT", "/r/"+packKey(b2(packS)), packS, "X-Content-BLAKE2b", b2(packS)); r.status != c.b2 {
				t.Errorf("BLAKE2b: got %d %q, want %d", r.status, r.body, c.b2)
			}
			if r := s.do("PUT", "/r/"+packKey(b3(packS)), packS, "X-Content-BLAKE3", b3(packS)); r.status != c.b3 {
				t.Errorf("BLAKE3: got %d %q, want %d", r.status, r.body, c.b3)
			}
		})
	}
}

// TestRange walks the table of contract 2.3.
func TestRange(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/index", "0123456789")
	s.put("/r/manifest", "")
	for _, c := range []struct {
		name, target, header string
		status               int
		body, contentRange   string
	}{
		{"inside", "/r/index", "bytes=2-4", 206, "234", "bytes 2-4/10"},
		{"whole", "/r/index", "bytes=0-9", 206, "0123456789", "bytes 0-9/10"},
		{"last byte", "/r/index", "bytes=9-9", 206, "9", "bytes 9-9/10"},
		{"end beyond", "/r/index", "bytes=8-100", 206, "89", "bytes 8-9/10"},
		{"end at the limit of 64 bits", "/r/index", "bytes=8-18446744073709551615", 206, "89", "bytes 8-9/10"},
		{"start at the end", "/r/index", "bytes=10-11", 416, "range start 10 beyond file size 10", ""},
		{"start beyond", "/r/index", "bytes=18446744073709551615-18446744073709551615", 416, "range start 18446744073709551615 beyond file size 10", ""},
		{"empty object", "/r/manifest", "bytes=0-0", 416, "range start 0 beyond file size 0", ""},
		{"open end", "/r/index", "bytes=5-", 400, "invalid range end", ""},
		{"suffix", "/r/index", "bytes=-5", 400, "invalid range start", ""},
		{"several", "/r/index", "bytes=0-1,4-5", 400, "invalid Range header", ""},
		{"unit", "/r/index", "items=0-1", 400, "invalid Range header", ""},
		{"no unit", "/r/index", "0-1", 400, "invalid Range header", ""},
		{"extra dash", "/r/index", "bytes=0-1-2", 400, "invalid Range header", ""},
		{"negative", "/r/index", "bytes=--1", 400, "invalid Range header", ""},
		{"no dash", "/r/index", "bytes=5", 400, "invalid Range header", ""},
		{"not a number", "/r/index", "bytes=a-5", 400, "invalid range start", ""},
		{"end no number", "/r/index", "bytes=0-x", 400, "invalid range end", ""},
		{"overflow", "/r/index", "bytes=0-18446744073709551616", 400, "invalid range end", ""},
		{"inner space", "/r/index", "bytes=0- 1", 400, "invalid range end", ""},
		{"plus", "/r/index", "bytes=+1-2", 400, "invalid range start", ""},
		{"backwards", "/r/index", "bytes=5-4", 400, "invalid Range header: end before start", ""},
		{"missing object", "/r/config", "bytes=0-1", 404, "config", ""},
		{"malformed on a missing object", "/r/config", "bytes=1", 400, "invalid Range header", ""},
		{"missing repository", "/q/config", "bytes=0-1", 404, "config", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.do("GET", c.target, "", "Range", c.header)
			if r.status != c.status || r.body != c.body || r.header.Get("Content-Range") != c.contentRange {
				t.Errorf("got %d %q %q, want %d %q %q", r.status, r.body, r.header.Get("Content-Range"), c.status, c.body, c.contentRange)
			}
			if r.header.Get("Content-Length") == "" {
				t.Error("no Content-Length")
			}
		})
	}
}

// TestObjects: GET, HEAD and DELETE of what is there, what is not, and what is no object.
func TestObjects(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/keys/repokey", "secret")
	s.put("/r/index", "")
	key := s.putPack("/r", packS)
	for _, c := range []struct {
		method, target string
		status         int
		length, body   string
	}{
		{"GET", "/r/keys/repokey", 200, "6", "secret"},
		{"GET", "/r//keys/repokey/", 200, "6", "secret"},
		{"GET", "/r/keys%2Frepokey", 200, "6", "secret"},
		{"GET", "/r/index", 200, "0", ""},
		{"HEAD", "/r/keys/repokey", 200, "6", ""},
		{"HEAD", "/r/index", 200, "0", ""},
		{"HEAD", "/r/" + key, 200, "22", ""},
		{"HEAD", "/r/config", 404, "0", ""},
		{"HEAD", "/r/keys", 404, "0", ""},
		{"HEAD", "/r/packs/22", 404, "0", ""},
		{"HEAD", "/r/nothing", 400, "0", ""},
		{"HEAD", "/q/config", 404, "0", ""},
		{"GET", "/r/config", 404, "6", "config"},
		{"GET", "/r/keys", 404, "4", "keys"},
		{"GET", "/q/config", 404, "6", "config"},
		{"GET", "/r/keys//x", 400, "12", "invalid path"},
		{"GET", "/r/snapshots/.tmp.1", 400, "12", "invalid path"},
		{"GET", "/r/?nothing", 400, "60", "missing query parameter (stats, verify-structure, list)"},
		{"POST", "/r", 400, "", "missing query parameter (init, batch-delete, repack, verify-packs)"},
		{"POST", "/r/keys/x", 400, "0", ""},
		{"PUT", "/r", 405, "0", ""},
		{"PATCH", "/r/config", 405, "0", ""},
		{"DELETE", "/r/config", 404, "0", ""},
		{"DELETE", "/r/snapshots/.repair-probe", 404, "0", ""},
		{"DELETE", "/r/snapshots/.tmp.1", 404, "0", ""},
		{"DELETE", "/r/.repack_tmp.1", 404, "0", ""},
		{"DELETE", "/r/keys", 404, "0", ""},
		{"DELETE", "/r/nothing", 400, "12", "invalid path"},
		{"DELETE", "/q/config", 404, "0", ""},
		{"DELETE", "/r/" + key, 204, "", ""},
		{"DELETE", "/r/" + key, 404, "0", ""},
		{"GET", "/r/config?list&list", 400, "", "query parameter given twice: list"},
	} {
		r := s.do(c.method, c.target, "")
		if r.status != c.status || r.body != c.body {
			t.Errorf("%s %s: got %d %q, want %d %q", c.method, c.target, r.status, r.body, c.status, c.body)
		}
		if got := r.header.Get("Content-Length"); c.length != "" && c.length != "60" && got != c.length {
			t.Errorf("%s %s: Content-Length %q, want %s", c.method, c.target, got, c.length)
		}
		if c.status == 405 && r.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow", c.method, c.target)
		}
	}
}

// TestHeadIgnoresRange: the size is that of the whole object.
func TestHeadIgnoresRange(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	s.put("/r/index", "0123456789")
	for _, header := range []string{"bytes=2-4", "bytes=20-30", "nonsense"} {
		if r := s.do("HEAD", "/r/index", "", "Range", header); r.status != 200 || r.header.Get("Content-Length") != "10" || r.header.Get("Content-Range") != "" {
			t.Errorf("HEAD with %s: got %d %v", header, r.status, r.header)
		}
	}
}

// TestShortUpload: a body that ends before its length is 400 if the client still listens, and stores nothing; and a
// client that vanished leaves nothing.
func TestShortUpload(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := newServer(t, func(c *setup) { c.set.Dir = dir })
	s.put("/r/index", "old")
	for _, halfClosed := range []bool{true, false} {
		for _, target := range []string{"/r/index", "/r/keys/new", "/r/" + packKey(b2(packS))} {
			conn, err := net.Dial("tcp", strings.TrimPrefix(s.base, "http://"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := fmt.Fprintf(conn, "PUT %s HTTP/1.1\r\nHost: x\r\nContent-Length: 22\r\n\r\n%s", target, packS[:20]); err != nil {
				t.Fatal(err)
			}
			if halfClosed {
				if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
					t.Fatal(err)
				}
				r, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				text, err := io.ReadAll(r.Body)
				if err != nil || r.StatusCode != 400 || string(text) != "upload size mismatch: Content-Length 22, received 20" {
					t.Errorf("PUT %s: got %d %q, %v", target, r.StatusCode, text, err)
				}
			}
			conn.Close()
		}
	}
	if got := s.keys("/r?list"); len(got) != 1 || s.do("GET", "/r/index", "").body != "old" {
		t.Errorf("short uploads left %q", got)
	}
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		left, err := os.ReadDir(filepath.Join(dir, "r", "incoming"))
		if err == nil && len(left) == 0 {
			break
		}
		if err != nil || time.Now().After(deadline) {
			t.Fatalf("unfinished files: %v, %v", left, err)
		}
	}
}

// TestRefusedBodyIsRead: the answer to a large refused upload arrives, and the connection stays usable.
func TestRefusedBodyIsRead(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) { c.dialect.Limits.Pack = 1 << 20 })
	large := strings.Repeat("x", 4<<20)
	var dialed atomic.Int64
	s.http.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		dialed.Add(1)
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	for _, c := range []struct {
		target string
		status int
		text   string
	}{
		{"/r/nothing", 400, "invalid path"},
		{"/r/config?x", 400, "nothing was stored"},
		{"/r/" + packKey(b2(large)), 413, "larger than the maximum size of an object"},
		{"/r/" + packKey(strings.Repeat("0", 64)), 413, "larger than the maximum size of an object"},
	} {
		for range 3 {
			if r := s.do("PUT", c.target, large); r.status != c.status || r.body != c.text && !strings.Contains(r.body, c.text) {
				t.Errorf("PUT %s: got %d %q, want %d %q", c.target, r.status, r.body, c.status, c.text)
			}
		}
	}
	if n := dialed.Load(); n != 1 {
		t.Errorf("%d connections for requests that were refused one after the other, want 1", n)
	}
}
