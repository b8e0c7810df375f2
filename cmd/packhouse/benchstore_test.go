package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"packhouse/bench"
)

// A run prints its tables and writes its JSON, and leaves nothing in the directory.
func TestBenchStore(t *testing.T) {
	t.Parallel()
	dir, out := tempDir(t), filepath.Join(tempDir(t), "run.json")
	page := filepath.Join(filepath.Dir(out), "run.html")
	p := launch(t, program(t, dir, "packhouse", "bench", "store", "--dir", dir, "--only", "put8k@1,batchdelete,list20k", "--quick", "--scale", "0.01", "--json", out))
	<-p.exited
	if code := p.ProcessState.ExitCode(); code != 2 {
		t.Errorf("a workload that is not in this mode: got exit code %d, want 2: %s", code, p.errs)
	}
	p = launch(t, program(t, dir, "packhouse", "bench", "store", "--dir", dir, "--only", "put8k@1,batchdelete,mixed", "--scale", "0.002", "--json", out, "--report", page))
	<-p.exited
	if code := p.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("got exit code %d: %s", code, p.errs)
	}
	for _, want := range []string{"put8k@1", "batchdelete8k@1", "mixed", "packhouse-vger", "floor", "its protocol deletes one item at a time"} {
		if !strings.Contains(p.out.String(), want) {
			t.Errorf("no %q in the output:\n%s", want, p.out)
		}
	}
	if !strings.Contains(p.errs.String(), "iB of disk") || !strings.Contains(p.errs.String(), "step 1 of ") {
		t.Errorf("nothing said of disk and progress: %s", p.errs)
	}
	text, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	run, err := bench.ReadRun(bytes.NewReader(text))
	if err != nil || len(run.Workloads) != 3 || run.Settings.Rounds != 3 || run.Settings.Mode != bench.Default {
		t.Errorf("got %+v, %v", run, err)
	}
	wantEmpty(t, dir)
	testBenchShow(t, out, page)
}

// testBenchShow shows a stored run again: the same page, and no change beside itself.
func testBenchShow(t *testing.T, stored, page string) {
	t.Helper()
	var out, errs bytes.Buffer
	again := filepath.Join(tempDir(t), "again.html")
	if code := run(t.Context(), []string{"packhouse", "bench", "show", stored, "--report", again}, nil, &out, &errs); code != 0 {
		t.Fatalf("show: got exit code %d: %s", code, &errs)
	}
	first, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	second, err := os.ReadFile(again)
	if err != nil || !bytes.Equal(first, second) || !bytes.Contains(first, []byte("<svg")) {
		t.Errorf("pages of %d and %d bytes, %v", len(first), len(second), err)
	}
	table := out.Len()
	if code := run(t.Context(), []string{"packhouse", "bench", "show", stored, "--compare", stored}, nil, &out, &errs); code != 0 {
		t.Fatalf("compare: got exit code %d: %s", code, &errs)
	}
	if out.Len() <= 2*table {
		t.Error("nothing is said of the comparison")
	}
}

// Ctrl-C and SIGTERM end the servers and remove what was stored.
func TestBenchStoreInterrupted(t *testing.T) {
	t.Parallel()
	for _, signal := range []os.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			dir := tempDir(t)
			p := launch(t, program(t, dir, "packhouse", "bench", "store", "--dir", dir, "--only", "get8k@1", "--scale", "100"))
			await(t, "server that runs", func() bool {
				logs, err := filepath.Glob(filepath.Join(dir, "*", "floor-*.log"))
				if err != nil {
					t.Fatal(err)
				}
				return len(logs) > 0
			}, p.errs)
			if err := p.Process.Signal(signal); err != nil {
				t.Fatal(err)
			}
			<-p.exited
			if code := p.ProcessState.ExitCode(); code != exitFailure || !strings.Contains(p.errs.String(), "interrupted") {
				t.Errorf("got exit code %d, want %d: %s", code, exitFailure, p.errs)
			}
			wantEmpty(t, dir)
			wantNoProcess(t, dir)
		})
	}
}

func wantEmpty(t *testing.T, dir string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("%s is not empty: %v, %v", dir, entries, err)
	}
}

func TestBenchStoreUsage(t *testing.T) {
	tests := []struct {
		name, args, want string
	}{
		{"rounds", "--rounds 2", "at least 3"},
		{"only", "--only nothing", `no workload "nothing"`},
		{"modes", "--quick --long", "cannot be used together"},
		{"peer without a path", "--peer vykar", "NAME=PATH"},
		{"unknown peer", "--peer mine=/bin/true", "borgstore, rest-server, vykar"},
		{"missing peer", "--peer vykar=/nowhere/vykar-server", "/nowhere/vykar-server"},
		{"no such directory", "--only put8k@1 --report /nowhere/run.html", "/nowhere"},
		{"peer twice", "--peer vykar=/bin/true --peer vykar=/bin/true", "twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out, errs bytes.Buffer
			code := run(t.Context(), append([]string{"packhouse", "bench", "store"}, strings.Fields(tt.args)...), nil, &out, &errs)
			if code != exitUsage || !strings.Contains(errs.String(), tt.want) {
				t.Errorf("got exit code %d, %q, want %d and %q", code, errs.String(), exitUsage, tt.want)
			}
		})
	}
}

// Profiles are of the measured part of each sample.
func TestBenchStoreProfiles(t *testing.T) {
	t.Parallel()
	dir, out := tempDir(t), filepath.Join(tempDir(t), "profiles")
	args := []string{"packhouse", "bench", "store", "--dir", dir, "--only", "put8k@1", "--scale", "0.01", "--profiles", out}
	p := launch(t, program(t, dir, args...))
	<-p.exited
	if code := p.ProcessState.ExitCode(); code != 0 {
		t.Fatalf("got exit code %d: %s", code, p.errs)
	}
	for _, sample := range []string{"put8k@1-packhouse-1", "put8k@1-packhouse-vger-3"} {
		for _, name := range []string{"cpu", "allocs-before", "allocs", "mutex-before", "mutex"} {
			text, err := os.ReadFile(filepath.Join(out, sample, name+".pprof"))
			if err != nil || !bytes.HasPrefix(text, []byte{0x1f, 0x8b}) { // gzip
				t.Errorf("%s of %s: %d bytes, %v", name, sample, len(text), err)
			}
		}
	}
	p = launch(t, program(t, dir, args...))
	<-p.exited
	if code := p.ProcessState.ExitCode(); code != exitUsage {
		t.Errorf("over other profiles: got exit code %d, want %d: %s", code, exitUsage, p.errs)
	}
}
