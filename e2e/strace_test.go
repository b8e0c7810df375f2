//go:build e2e

package e2e

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// call is one system call that succeeded: where in the trace it began and ended, and its text.
type call struct {
	begin, end int
	text       string
}

// tracedServer is a server whose system calls are written down.
type tracedServer struct {
	*server
	path    string // of the trace
	replies int    // to requests so far
}

// startTraced runs the server under strace.
func startTraced(t *testing.T) *tracedServer {
	t.Helper()
	strace := need(t, "strace")
	s := &tracedServer{server: newServer(t)}
	tokenFile := filepath.Join(s.dir, "token")
	s.path = filepath.Join(s.dir, "trace")
	writeFile(t, tokenFile, token+"\n", 0o600)
	if out, code := try(t, nil, strace, "-o", "/dev/null", "true"); code != 0 {
		lack(t, "tracing processes is not permitted: "+lastLines(out, 1))
	}
	s.program = strace
	s.args = []string{"-D", "-f", "-y", "-qq", "-s", "40", "-o", s.path, "-e", "signal=none",
		"-e", "trace=write,writev,pwrite64,pwritev,fdatasync,fsync,sync_file_range,linkat,rename,renameat,renameat2,unlink,unlinkat,sendto",
		packhouse(), "serve", "--listen", s.addr, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json"}
	s.start()
	return s
}

var (
	replyCall = regexp.MustCompile(`^(write|writev|sendto)\(\d+<(socket|TCP).*"HTTP/1\.1 200 OK`)
	logRecord = regexp.MustCompile(`^pwrite(64|v)\(\d+<[^>]*/log/[0-9a-f]{16}>, "\\247PHr`)
	logSync   = regexp.MustCompile(`^f(data)?sync\(\d+<[^>]*/log/[0-9a-f]{16}>`)
	bytesCall = regexp.MustCompile(`^p?writev?(64)?\(\d+<[^>]*/incoming/`)
	bytesSync = regexp.MustCompile(`^f(data)?sync\(\d+<[^>]*/incoming/[^>]+>`)
	sumsCall  = regexp.MustCompile(`^p?writev?(64)?\(\d+<[^>]*/blobs/[0-9a-f]{2}/[0-9a-f]{32}\.sums>`)
	sumsSync  = regexp.MustCompile(`^f(data)?sync\(\d+<[^>]*/blobs/[0-9a-f]{2}/[0-9a-f]{32}\.sums>`)
	entrySync = regexp.MustCompile(`^fsync\(\d+<[^>]*/incoming>`)
	nameCall  = regexp.MustCompile(`^(linkat|renameat2?|rename)\(.*["/]blobs/[0-9a-f]{2}`)
	shardSync = regexp.MustCompile(`^fsync\(\d+<[^>]*/blobs/[0-9a-f]{2}>`)
	blobGone  = regexp.MustCompile(`^unlink(at)?\(.*["/]blobs/[0-9a-f]{2}/`)
)

// calls sends one request, which must succeed, and returns the system calls from its beginning until its
// reply and, if until is not nil, until that call.
func (s *tracedServer) calls(request func() error, until *regexp.Regexp) tracedCalls {
	t := s.t
	t.Helper()
	before := len(s.trace())
	if err := request(); err != nil {
		t.Fatal(err)
	}
	s.replies++
	for range 3000 {
		all := s.trace()
		if s.replies == countCalls(all, replyCall) && (until == nil || countCalls(all[min(before, len(all)):], until) > 0) {
			return tracedCalls{t, all[before:]}
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("after a minute the trace has %d replies, want %d, and %v", countCalls(s.trace(), replyCall), s.replies, until)
	return tracedCalls{}
}

// trace reads the trace so far.
func (s *tracedServer) trace() []call { return readTrace(s.t, s.path) }

func countCalls(calls []call, pattern *regexp.Regexp) int {
	n := 0
	for _, c := range calls {
		if pattern.MatchString(c.text) {
			n++
		}
	}
	return n
}

// tracedCalls are those of one request.
type tracedCalls struct {
	t     testing.TB
	calls []call
}

// first is the first matching call that began after a line of the trace.
func (c tracedCalls) first(what string, pattern *regexp.Regexp, after int) call {
	c.t.Helper()
	for _, found := range c.calls {
		if found.begin > after && pattern.MatchString(found.text) {
			return found
		}
	}
	var b strings.Builder
	for _, each := range c.calls {
		fmt.Fprintf(&b, "%4d-%-4d %s\n", each.begin, each.end, each.text)
	}
	c.t.Fatalf("no %s after line %d of the trace:\n%s", what, after, b.String())
	return call{}
}

// last is the last matching call that ended before a line of the trace.
func (c tracedCalls) last(what string, pattern *regexp.Regexp, until int) (found call) {
	c.t.Helper()
	for _, each := range c.calls {
		if each.end < until && pattern.MatchString(each.text) {
			found = each
		}
	}
	if found.text == "" {
		c.t.Fatalf("no %s before line %d of the trace", what, until)
	}
	return found
}

// inOrder demands that each call had ended when the next began. names[i] says what it means that calls[i] is
// before calls[i+1].
func (c tracedCalls) inOrder(names []string, calls ...call) {
	c.t.Helper()
	for i, name := range names {
		if calls[i].end >= calls[i+1].begin {
			c.t.Errorf("%s: no; lines %d and %d of the trace", name, calls[i].end, calls[i+1].begin)
		}
	}
}

// committed demands that a record of the log is written and synced between a line of the trace and the reply, with
// no record written after the sync, and returns the first write, the sync and the reply.
func (c tracedCalls) committed(after int) (record, sync, reply call) {
	c.t.Helper()
	reply = c.first("reply", replyCall, 0)
	record = c.first("write to the log", logRecord, after)
	last := c.last("write to the log", logRecord, reply.begin)
	sync = c.first("sync of the log", logSync, last.end)
	c.inOrder([]string{"the log is written before it is synced", "the log is synced before the reply"}, last, sync, reply)
	return record, sync, reply
}

// stored demands the order of a commit of new bytes, and returns the sync of the log.
func (c tracedCalls) stored() (sync call) {
	c.t.Helper()
	reply := c.first("reply", replyCall, 0)
	bytes := c.last("write below incoming/", bytesCall, reply.begin)
	marker := c.first("sync of incoming/", entrySync, 0)
	name := c.first("link to its shard", nameCall, bytes.end)
	sums := c.last("write of the checksums", sumsCall, reply.begin)
	data := c.first("sync of the bytes", bytesSync, bytes.end)
	sumsData := c.first("sync of the checksums", sumsSync, sums.end)
	shard := c.first("sync of the shard's directory", shardSync, sums.end)
	record, sync, _ := c.committed(max(data.end, sumsData.end, shard.end))
	c.inOrder([]string{
		"the marker is synced before the blob gets a name",
		"the blob gets its name before its checksums are made",
		"the checksums have their name before the directory is synced",
		"the directory is synced before the log is written",
	}, marker, name, sums, shard, record)
	c.inOrder([]string{"the bytes are written before they are synced", "the bytes are synced before the log is written"}, bytes, data, record)
	c.inOrder([]string{"the checksums are written before they are synced", "the checksums are synced before the log is written"}, sums, sumsData, record)
	return sync
}

// TestOrderOfSmallItems: the bytes of a small item are written to the log with its row, and synced before the reply; no file is made for it.
func TestOrderOfSmallItems(t *testing.T) {
	s := startTraced(t)
	client := newStoreClient(s.server, "traced", 1)
	s.calls(client.create, nil)
	for i := range 3 {
		stored := s.calls(func() error { return client.store(fmt.Sprintf("packs/00/small %d", i), noise(uint64(i), 8<<10)) }, nil)
		record, sync, _ := stored.committed(0)
		size := regexp.MustCompile(`= (\d+)$`).FindStringSubmatch(record.text)
		if size == nil {
			t.Fatalf("write to the log: %s", record.text)
		}
		if n, err := strconv.Atoi(size[1]); err != nil || n < 8<<10 {
			t.Errorf("the record has %d bytes, want those of the item in it", n)
		}
		for _, each := range stored.calls {
			if each.begin < sync.begin && (bytesCall.MatchString(each.text) || nameCall.MatchString(each.text) || entrySync.MatchString(each.text)) {
				t.Errorf("a file for a small item: %s", each.text)
			}
		}
	}
}

var (
	indexWrite = regexp.MustCompile(`^pwrite64\(\d+<[^>]*/index\.db[^>/]*>,.*, (\d+)\) += (\d+)$`)
	indexSync  = regexp.MustCompile(`^f(data)?sync\(\d+<[^>]*/index\.db[^>/]*>`)
)

// TestOrderOfCheckpoint watches how bbolt writes the file of the index: pages, a sync, one meta page, a sync. The tests that
// simulate power cuts assume that order (vfstest.Bolt).
func TestOrderOfCheckpoint(t *testing.T) {
	s := startTraced(t)
	client := newStoreClient(s.server, "traced", 1)
	s.calls(client.create, nil)
	s.calls(func() error { return client.store("packs/00/item", noise(1, 8<<10)) }, nil)
	const checkpoints = 3 // creating the index, making its log, and the first checkpoint
	for range 3000 {
		if commitsOf(t, s.trace()) >= checkpoints {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatalf("after a minute the index has %d commits, want %d", commitsOf(t, s.trace()), checkpoints)
}

// commitsOf counts the commits of bbolt, and wants each to be in order.
func commitsOf(t *testing.T, calls []call) (commits int) {
	t.Helper()
	page := os.Getpagesize()
	var pages, synced, meta call // the last of each since the last commit
	for _, c := range calls {
		write := indexWrite.FindStringSubmatch(c.text)
		switch {
		case write == nil && !indexSync.MatchString(c.text):
			continue
		case write == nil && meta.text != "": // the commit is complete
			commits++
			pages, synced, meta = call{}, call{}, call{}
			continue
		case write == nil:
			synced = c
			continue
		}
		at, atErr := strconv.Atoi(write[1])
		n, err := strconv.Atoi(write[2])
		switch {
		case atErr != nil || err != nil || meta.text != "":
			t.Errorf("a write between a meta page and its sync: %s", c.text)
		case at == 0 && n == 4*page: // a new file
		case at >= 2*page:
			pages = c
		case pages.text == "" || synced.begin <= pages.end || c.begin <= synced.end:
			t.Errorf("a meta page is written before the pages are synced: %q, %q, %q", pages.text, synced.text, c.text)
		default:
			meta = c
		}
	}
	return commits
}

// TestOrderOfSyncs watches the system calls of the real program. Of an item stored, the bytes, their checksums and the
// directory entries are synced, then the log with the rows of the index, and only then is the reply sent. A delete is answered
// when the log is synced, and the bytes go after that. A compaction is both: the new item as if it were stored, and the bytes
// that it replaces go after the log is synced.
func TestOrderOfSyncs(t *testing.T) {
	s := startTraced(t)
	client := newStoreClient(s.server, "traced", 1)
	s.calls(client.create, nil)
	store := func(name string, seed uint64) func() error {
		return func() error { return client.store(name, noise(seed, 1<<20)) }
	}
	s.calls(store("packs/00/first", 1), nil) // makes directories

	s.calls(store("packs/00/second", 2), nil).stored()

	removed := s.calls(func() error { return client.delete("packs/00/second") }, blobGone)
	_, sync, _ := removed.committed(0)
	removed.inOrder([]string{"the removal of an item is in the log before its bytes go"}, sync, removed.first("unlink", blobGone, 0))

	compacted := s.calls(func() error {
		_, err := client.defrag([]source{{"packs/00/first", 1000, 200_000}}, "packs/00/first", "packs")
		return err
	}, blobGone)
	sync = compacted.stored()
	compacted.inOrder([]string{"the log has the new item before the old one's bytes go"}, sync, compacted.first("unlink", blobGone, 0))
}

var (
	unfinished = regexp.MustCompile(`^(\d+) +(\w+\(.*) <unfinished \.\.\.>$`)
	resumed    = regexp.MustCompile(`^(\d+) +<\.\.\. (\w+) resumed>(.*)$`)
	whole      = regexp.MustCompile(`^(\d+) +(\w+\(.*)$`)
	failed     = regexp.MustCompile(`= -1 E[A-Z]+ `)
)

// readTrace reads strace's output, joining calls that others interrupted. Calls that failed are left out.
func readTrace(t testing.TB, path string) []call {
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
