package vger_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/blake2b"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/blobstore/vfs"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// server is the real server on a real listener, with this dialect alone.
type server struct {
	t    testing.TB
	set  *datadir.Set
	base string
	http *http.Client
}

// setup is what a test may change before the server starts.
type setup struct {
	set     datadir.Options
	dialect vger.Options
	server  api.Options
	auth    api.AuthOptions
}

func newServer(t testing.TB, change func(*setup)) *server {
	t.Helper()
	c := setup{set: datadir.Options{Dir: t.TempDir(), Environment: repo.Environment{FS: unsynced{vfs.OS()}}}, auth: api.AuthOptions{NoAuth: true}}
	engine := compact.New(compact.Options{TempDir: t.TempDir()})
	c.dialect.Engine = engine
	c.server.Version = "test"
	c.server.Limits.Last = time.Millisecond
	if change != nil {
		change(&c)
	}
	auth, err := api.NewAuth(c.auth)
	if err != nil {
		t.Fatal(err)
	}
	set := datadir.Open(c.set)
	c.server.Set, c.server.Auth, c.server.Dialects = set, auth, []api.Dialect{vger.New(c.dialect)}
	srv, err := api.New(c.server)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(api.Listener{Listener: l}) }()
	s := &server{t: t, set: set, base: "http://" + l.Addr().String(), http: &http.Client{
		Transport:     &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: 64},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	t.Cleanup(func() {
		s.http.CloseIdleConnections()
		if err := srv.Shutdown(context.Background()); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-served; err != nil && !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("serve: %v", err)
		}
		s.check()
		if err := errors.Join(engine.Close(), set.Close()); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// unsynced is a file system that does not wait for the disk: these tests lose no power.
type unsynced struct{ vfs.FS }

func (unsynced) SyncDir(string) error { return nil }

func (u unsynced) Create(name string) (vfs.File, error) {
	f, err := u.FS.Create(name)
	return unsyncedFile{f}, err
}

type unsyncedFile struct{ vfs.File }

func (unsyncedFile) Sync() error { return nil }

// check compares counters, references and records of all repositories in use.
func (s *server) check() {
	s.t.Helper()
	for name, r := range s.set.Opened() {
		if r.Health().ReadOnly {
			continue
		}
		report, err := r.CheckIndex(context.Background())
		if err != nil || len(report.Problems) > 0 || report.Counted != report.Stored {
			s.t.Errorf("check of %q: %v, counted %+v, stored %+v, problems %q", name, err, report.Counted, report.Stored, report.Problems)
		}
		if u := r.Usage(); u.Reserved != 0 || u.Used != u.Counted() {
			s.t.Errorf("usage of %q: %+v", name, u)
		}
	}
}

// reply is a whole answer.
type reply struct {
	status int
	header http.Header
	body   string
	close  bool // the server ends the connection
}

// do sends one request; headers are pairs of name and value.
func (s *server) do(method, target, body string, headers ...string) reply {
	s.t.Helper()
	r, err := s.try(method, target, strings.NewReader(body), int64(len(body)), headers...)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, target, err)
	}
	return r
}

func (s *server) try(method, target string, body io.Reader, size int64, headers ...string) (reply, error) {
	u, err := url.Parse(s.base + target)
	if err != nil {
		return reply{}, err
	}
	if size == 0 {
		body = http.NoBody
	}
	r := (&http.Request{Method: method, URL: u, Host: u.Host, Header: http.Header{}, Body: io.NopCloser(body), ContentLength: size}).WithContext(context.Background())
	for i := 0; i < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	response, err := s.http.Do(r)
	if err != nil {
		return reply{}, err
	}
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	return reply{response.StatusCode, response.Header, string(text), response.Close}, err
}

// want fails the test unless the answer has this status.
func (s *server) want(status int, r reply) reply {
	s.t.Helper()
	if r.status != status {
		s.t.Fatalf("got %d %q, want %d", r.status, r.body, status)
	}
	return r
}

func (s *server) put(target, body string, headers ...string) {
	s.t.Helper()
	if r := s.do("PUT", target, body, headers...); r.status != 201 && r.status != 204 {
		s.t.Fatalf("PUT %s: got %d %q", target, r.status, r.body)
	}
}

// putPack stores a pack under its BLAKE2b and returns its key.
func (s *server) putPack(prefix, body string) string {
	s.t.Helper()
	key := packKey(b2(body))
	s.put(prefix+"/"+key, body, "X-Content-BLAKE2b", b2(body))
	return key
}

// keys reads a list, sorted.
func (s *server) keys(target string) []string {
	s.t.Helper()
	var keys []string
	decode(s.t, s.want(200, s.do("GET", target, "")), &keys)
	sort.Strings(keys)
	return keys
}

func decode(t testing.TB, r reply, into any) {
	t.Helper()
	if got := r.header.Get("Content-Type"); got != "application/json" {
		t.Errorf("content type: got %q, want application/json", got)
	}
	if err := json.Unmarshal([]byte(r.body), into); err != nil {
		t.Fatalf("answer is no JSON: %v: %.200q", err, r.body)
	}
}

func b2(body string) string {
	sum := blake2b.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func b3(body string) string {
	sum := blake3.Sum256([]byte(body))
	return hex.EncodeToString(sum[:])
}

func unhex(text string) []byte { return must(hex.DecodeString(text)) }

func packKey(name string) string { return "packs/" + name[:2] + "/" + name }

// makePack frames blobs.
func makePack(blobs ...string) string {
	var b bytes.Buffer
	b.WriteString("VGERPACK\x01")
	for _, blob := range blobs {
		n := len(blob)
		b.Write([]byte{byte(n), byte(n >> 8), byte(n >> 16), byte(n >> 24)})
		b.WriteString(blob)
	}
	return b.String()
}

// configOf is a config object of a format, as msgpack.
func configOf(format byte, mode string) string {
	return "\x97" + string([]byte{format}) + "\xc4\x20" + strings.Repeat("i", 32) + "\x93\x01\x02\x03" +
		string([]byte{0xa0 | byte(len(mode))}) + mode + "\xcd\x01\x00\x01\x02"
}

// appendOnly is the principal of an append-only server.
func appendOnly(c *setup) {
	c.auth.Permissions = policy.AppendOnly(vger.Name)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func quoted(keys ...string) string {
	text, err := json.Marshal(keys)
	if err != nil {
		panic(err)
	}
	return string(text)
}

// repository opens one behind the server's back.
func (s *server) repository(name string) *repo.Access {
	s.t.Helper()
	r, err := s.set.Get(context.Background(), name)
	if err != nil {
		s.t.Fatal(err)
	}
	return r.As(repo.Principal{Name: "test"})
}

// Vectors of the contract, section 15.
var (
	packS = makePack("\xde\xad", "\xbe\xefB")
	packA = makePack("\xde\xad")
	packB = makePack("\xbe\xefB")
)
