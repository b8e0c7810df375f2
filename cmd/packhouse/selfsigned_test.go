package main

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestSelfSigned: the certificate is made once, is the one whose fingerprint is printed, and is all that a client needs to trust the server.
func TestSelfSigned(t *testing.T) {
	dir := tempDir(t)
	own := filepath.Join(dir, "packhouse-data", ".packhouse")
	start := func() (*running, string) {
		s := startServer(t, dir, "--tls-self-signed")
		return s, s.out.await(t, `SHA-256 fingerprint of the server's own certificate:\s+([0-9A-F:]{95})\n`)[1]
	}
	s, fingerprint := start()
	if !strings.HasPrefix(s.url, "https://") {
		t.Fatalf("got %s, want https", s.url)
	}
	text, err := os.ReadFile(filepath.Join(own, certificateFile))
	if err != nil || strings.Contains(string(text), "PRIVATE") {
		t.Fatalf("the certificate for clients: got %s, %v", text, err)
	}
	if info, err := os.Stat(filepath.Join(own, selfSignedFile)); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key: got %v, %v, want mode 0600", info, err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(text) {
		t.Fatal("no certificate for clients")
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	for _, address := range []string{s.url, strings.Replace(s.url, "127.0.0.1", "localhost", 1)} {
		resp, err := client.Get(address + "/health")
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: got %s", address, resp.Status)
		}
	}
	if _, err := http.Get(s.url + "/health"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("a client that does not know it: got %v", err)
	}
	if code := s.stop(t, syscall.SIGTERM); code != 0 {
		t.Fatalf("got %d\n%s", code, s.errs)
	}
	if _, again := start(); again != fingerprint {
		t.Errorf("after a restart: got %s, want %s", again, fingerprint)
	}

	file := filepath.Join(dir, "f.toml")
	write(t, file, "[server]\ntls_self_signed = true\ntls_cert = 'a'\ntls_key = 'b'\n")
	if code, _, errs := runHere(t, "config", "check", file); code != 1 || !strings.Contains(errs, "tls_self_signed and tls_cert exclude each other") {
		t.Errorf("got %d, %s", code, errs)
	}
}
