package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestWorkedExamples runs the shell of the documents as it is printed, on another port.
func TestWorkedExamples(t *testing.T) {
	for file, want := range map[string][]string{
		"README.md": nil,
		"docs/compaction.md": {
			"1 operations make 1 items: 14 bytes read, 14 bytes written, 26 bytes freed; the repository shrinks by 12 bytes", "alive-and well",
		},
	} {
		t.Run(file, func(t *testing.T) { workedExample(t, filepath.Join("..", "..", file), want) })
	}
}

// workedExample runs the one script of a document, which compacts one plan.
func workedExample(t *testing.T, file string, wants []string) {
	for _, tool := range []string{"bash", "curl", "sha256sum"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("the example needs %s: %v", tool, err)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	_, script, found := strings.Cut(string(text), "```sh\n")
	script, _, closed := strings.Cut(script, "```")
	if !found || !closed {
		t.Fatal("there is no example")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	dir := tempDir(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		t.Fatal(err)
	}
	wrapper := fmt.Sprintf("#!/bin/sh\n%s=1 %s exec %q \"$@\"\n", asProgram, raceOptions, self)
	if err := os.WriteFile(filepath.Join(bin, "packhouse"), []byte(wrapper), 0o700); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-eum", "-c", strings.ReplaceAll(script, "8484", port))
	cmd.WaitDelay = time.Second // a server that it left behind has the output open
	cmd.Dir = dir
	cmd.Env = append(cleanEnv(), "PATH="+bin+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	log, _ := os.ReadFile(filepath.Join(dir, "server.log"))
	if err != nil {
		t.Fatalf("got %v\n%s\nserver: %s", err, out, log)
	}
	for _, want := range append(wants, " done: 1 operations, 14 bytes read, 14 bytes written, 26 bytes freed", "\tcompaction\tdone\tnow\t") {
		if !strings.Contains(string(out), want) {
			t.Errorf("got\n%s\nwant %q", out, want)
		}
	}
	if n := strings.Count(string(out), "\tcompaction\t"); n != 1 {
		t.Errorf("jobs: got %d, want 1\n%s", n, out)
	}
}
