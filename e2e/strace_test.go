//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// call is one system call that succeeded: where in the trace it began and ended, and its text.
type call struct {
	begin, end int
	text       string
}

// TestOrderOfSyncs watches the system calls of the real program while it stores one item: the bytes are written
// and synced, then the directory entries, then the index, and only then is the reply sent.
func TestOrderOfSyncs(t *testing.T) {
	strace := need(t, "strace")
	s := newServer(t)
	tokenFile, trace := filepath.Join(s.dir, "token"), filepath.Join(s.dir, "trace")
	writeFile(t, tokenFile, token+"\n", 0o600)
	if out, code := try(t, nil, strace, "-o", "/dev/null", "true"); code != 0 {
		lack(t, "tracing processes is not permitted: "+lastLines(out, 1))
	}
	s.program = strace
	s.args = []string{"-D", "-f", "-y", "-qq", "-s", "40", "-o", trace, "-e", "signal=none",
		"-e", "trace=write,writev,pwrite64,pwritev,fdatasync,fsync,sync_file_range,linkat,rename,renameat,renameat2,unlinkat,sendto",
		packhouse(), "serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json"}
	s.start()
	client := newStoreClient(s, "traced", 1)
	if err := client.create(); err != nil {
		t.Fatal(err)
	}
	if err := client.store("packs/00/first", noise(1, 1<<20)); err != nil { // makes directories
		t.Fatal(err)
	}
	before := len(readTrace(t, trace))
	if err := client.store("packs/00/second", noise(2, 1<<20)); err != nil {
		t.Fatal(err)
	}
	calls := waitTrace(t, trace, before)

	find := func(what, pattern string, after int) call {
		t.Helper()
		expression := regexp.MustCompile(pattern)
		for _, c := range calls {
			if c.begin > after && expression.MatchString(c.text) {
				return c
			}
		}
		var b strings.Builder
		for _, c := range calls {
			fmt.Fprintf(&b, "%4d-%-4d %s\n", c.begin, c.end, c.text)
		}
		t.Fatalf("no %s after line %d of the trace:\n%s", what, after, b.String())
		return call{}
	}
	last := func(pattern string, until int) (found call) {
		expression := regexp.MustCompile(pattern)
		for _, c := range calls {
			if c.end < until && expression.MatchString(c.text) {
				found = c
			}
		}
		return found
	}
	reply := find("reply", `^(write|writev|sendto)\(\d+<(socket|TCP).*"HTTP/1\.1 200 OK`, 0)
	bytes := last(`^p?writev?(64)?\(\d+<[^>]*/incoming/`, reply.begin)
	if bytes.text == "" {
		t.Fatal("no write below incoming/ before the reply")
	}
	data := find("sync of the bytes", `^f(data)?sync\(\d+<[^>]*/incoming/[^>]+>`, bytes.end)
	marker := find("sync of incoming/", `^fsync\(\d+<[^>]*/incoming>`, bytes.end)
	link := find("link to its shard", `^(linkat|renameat2?)\(.*/blobs/[0-9a-f]{2}`, data.end)
	shard := find("sync of the shard's directory", `^fsync\(\d+<[^>]*/blobs/[0-9a-f]{2}>`, link.end)
	page := find("write to the index", `^pwrite(64|v)\(\d+<[^>]*/index\.db>`, shard.end)
	index := last(`^f(data)?sync\(\d+<[^>]*/index\.db>`, reply.begin)
	if index.text == "" || index.begin < page.end {
		t.Fatalf("no sync of the index between its write (line %d) and the reply (line %d)", page.end, reply.begin)
	}
	meta := last(`^pwrite(64|v)\(\d+<[^>]*/index\.db>`, reply.begin)
	if meta.end > index.begin {
		t.Errorf("the last write to the index (line %d) is not before its last sync (line %d)", meta.end, index.begin)
	}
	for _, step := range []struct {
		name          string
		first, second call
	}{
		{"the bytes are written before they are synced", bytes, data},
		{"the bytes are synced before they get a name", data, link},
		{"the marker is synced before the name", marker, link},
		{"the name is given before its directory is synced", link, shard},
		{"the directory is synced before the index is written", shard, page},
		{"the index is synced before the reply", index, reply},
	} {
		if step.first.end >= step.second.begin {
			t.Errorf("%s: no; lines %d and %d of the trace", step.name, step.first.end, step.second.begin)
		}
	}
}

// waitTrace reads the trace until the reply is in it, and drops the first skip calls.
func waitTrace(t *testing.T, path string, skip int) []call {
	t.Helper()
	for range 200 {
		calls := readTrace(t, path)[skip:]
		for _, c := range calls {
			if strings.Contains(c.text, `"HTTP/1.1 200 OK`) {
				return calls
			}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("the trace has no reply")
	return nil
}

var (
	unfinished = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	whole      = regexp.MustCompile(`^(\d+) +(\w+\(.*)$`)
	failed     = regexp.MustCompile(`= -1 E[A-Z]+ `)
)

// readTrace reads strace's output, joining calls that others interrupted. Calls that failed are left out.
func readTrace(t *testing.T, path string) []call {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var calls []call
	open := make(map[string]call) // by thread
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for n := 1; lines.Scan(); n++ {
		line := lines.Text()
		if m := unfinished.FindStringSubmatch(line); m != nil {
			open[m[1]] = call{begin: n, text: m[2]}
			continue
		}
		c := call{begin: n, end: n}
		if m := resumed.FindStringSubmatch(line); m != nil {
			c = open[m[1]]
			c.end, c.text = n, c.text+m[3]
		} else if m := whole.FindStringSubmatch(line); m != nil {
			c.text = m[2]
		} else {
			continue
		}
		if !failed.MatchString(c.text) {
			calls = append(calls, c)
		}
	}
	return calls
}
