package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/blake2b"
)

// wrongByte is where a bit of an item is flipped.
type wrongByte struct {
	name string
	sums bool  // in the file of checksums
	at   int64 // from the start; negative: from the end
}

// The item has 12 blocks of 64 KiB and a part of one.
const (
	wrongBlock = 64 << 10
	wrongSize  = 12*wrongBlock + 100
)

var wrongBytes = []wrongByte{
	{"first byte", false, 0},
	{"last byte of the first block", false, wrongBlock - 1},
	{"first byte of a block", false, 7 * wrongBlock},
	{"last byte of a block", false, 8*wrongBlock - 1},
	{"first byte of the last block", false, 12 * wrongBlock},
	{"last byte", false, -1},
	{"magic number of the checksums", true, 3},
	{"format of the checksums", true, 8},
	{"BLAKE3 in the checksums", true, 30},
	{"label", true, 70},
	{"checksum of a block", true, -10},
	{"checksum of the checksums", true, -1},
}

// transport is a way to ask a server. cut tells that the connection ended before the answer did.
type transport struct {
	name string
	ask  func(t *testing.T, dialect, method, path, headers, body string) (status int, text string, cut bool)
}

// TestWrongByte flips a bit in every part of an item that lies in a file, and reads it in every way, by both protocols, over
// HTTP, TLS and stdio: no answer that is complete has a wrong byte, what does not touch the block of the bit is answered, and
// damage of the checksums alone is not noticed by a client.
func TestWrongByte(t *testing.T) {
	t.Parallel()
	top := tempDir(t)
	data := filepath.Join(top, "data")
	cert, key := selfSigned(t, top)
	socket := filepath.Join(top, "http")
	s := startServer(t, top, "--data-dir", data, "--tls-cert", cert, "--tls-key", key, "--listen", "unix:"+socket)
	plain := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	encrypted := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}
	w := &wrongByteServer{running: s, data: data, seen: make(map[string]bool)}
	overHTTP := transport{"HTTP", w.overHTTP(plain, "http://unix")}
	overTLS := transport{"TLS", w.overHTTP(encrypted, strings.TrimSuffix(s.url, ","))}
	for _, dialect := range []string{"borgstore", "vger"} {
		create := map[string]string{"borgstore": "/?cmd=create", "vger": "?init"}[dialect]
		if status, text, _ := overHTTP.ask(t, dialect, "POST", create, "", ""); status >= 300 {
			t.Fatalf("create: %d %s", status, text)
		}
		transports := []transport{overHTTP, overTLS}
		if dialect == "borgstore" {
			transports = append(transports, w.overStdio(t))
		}
		for _, tr := range transports {
			for _, wrong := range wrongBytes {
				t.Run(dialect+"/"+tr.name+"/"+wrong.name, func(t *testing.T) { w.read(t, dialect, tr, wrong) })
			}
		}
	}
}

type wrongByteServer struct {
	*running
	data  string
	items uint64
	seen  map[string]bool // files of blobs that are not the next item's: reading all for each item took most of the test's time
}

// item stores an item, flips a bit of it, and tells its name and content.
func (w *wrongByteServer) item(t *testing.T, dialect string, tr transport, wrong wrongByte) (path string, content []byte) {
	t.Helper()
	w.items++
	content = make([]byte, wrongSize)
	_, _ = rand.NewChaCha8([32]byte{byte(w.items), byte(w.items >> 8)}).Read(content)
	path, method := fmt.Sprintf("/packs/%d", w.items), "POST"
	if dialect == "vger" {
		binary.LittleEndian.PutUint32(content[96:], wrongSize-150) // of the blob that a plan keeps, see copied
		sum := blake2b.Sum256(content)
		name := hex.EncodeToString(sum[:])
		path, method = "/packs/"+name[:2]+"/"+name, "PUT"
	}
	if status, text, cut := tr.ask(t, dialect, method, path, "", string(content)); status >= 300 || cut {
		t.Fatalf("store: %d %s, cut %v", status, text, cut)
	}
	file := ""
	err := filepath.WalkDir(filepath.Join(w.data, dialect, "blobs"), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(name) == ".sums" || w.seen[name] {
			return err
		}
		w.seen[name] = true
		if b, err := os.ReadFile(name); err == nil && bytes.Equal(b, content) {
			file = name
		}
		return nil
	})
	if err != nil || file == "" {
		t.Fatalf("the file of the item: %q, %v", file, err)
	}
	if wrong.sums {
		file += ".sums"
	}
	at := wrong.at
	if at < 0 {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		at += info.Size()
	}
	flip(t, file, at)
	return path, content
}

// read reads two items with the same flipped bit, one first as a whole, the other first in ranges.
func (w *wrongByteServer) read(t *testing.T, dialect string, tr transport, wrong wrongByte) {
	at := wrong.at
	if at < 0 {
		at += wrongSize
	}
	first := at / wrongBlock * wrongBlock
	refusal := map[string]int{"borgstore": http.StatusNotFound, "vger": http.StatusUnprocessableEntity}[dialect]
	part := func(path string, content []byte, from, to int64) {
		t.Helper()
		status, text, cut := tr.ask(t, dialect, "GET", path, fmt.Sprintf("Range: bytes=%d-%d\r\n", from, to-1), "")
		touched := !wrong.sums && from < first+wrongBlock && to > first
		switch {
		case !touched && (status != http.StatusPartialContent || cut || text != string(content[from:to])):
			t.Errorf("range %d to %d: got %d, %d bytes, cut %v; want them", from, to, status, len(text), cut)
		case touched && status == http.StatusPartialContent && !cut:
			t.Errorf("range %d to %d: got %d bytes, want none that are wrong", from, to, len(text))
		case touched && cut && !strings.HasPrefix(string(content[from:to]), text):
			t.Errorf("range %d to %d: got wrong bytes before the connection was cut", from, to)
		case touched && !cut && status != refusal:
			t.Errorf("range %d to %d: got %d, want %d", from, to, status, refusal)
		}
	}
	parts := func(path string, content []byte) {
		t.Helper()
		for _, r := range [][2]int64{{5 * wrongBlock, 6 * wrongBlock}, {10*wrongBlock + 5, 10*wrongBlock + 10}, {at, at + 1}, {0, wrongSize}, {max(0, first-300_000), at + 1}} {
			part(path, content, r[0], r[1])
		}
	}
	whole := func(path string, content []byte) {
		t.Helper()
		status, text, cut := tr.ask(t, dialect, "GET", path, "", "")
		switch {
		case wrong.sums && (status != 200 || cut || text != string(content)):
			t.Errorf("whole: got %d, %d bytes, cut %v; want all", status, len(text), cut)
		case !wrong.sums && status == 200 && (!cut || !strings.HasPrefix(string(content[:first]), text)):
			t.Errorf("whole: got %d bytes, cut %v; want less than %d", len(text), cut, first)
		}
	}
	path, content := w.item(t, dialect, tr, wrong)
	whole(path, content)
	parts(path, content)
	path, content = w.item(t, dialect, tr, wrong)
	parts(path, content)
	whole(path, content)
	path, _ = w.item(t, dialect, tr, wrong)
	w.copied(t, dialect, tr, path, !wrong.sums)
	if dialect == "borgstore" {
		path, content = w.item(t, dialect, tr, wrong)
		body := fmt.Sprintf(`[[%q,0,%d]]`, path[1:], wrongSize)
		status, text, cut := tr.ask(t, dialect, "POST", "/?cmd=gather", "", body)
		if complete := status == 200 && !cut; complete == !wrong.sums || complete && text != string(content) {
			t.Errorf("gather: got %d, %d bytes, cut %v", status, len(text), cut)
		}
	}
}

// copied lets the server copy the item in a plan, which must not make a new item of wrong bytes.
func (w *wrongByteServer) copied(t *testing.T, dialect string, tr transport, path string, damaged bool) {
	t.Helper()
	target, body := "/?cmd=defrag&algorithm=sha256&namespace=packs", fmt.Sprintf(`[[%q,0,%d]]`, path[1:], wrongSize)
	want := http.StatusRequestedRangeNotSatisfiable
	if dialect == "vger" {
		target = "?repack"
		body = fmt.Sprintf(`{"operations":[{"source_pack":%q,"keep_blobs":[{"offset":100,"length":%d}],"delete_after":true}],"protocol_version":1}`,
			path[1:], wrongSize-150)
		want = http.StatusConflict
	}
	status, text, _ := tr.ask(t, dialect, "POST", target, "Content-Type: application/json\r\n", body)
	if damaged && status != want || !damaged && status >= 300 {
		t.Errorf("plan: got %d %s; damaged %v", status, text, damaged)
	}
	if status, text, _ := tr.ask(t, dialect, "HEAD", path, "", ""); damaged && status != 200 {
		t.Errorf("the source of a plan that was refused: got %d %s", status, text)
	}
}

// overHTTP asks with a client.
func (w *wrongByteServer) overHTTP(client *http.Client, url string) func(t *testing.T, dialect, method, path, headers, body string) (int, string, bool) {
	return func(t *testing.T, dialect, method, path, headers, body string) (int, string, bool) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, url+"/"+dialect+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.SplitSeq(strings.TrimSpace(headers), "\r\n") {
			if name, value, ok := strings.Cut(line, ": "); ok {
				req.Header.Set(name, value)
			}
		}
		if dialect == "borgstore" {
			req.Header.Set("Accept", acceptBorgStore)
			req.SetBasicAuth("packhouse", w.token)
		} else {
			req.Header.Set("Authorization", "Bearer "+w.token)
		}
		resp, err := client.Do(req)
		if err != nil {
			return 0, "", true
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return resp.StatusCode, string(text), err != nil
	}
}

// overStdio asks a process that forwards to the server, another one after each connection that was cut.
func (w *wrongByteServer) overStdio(parent *testing.T) transport {
	dir := filepath.Join(w.data, "borgstore")
	c := stdioAt(parent, dir)
	return transport{"stdio", func(t *testing.T, _, method, path, headers, body string) (int, string, bool) {
		t.Helper()
		status, _, text, err := c.askWith(headers, method, path, body)
		if err != nil {
			c = stdioAt(parent, dir)
		}
		return status, strings.TrimRight(text, "\x00"), err != nil
	}}
}
