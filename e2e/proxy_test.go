//go:build e2e

package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
)

// large is the size of the pack that goes through each way to the server: the most a V'Ger client sends.
const large = 512 << 20

// TestProxies puts the server behind nginx and Caddy, with the configuration files that deploy/ has for people,
// and behind its own TLS. A pack of 512 MiB must stream through each, up and down in both protocols, and borg and restic must work.
func TestProxies(t *testing.T) {
	t.Parallel()
	for _, proxy := range []struct {
		name  string
		start func(t *testing.T, socket, addr, certificate, key string)
	}{{"nginx", startNginx}, {"caddy", startCaddy}} {
		t.Run(proxy.name, func(t *testing.T) {
			certificate, key := selfSigned(t)
			s, front := newServer(t), freeAddress(t)
			socket := filepath.Join(shortDir(t), "http.sock")
			tokenFile := filepath.Join(s.dir, "token")
			writeFile(t, tokenFile, token+"\n", 0o600)
			s.args = []string{"serve", "--listen", s.addr, "--listen", "unix:" + socket, "--data-dir", s.data,
				"--token-file", tokenFile, "--log-format", "json"}
			s.start()
			proxy.start(t, socket, front, certificate, key)
			_, port, _ := strings.Cut(front, ":")
			s.throughFront("localhost:"+port, certificate)
		})
	}
	t.Run("none", func(t *testing.T) {
		certificate, key := selfSigned(t)
		s := startServer(t, "--tls-cert", certificate, "--tls-key", key)
		s.throughFront(s.addr, certificate)
	})
}

// shortDir is a directory whose name is short enough for a socket's name in the 108 bytes it may have.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ph")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// throughFront sends a large pack up and down in both protocols, and runs borg, by way of https://addr.
func (s *server) throughFront(addr, certificate string) {
	t := s.t
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: trusting(t, certificate), DisableCompression: true},
		Timeout: 5 * time.Minute}
	want := largeDigests()
	for _, dialect := range []struct {
		repository, create, method, target string
		header                             http.Header
	}{
		{"vault", "?init", "PUT", "/packs/" + want.blake2b[:2] + "/" + want.blake2b,
			http.Header{"X-Content-Blake2b": {want.blake2b}}},
		{"store", "/?cmd=create", "POST", "/packs/00/large",
			http.Header{"X-Content-Hash-Sha256": {want.sha256}, "Accept": {"application/vnd.x.borgstore.rest.v1"}}},
	} {
		base := "https://" + addr + "/" + dialect.repository
		if _, err := ask(client, "POST", base+dialect.create, nil, 0, http.Header{"Accept": dialect.header["Accept"]}); err != nil {
			t.Fatal(err)
		}
		body := &watched{Reader: pack(), pause: large / 4, dir: filepath.Join(s.data, dialect.repository, "incoming")}
		if _, err := ask(client, dialect.method, base+dialect.target, body, large, dialect.header); err != nil {
			t.Fatal(err)
		}
		response, err := ask(client, "GET", base+dialect.target, nil, 0, http.Header{"Accept": dialect.header["Accept"]})
		if err != nil {
			t.Fatal(err)
		}
		got := digestsOf(response.Body)
		response.Body.Close()
		if got != want || response.ContentLength != large {
			t.Errorf("%s: got back a pack %s of %d bytes, want %s of %d", dialect.repository, got.sha256, response.ContentLength, want.sha256, large)
		}
	}
	if peak := s.peakMemory(); peak > 128<<20 {
		t.Errorf("the server's memory went to %d MiB while it streamed, want far below the pack's size", peak>>20)
	} else {
		t.Logf("peak memory of the server: %d MiB", peak>>20)
	}

	tr := newTree(t, 4, 100, 20<<20)
	b := newBorg(t, "https://packhouse:"+token+"@"+addr+"/laptop", "REQUESTS_CA_BUNDLE="+certificate)
	b.run("repo-create", "--encryption", "aes256-ocb")
	b.in(filepath.Dir(tr.dir), `"$BORG" create story tree`)
	b.run("check", "--verify-data")
	dir := b.extract(b.archives()[0])
	look(t, filepath.Join(dir, "tree")).same(t, look(t, tr.dir))
	b.run("repo-delete")

	r := newRestic(t, newestRestic(t), "https://packhouse:"+token+"@"+addr+"/alice/my laptop")
	r.flags = []string{"--cacert", certificate}
	through := newResticHTTP(s, "alice/my%20laptop")
	through.base, through.http = "https://"+addr+"/alice/my%20laptop", client
	through.initialize(t)
	r.backup(tr)
	tr.change(0, 4)
	id := r.backup(tr)
	r.run("forget", "--keep-last", "1", "--prune", "--max-unused", "0")
	r.sound(map[string]picture{id: look(t, tr.dir)})
	s.onlyStatuses(200, 201, 206, 404)
}

// pack is a pack of large bytes in V'Ger's framing, with one blob of noise.
func pack() io.Reader {
	const header = 9 + 4
	blob := large - header
	return io.MultiReader(
		strings.NewReader("VGERPACK\x01"),
		strings.NewReader(string([]byte{byte(blob & 0xff), byte(blob >> 8 & 0xff), byte(blob >> 16 & 0xff), byte(blob >> 24)})),
		io.LimitReader(&repeatedNoise{block: noise(7, 1<<20)}, int64(blob)))
}

// repeatedNoise is a block again and again.
type repeatedNoise struct {
	block []byte
	at    int
}

func (r *repeatedNoise) Read(p []byte) (int, error) {
	n := copy(p, r.block[r.at:])
	r.at = (r.at + n) % len(r.block)
	return n, nil
}

// digests are those of a pack, in hex.
type digests struct{ blake2b, sha256 string }

// digestsOf reads to the end, or to an error, which shows in the digests.
func digestsOf(r io.Reader) digests {
	first, _ := blake2b.New256(nil) // fails only with a key
	second := sha256.New()
	_, _ = io.Copy(io.MultiWriter(first, second), r)
	return digests{hex.EncodeToString(first.Sum(nil)), hex.EncodeToString(second.Sum(nil))}
}

// largeDigests are those of the large pack.
var largeDigests = sync.OnceValue(func() digests { return digestsOf(pack()) })

// watched is a body that stops half way until the server has received a part: a proxy that collects the body
// first never gets beyond that.
type watched struct {
	io.Reader
	pause int64
	dir   string // where the server keeps uploads under way
	read  int64
	seen  bool
}

func (w *watched) Read(p []byte) (int, error) {
	if w.read >= w.pause && !w.seen {
		if err := w.wait(); err != nil {
			return 0, err
		}
		w.seen = true
	}
	n, err := w.Reader.Read(p)
	w.read += int64(n)
	return n, err
}

func (w *watched) wait() error {
	for range 12000 {
		entries, err := os.ReadDir(w.dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			if info, err := entry.Info(); err == nil && info.Size() >= w.pause/2 {
				return nil
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	return errors.New("two minutes after a quarter of the body was sent, the server has received next to nothing")
}

// ask sends one request; any status of 400 or more is an error.
func ask(client *http.Client, method, url string, body io.Reader, size int64, header http.Header) (*http.Response, error) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		return nil, err
	}
	request.ContentLength = size
	maps.Copy(request.Header, header)
	request.SetBasicAuth("packhouse", token)
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 400 {
		text, _ := io.ReadAll(response.Body)
		response.Body.Close()
		return nil, fmt.Errorf("%s %s: %s: %s", method, url, response.Status, text)
	}
	return response, nil
}

// deployed reads a file of deploy/ and replaces what a person would; each pair must occur.
func deployed(t *testing.T, name string, pairs ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(string(text), pairs[i]) {
			t.Fatalf("deploy/%s has no %q to replace", name, pairs[i])
		}
	}
	return strings.NewReplacer(pairs...).Replace(string(text))
}

func startNginx(t *testing.T, socket, addr, certificate, key string) {
	t.Helper()
	runNginx(t, addr, nginxSite(t, socket, addr, certificate, key))
}

// nginxSite is the configuration of deploy/ for people, with the paths of a test.
func nginxSite(t *testing.T, socket, addr, certificate, key string) string {
	t.Helper()
	return deployed(t, "nginx.conf",
		"/run/packhouse/http.sock", socket,
		"listen 443 ssl", "listen "+addr+" ssl",
		"listen [::]:443 ssl;", "",
		"/etc/ssl/certs/backup.example.org.pem", certificate,
		"/etc/ssl/private/backup.example.org.key", key)
}

// runNginx runs nginx with a site.
func runNginx(t *testing.T, addr, site string) {
	t.Helper()
	program, dir := need(t, "nginx"), shortDir(t)
	writeFile(t, filepath.Join(dir, "site.conf"), site, 0o644)
	user := ""
	if os.Getuid() == 0 {
		user = "user root;\n" // may enter the test's directories
	}
	config := filepath.Join(dir, "nginx.conf")
	writeFile(t, config, user+strings.ReplaceAll(`daemon off;
pid DIR/pid;
error_log DIR/log;
events {}
http {
	access_log off;
	client_body_temp_path DIR/body;
	proxy_temp_path DIR/proxy;
	fastcgi_temp_path DIR/fastcgi;
	uwsgi_temp_path DIR/uwsgi;
	scgi_temp_path DIR/scgi;
	include DIR/site.conf;
}
`, "DIR", dir), 0o644)
	startProxy(t, addr, dir, program, "-e", filepath.Join(dir, "log"), "-p", dir, "-c", config)
}

func startCaddy(t *testing.T, socket, addr, certificate, key string) {
	t.Helper()
	program, dir := need(t, "caddy"), shortDir(t)
	_, port, _ := strings.Cut(addr, ":")
	config := filepath.Join(dir, "Caddyfile")
	writeFile(t, config, "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"+deployed(t, "Caddyfile",
		"backup.example.org {", "https://localhost:"+port+" {\n\ttls "+certificate+" "+key,
		"unix//run/packhouse/http.sock", "unix/"+socket), 0o644)
	startProxy(t, addr, dir, program, "run", "--config", config, "--adapter", "caddyfile")
}

// startProxy runs a proxy until the test ends, and returns when it accepts connections.
func startProxy(t *testing.T, addr, dir, program string, args ...string) {
	t.Helper()
	log, err := os.Create(filepath.Join(dir, "output"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(program, args...)
	cmd.Env = append(os.Environ(), "HOME="+dir, "XDG_DATA_HOME="+dir, "XDG_CONFIG_HOME="+dir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &server{t: t, addr: addr, cmd: cmd, logPath: log.Name(), done: make(chan struct{})}
	go func() {
		p.exit = cmd.Wait()
		close(p.done)
	}()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the proxy's output:\n%s\n%s", tail(log.Name(), 20), tail(filepath.Join(dir, "log"), 20))
		}
		_ = cmd.Process.Signal(syscall.SIGTERM)
		<-p.done
	})
	p.await()
}
