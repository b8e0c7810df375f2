package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"packhouse/bench"
)

// fewClients are flags for a run in which little trouble is made.
var fewClients = []string{"--silent", "20", "--uploads", "5", "--readers", "2", "--logins", "3", "--addresses", "2"}

// A run prints figures of each request beside each kind of trouble, writes them as JSON, and leaves nothing behind.
func TestBenchFairness(t *testing.T) {
	t.Parallel()
	dir, out := tempDir(t), filepath.Join(tempDir(t), "run.json")
	args := append([]string{"packhouse", "bench", "fairness", "--dir", dir, "--rounds", "1", "--time", "2s", "--json", out}, fewClients...)
	p := launch(t, program(t, dir, args...))
	<-p.exited
	if code := p.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("got exit code %d: %s", code, p.errs)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var run bench.FairnessRun
	if err := json.Unmarshal(text, &run); err != nil || len(run.Troubles) != 5 || run.Version != bench.FairnessVersion {
		t.Fatalf("got %+v, %v", run, err)
	}
	for _, p := range run.Troubles {
		for _, name := range run.OperationNames() {
			for where, samples := range map[string][]bench.FairnessSample{"alone": p.Alone, "beside": p.Beside} {
				if o := bench.Merged(samples, name); o.Requests == 0 || o.Failures > 0 {
					t.Errorf("%s %s %s: %d requests, failed: %q", name, where, p.Name, o.Requests, o.Errors)
				}
			}
		}
		if r := p.Beside[0].Report; r == nil || r.Connected < int64(p.Trouble.Connections()) {
			t.Errorf("%s: got %+v, want at least %d connections", p.Name, r, p.Trouble.Connections())
		}
	}
	for _, want := range []string{"Beside 20 connections that send nothing", "p99 alone", "login", "processor time", "wrong passwords"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("no %q in the output:\n%s", want, p.out)
		}
	}
	wantEmpty(t, dir)
	wantNoProcess(t, dir)
}

// Ctrl-C ends the server and the clients, and removes what was stored; what was measured is printed.
func TestBenchFairnessInterrupted(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	p := launch(t, program(t, dir, "packhouse", "bench", "fairness", "--dir", dir, "--time", "1s", "--rounds", "5", "--silent", "20", "--uploads", "0", "--readers", "0", "--logins", "0"))
	trouble := 0
	await(t, "process that makes trouble", func() bool {
		trouble = troubleOf(t, p.Process.Pid)
		return trouble != 0
	}, p.errs)
	if err := p.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	<-p.exited
	if code := p.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(p.errs.String(), "interrupted") || !strings.Contains(p.out.String(), "incomplete") {
		t.Errorf("got exit code %d, want %d: %s", code, exitFailure, p.errs)
	}
	wantEmpty(t, dir)
	wantNoProcess(t, dir)
	if err := syscall.Kill(trouble, 0); err == nil {
		t.Error("the process that makes trouble is left")
	}
}

// troubleOf finds the process that makes the trouble of a run; 0: there is none.
func troubleOf(t *testing.T, parent int) int {
	t.Helper()
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", parent))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // a thread may have ended meanwhile, and a process
		for _, child := range strings.Fields(string(text)) {
			command, _ := os.ReadFile("/proc/" + child + "/cmdline")
			if pid, err := strconv.Atoi(child); err == nil && bytes.Contains(command, []byte("--trouble")) {
				return pid
			}
		}
	}
	return 0
}

// wantNoProcess fails if a process runs that has dir in its arguments.
func wantNoProcess(t *testing.T, dir string) {
	t.Helper()
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if text, _ := os.ReadFile(file); bytes.Contains(text, []byte(dir)) { // it may have ended meanwhile
			t.Errorf("a process is left: %s", bytes.ReplaceAll(text, []byte{0}, []byte{' '}))
		}
	}
}

func TestBenchFairnessUsage(t *testing.T) {
	tests := []struct {
		name, args, want string
	}{
		{"no trouble", "--silent 0 --uploads 0 --readers 0 --logins 0", "no trouble"},
		{"below 0", "--silent -1", "below 0"},
		{"rounds", "--rounds 0", "at least 1"},
		{"one connection", "--connections 1", "one for each protocol"},
		{"time", "--time 10ms", "at least 1s"},
		{"no such directory", "--json /nowhere/run.json", "/nowhere"},
		{"files", "--silent 100000000", "open files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"packhouse", "bench", "fairness"}, strings.Fields(tt.args)...), nil, &out, &errs)
			if code != exitUsage || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("got exit code %d, %q, want %d and %q", code, errs.String(), exitUsage, tt.want)
			}
		})
	}
}
