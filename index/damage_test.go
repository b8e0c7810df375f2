package index_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/internal/sampling"
)

// Of a page: see page.go.
const (
	headerSize   = 16
	elementSize  = 16
	flagBranch   = 1
	flagLeaf     = 2
	flagMeta     = 4
	flagFreelist = 16
)

// An image is the bytes of a small index, with trees of several levels and every kind of row.
type image struct {
	size int    // of a page
	now  []byte // up to the end of the used pages
	old  []byte // as it was some commits before
	want string // everything in it
	log  string // directory of its log; empty: it has none
}

// lay makes content the file at path, with the log that the image has.
func (m *image) lay(t testing.TB, path string, content []byte) {
	t.Helper()
	layIndex(t, path, content, m.log)
}

// layIndex makes content the file at path, and its log a copy of that in another directory.
func layIndex(t testing.TB, path string, content []byte, log string) {
	t.Helper()
	own := filepath.Join(filepath.Dir(path), "log")
	err := errors.Join(os.RemoveAll(own), os.WriteFile(path, content, 0o600))
	if err == nil && log != "" {
		err = os.CopyFS(own, os.DirFS(log))
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (m *image) pages() int                  { return len(m.now) / m.size }
func (m *image) page(b []byte, n int) []byte { return b[n*m.size : (n+1)*m.size] }

func pageFlags(page []byte) uint16             { return binary.NativeEndian.Uint16(page[8:]) }
func pageCount(page []byte) int                { return int(binary.NativeEndian.Uint16(page[10:])) }
func pageOverflow(page []byte) uint32          { return binary.NativeEndian.Uint32(page[12:]) }
func setPageID(page []byte, n int)             { binary.NativeEndian.PutUint64(page, uint64(n)) }
func setElement(page []byte, i int, b ...byte) { copy(page[headerSize+i*elementSize:], b) }

// makeImage makes one. Its keys are long, so that few fit into a page.
func makeImage(t testing.TB) *image {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	if err := index.Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	long := strings.Repeat("x", 900)
	m := &image{size: os.Getpagesize()}
	for i := range 18 { // so that every bucket has pages of its own
		if i == 15 {
			m.old = readUsed(t, path)
		}
		id := fmt.Sprintf("%03d", i)
		key := func(name string) string { return id + "/" + name }
		apply(t, x, put(key("item"), 1), putRef(key(long), "long-"+id, 1), put(key("source"), 1), put(key("kept"), 1), put(key("gone"), 1))
		apply(t, x, index.AcquireLock{ID: id, Now: clock}, index.PutJob{Job: index.Job{ID: id, Record: make([]byte, 50)}},
			index.SetMeta{Name: id, Value: make([]byte, 50)}, index.Delete{Key: key("gone"), TrashUntil: clock},
			index.Delete{Key: key("kept"), Keep: true, TrashUntil: clock},
			index.OpenPlan{Plan: index.Plan{Principal: "p"}, Sources: []string{key("source")}, Limit: 1 << 40})
		if err := x.Checkpoint(); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, x, index.PutJob{Job: index.Job{ID: "long", Record: make([]byte, 3*m.size)}}) // takes several pages
	m.want = everything(t, x)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	m.now = readUsed(t, path)
	m.log = filepath.Join(filepath.Dir(path), "log")
	m.old = append(m.old, make([]byte, len(m.now)-len(m.old))...)
	return m
}

// readUsed is the bytes of an index's pages, up to the end of those that are used.
func readUsed(t testing.TB, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end, last := uint64(0), uint64(0)
	for n := range 2 {
		meta := b[n*os.Getpagesize()+headerSize:]
		if txid := binary.NativeEndian.Uint64(meta[48:]); txid >= last {
			end, last = binary.NativeEndian.Uint64(meta[40:]), txid
		}
	}
	return b[:int(end)*os.Getpagesize()]
}

// fixSum makes the checksum of a meta page right.
func fixSum(page []byte) {
	sum := fnv.New64a()
	sum.Write(page[headerSize : headerSize+56])
	binary.NativeEndian.PutUint64(page[headerSize+56:], sum.Sum64())
}

// damages are ways in which page n of an image can be wrong. They return false where they do not apply.
func (m *image) damages() map[string]func(page []byte, n int) bool {
	all := map[string]func(page []byte, n int) bool{
		"zeros":   func(page []byte, n int) bool { clear(page); return true },
		"ones":    func(page []byte, n int) bool { fillWith(page, 0xff); return true },
		"content": func(page []byte, n int) bool { fillWith(page[headerSize:], 0xa5); return true },
		"counts":  func(page []byte, n int) bool { page[10], page[11] = 0xff, 0x7f; return true },
		"swapped": func(page []byte, n int) bool { copy(page, m.page(m.now, (n*7+3)%m.pages())); return true },
		"swapped with its own number": func(page []byte, n int) bool {
			copy(page, m.page(m.now, (n*7+3)%m.pages()))
			setPageID(page, n)
			return true
		},
		"stale": func(page []byte, n int) bool {
			copy(page, m.page(m.old, n))
			return true
		},
		"stale with its own number": func(page []byte, n int) bool {
			copy(page, m.page(m.old, n))
			setPageID(page, n)
			return true
		},
		"takes many pages": func(page []byte, n int) bool { copy(page[12:], "\xff\xff\xff\x7f"); return true },
		"takes one page more": func(page []byte, n int) bool {
			page[12]++
			return true
		},
		"elements at the end": func(page []byte, n int) bool { // and longer than it is
			for i := range min(pageCount(page), 20) {
				setElement(page, i, []byte("\x00\x0f\x00\x00\x00\x0f\x00\x00\x00\xff\xff\x3f\x00\xff\xff\x3f")...)
			}
			return true
		},
		"another's child": func(page []byte, n int) bool {
			for other := range m.pages() {
				if p := m.page(m.now, other); pageFlags(p) == flagBranch && pageFlags(page) == flagBranch && other != n {
					copy(page[headerSize+8:headerSize+16], p[headerSize+8:])
					return true
				}
			}
			return false
		},
		"no list of free pages": func(page []byte, n int) bool { // which is no damage: bbolt makes it anew
			if pageFlags(page) != flagMeta {
				return false
			}
			fillWith(page[headerSize+32:headerSize+40], 0xff)
			fixSum(page)
			return true
		},
		"wrong root": func(page []byte, n int) bool {
			if pageFlags(page) != flagMeta {
				return false
			}
			page[headerSize+16]++
			fixSum(page)
			return true
		},
		"huge": func(page []byte, n int) bool {
			if pageFlags(page) != flagMeta {
				return false
			}
			fillWith(page[headerSize+40:headerSize+47], 0xff) // end of the used pages
			fixSum(page)
			return true
		},
		"huge pages": func(page []byte, n int) bool {
			if pageFlags(page) != flagMeta {
				return false
			}
			copy(page[headerSize+8:], "\x00\x00\x00\x80")
			fixSum(page)
			return true
		},
	}
	// A branch whose children are the page itself, or the root of everything, or its parent's.
	for name, child := range map[string]func(n int) int{
		"own child": func(n int) int { return n }, "page 3": func(n int) int { return 3 }, "next page": func(n int) int { return n + 1 },
	} {
		all["branch to "+name] = func(page []byte, n int) bool {
			switch pageFlags(page) {
			case flagBranch:
				for i := range pageCount(page) {
					binary.NativeEndian.PutUint64(page[headerSize+i*elementSize+8:], uint64(child(n)))
				}
			case flagLeaf: // it becomes a branch of the same first key
				if pageCount(page) == 0 {
					return false
				}
				e := page[headerSize:]
				at := binary.NativeEndian.Uint32(e[4:])
				key := bytes.Clone(e[at : at+binary.NativeEndian.Uint32(e[8:])])
				clear(page[8:])
				page[8], page[10] = flagBranch, 1
				binary.NativeEndian.PutUint32(e, elementSize)
				binary.NativeEndian.PutUint32(e[4:], uint32(len(key)))
				binary.NativeEndian.PutUint64(e[8:], uint64(child(n)))
				copy(e[elementSize:], key)
			default:
				return false
			}
			return true
		}
	}
	return all
}

func fillWith(b []byte, value byte) {
	for i := range b {
		b[i] = value
	}
}

// inChild runs fn in another process: what cannot be recovered from, such as a stack that overflows, must be
// seen to be the fault of one case. fn says which one it is at.
func inChild(t *testing.T, fn func(say func(format string, args ...any))) {
	const variable = "PACKHOUSE_TEST_CHILD"
	if last := os.Getenv(variable); last != "" {
		fn(func(format string, args ...any) {
			if err := os.WriteFile(last, fmt.Appendf(nil, format, args...), 0o600); err != nil {
				t.Fatal(err)
			}
		})
		return
	}
	last := filepath.Join(t.TempDir(), "case")
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.timeout=25m")
	cmd.Env = append(os.Environ(), variable+"="+last, sampling.SeedVariable+"="+strconv.FormatUint(sampling.Seed(t), 10))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return
	}
	name, _ := os.ReadFile(last)
	if len(out) > 6000 {
		out = slices.Concat(out[:3000], []byte("\n…\n"), out[len(out)-3000:])
	}
	t.Fatalf("%s: %v\n%s", name, err, out)
}

// caseBounds are how long a case may take, and how much it may allocate.
const (
	caseTime   = 20 * time.Second
	caseMemory = 256 << 20
)

// bounded runs fn within the bounds of a case.
func bounded(t *testing.T, fn func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	done := make(chan any)
	go func() {
		defer func() { done <- recover() }()
		fn()
	}()
	select {
	case v := <-done:
		if v != nil {
			t.Fatalf("panic: %v", v)
		}
	case <-time.After(caseTime):
		stacks := make([]byte, 1<<20)
		t.Fatalf("hangs\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	if runtime.ReadMemStats(&after); after.TotalAlloc-before.TotalAlloc > caseMemory {
		t.Fatalf("allocated %d bytes", after.TotalAlloc-before.TotalAlloc)
	}
}

// useDamaged calls everything. Its results may be any, but where Check finds nothing, all is there that refers to each other.
func useDamaged(t *testing.T, x *index.Index, want string) {
	wantCorrupt := func(what string, err error) {
		if err != nil && !errors.Is(err, index.ErrCorrupt) && !errors.Is(err, index.ErrNotFound) {
			t.Errorf("%s: got %v, want %v", what, err, index.ErrCorrupt)
		}
	}
	report, err := x.Check(background)
	if err != nil {
		t.Errorf("check: %v", err)
	}
	if (x.Damage() == nil) != (len(report.Problems) == 0) {
		t.Errorf("check found %q, and the damage is %v", report.Problems, x.Damage())
	}
	if len(report.Problems) == 0 && want != "" {
		got, want := related(everything(t, x)), related(want)
		for i := range min(len(got), len(want)) {
			if got[i] != want[i] {
				t.Errorf("what was found to be right has changed: got …%.500s\nwant …%.500s", got[max(0, i-200):], want[max(0, i-200):])
				break
			}
		}
	}
	for _, key := range []string{"003", "003/item", "010/" + strings.Repeat("x", 900), "none"} {
		_, err := x.Get(key)
		wantCorrupt("get", err)
	}
	wantCorrupt("list", x.List(background, index.ListOptions{Recursive: true}, func(index.Entry) error { return nil }))
	wantCorrupt("trash", x.Trash(time.Time{}, func(index.Removed) error { return nil }))
	wantCorrupt("jobs", x.Jobs(func(index.Job) error { return nil }))
	wantCorrupt("kept", x.EachKept(func(index.Kept) error { return nil }))
	_, err = x.Locks()
	wantCorrupt("locks", err)
	_, err = x.Meta("003")
	wantCorrupt("meta", err)
	_, _, err = x.HasRef("ref-003/item")
	wantCorrupt("ref", err)
	if n, err := x.WriteTo(discard{}); err != nil && n > 1<<30 {
		t.Errorf("a copy has %d bytes, %v", n, err)
	}
	for i := range 2 {
		id := fmt.Sprintf("%03d", i*9)
		for _, m := range []index.Mutation{
			put(id+"/new", 1), index.Delete{Key: id + "/item", TrashUntil: clock, IgnoreMissing: true}, index.MakeDir{Key: fmt.Sprint("d", i)},
			index.AcquireLock{ID: "new" + id, Now: clock}, index.ExpireLocks{Now: clock.Add(time.Hour)}, index.DeleteJob{ID: id},
			index.ReleaseKept{Bytes: 1, Most: 2, Now: clock}, index.ReturnSince{Now: clock}, index.ProvePlan{ID: uint64(i), Now: clock, Until: clock},
		} {
			if _, err := x.Apply(background, m); errors.Is(err, index.ErrFailed) {
				wantCorrupt("apply", err)
				return
			}
			if err := x.Checkpoint(); err != nil {
				wantCorrupt("checkpoint", err)
			}
		}
	}
	_, _ = x.Apply(background, index.EndPlans{Now: clock})
	wantCorrupt("checkpoint", x.Checkpoint())
}

// related is what refers to each other, so that Check can tell when one part of it is older than the rest.
func related(everything string) string {
	var lines []string
	for line := range strings.Lines(everything) {
		if !strings.HasPrefix(line, "job ") && !strings.HasPrefix(line, "locks ") {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "")
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// TestDamagedPages damages each page of a file in turn, in several ways, before it is opened. Whatever it held, the process
// must live on: each call gives an answer or an error in a bounded time, and Close returns.
func TestDamagedPages(t *testing.T) {
	inChild(t, func(say func(string, ...any)) {
		m := makeImage(t)
		path := filepath.Join(t.TempDir(), "index.db")
		use := func(bad []byte, free bool) {
			m.lay(t, path, bad)
			bounded(t, func() {
				x, err := index.Open(path, index.Options{})
				if err != nil {
					if !errors.Is(err, index.ErrCorrupt) {
						t.Errorf("open: got %v, want ErrCorrupt", err)
					}
					return
				}
				useDamaged(t, x, m.want)
				if err := x.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				if x.Broken() && !free {
					t.Errorf("bbolt was led to a damaged page: %v", x.Failed())
				}
			})
			if t.Failed() {
				t.FailNow()
			}
		}
		share := sampling.NewShare(t, 3)
		for _, name := range slices.Sorted(maps.Keys(m.damages())) {
			damage := m.damages()[name]
			for n := range m.pages() {
				bad := bytes.Clone(m.now)
				if damage(m.page(bad, n), n) && share.Takes() {
					say("%s in page %d", name, n)
					use(bad, false)
				}
			}
		}
		// Single bits of the header and of elements, some of them for each page.
		for n := range m.pages() {
			for bit := range 8 * (headerSize + 3*elementSize) {
				step := 61
				if bit >= 64 && bit < 8*headerSize { // type, counts
					step = 5
				}
				if (bit+n)%step != 0 || !share.Takes() {
					continue
				}
				bad := bytes.Clone(m.now)
				page := m.page(bad, n)
				page[bit/8] ^= 1 << (bit % 8)
				if pageFlags(m.page(m.now, n)) == flagMeta && bit > 8*headerSize {
					fixSum(page)
				}
				say("bit %d of page %d", bit, n)
				// A list of free pages may now have one that follows a leaf: leaves are not read when an index is opened.
				use(bad, pageFlags(m.page(m.now, n)) == flagFreelist)
			}
		}
		// Cut short anywhere.
		for n := range m.pages() {
			say("cut before page %d", n)
			use(m.now[:n*m.size+n%2*100], false)
		}
	})
}

// TestPagesChangeWhileOpen is TestDamagedPages for pages that change, or cannot be read any more, after the index was opened.
func TestPagesChangeWhileOpen(t *testing.T) {
	inChild(t, func(say func(string, ...any)) {
		m := makeImage(t)
		path := filepath.Join(t.TempDir(), "index.db")
		use := func(shared bool, damage func(f *os.File)) {
			m.lay(t, path, m.now)
			bounded(t, func() {
				x, err := index.Open(path, index.Options{})
				if err != nil {
					t.Fatal(err)
				}
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err != nil {
					t.Fatal(err)
				}
				damage(f)
				useDamaged(t, x, m.want)
				if err := errors.Join(x.Close(), f.Close()); err != nil {
					t.Errorf("close: %v", err)
				}
				if x.Broken() && !shared {
					t.Errorf("bbolt was led to a damaged page: %v", x.Failed())
				}
			})
			if t.Failed() {
				t.FailNow()
			}
		}
		share := sampling.NewShare(t, 3)
		for _, name := range slices.Sorted(maps.Keys(m.damages())) {
			damage := m.damages()[name]
			for n := range m.pages() {
				bad := bytes.Clone(m.now)
				if damage(m.page(bad, n), n) && share.Takes() {
					say("%s in page %d", name, n)
					// Where a page is free and used, or used twice, by a branch or a page that takes several, bbolt
					// finds that by itself.
					kind := pageFlags(m.page(bad, n))
					use(kind == flagBranch || pageOverflow(m.page(bad, n)) > 0, func(f *os.File) {
						if _, err := f.WriteAt(m.page(bad, n), int64(n*m.size)); err != nil {
							t.Fatal(err)
						}
					})
				}
			}
		}
		for n := range m.pages() {
			say("cut before page %d", n)
			use(false, func(f *os.File) {
				if err := f.Truncate(int64(n * m.size)); err != nil {
					t.Fatal(err)
				}
			})
		}
	})
}

// TestGuardIsAhead removes rows in an order that has leaves and branches merged with their neighbours, while one page is
// damaged. It is found before bbolt comes to it, or bbolt does not come to it.
func TestGuardIsAhead(t *testing.T) {
	inChild(t, func(say func(string, ...any)) {
		m := makeImage(t)
		path := filepath.Join(t.TempDir(), "index.db")
		long := strings.Repeat("x", 900)
		share := sampling.NewShare(t, 8)
		for n := 2; n < m.pages(); n++ {
			for spared := range 18 {
				if !share.Takes() {
					continue
				}
				say("page %d, all but row %d", n, spared)
				m.lay(t, path, m.now)
				x, err := index.Open(path, index.Options{})
				if err != nil {
					t.Fatal(err)
				}
				damagePage(t, path, n, m.size)
				var muts []index.Mutation
				for i := range 18 {
					if id := fmt.Sprintf("%03d", i); i != spared {
						muts = append(muts, index.Delete{Key: id + "/item", TrashUntil: clock}, index.Delete{Key: id + "/" + long, TrashUntil: clock},
							index.DeleteJob{ID: id}, index.ReleaseLock{ID: id})
					}
				}
				bounded(t, func() {
					_, err := x.Apply(background, muts...)
					if err := errors.Join(err, x.Checkpoint()); err != nil && !errors.Is(err, index.ErrCorrupt) {
						t.Errorf("apply: %v", err)
					}
					if err := x.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				})
				if x.Broken() {
					t.Errorf("bbolt was led to a damaged page: %v", x.Failed())
				}
				if t.Failed() {
					t.FailNow()
				}
			}
		}
	})
}

// damagePage makes a page of a file one that bbolt cannot read.
func damagePage(t testing.TB, path string, n, size int) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteAt(bytes.Repeat([]byte{0xa5}, size), int64(n*size))
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// TestFaultInBegin: where bbolt meets meta pages that it cannot read, it leaves its mutexes locked. The index is given up:
// nobody waits for them, and it can be opened again as soon as the pages are right.
func TestFaultInBegin(t *testing.T) {
	for name, damage := range map[string]func(f *os.File, size int64) error{
		"zeroed": func(f *os.File, size int64) error { _, err := f.WriteAt(make([]byte, 2*size), 0); return err },
		"cut":    func(f *os.File, size int64) error { return f.Truncate(0) },
	} {
		t.Run(name, func(t *testing.T) {
			m := makeImage(t)
			path := filepath.Join(t.TempDir(), "index.db")
			m.lay(t, path, m.now)
			var sound []byte
			x, err := index.Open(path, index.Options{AfterWrite: func() (err error) {
				if sound, err = os.ReadFile(path); err != nil {
					return err
				}
				f, err := os.OpenFile(path, os.O_WRONLY, 0)
				if err != nil {
					return err
				}
				return errors.Join(damage(f, int64(m.size)), f.Close())
			}})
			if err != nil {
				t.Fatal(err)
			}
			bounded(t, func() {
				apply(t, x, put("in the log", 1))
				if err := x.Checkpoint(); !errors.Is(err, index.ErrFailed) || !errors.Is(err, index.ErrCorrupt) {
					t.Errorf("checkpoint: got %v, want %v", err, index.ErrFailed)
				}
				if x.Lost() == nil || !x.Broken() {
					t.Error("the index was not given up")
				}
				for range 100 {
					if _, err := x.Get("003/item"); !errors.Is(err, index.ErrCorrupt) {
						t.Errorf("get: got %v, want %v", err, index.ErrCorrupt)
					}
				}
				if _, err := x.Apply(background, put("refused", 1)); !errors.Is(err, index.ErrCorrupt) {
					t.Errorf("apply: got %v, want %v", err, index.ErrCorrupt)
				}
				if report, err := x.Check(background); err != nil || len(report.Problems) == 0 {
					t.Errorf("check: got %+v, %v", report, err)
				}
				if err := x.Close(); err != nil {
					t.Error(err)
				}
			})
			if _, err := index.Open(path, index.Options{}); !errors.Is(err, index.ErrCorrupt) {
				t.Errorf("open: got %v, want %v", err, index.ErrCorrupt)
			}
			if err := overwrite(path, sound); err != nil {
				t.Fatal(err)
			}
			again := open(t, path, index.Options{})
			if _, err := again.Get("in the log"); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestDamageFailsWhoNeedsIt: of groups that are committed together, those fail alone that need a damaged page.
func TestDamageFailsWhoNeedsIt(t *testing.T) {
	m := makeImage(t)
	path := filepath.Join(t.TempDir(), "index.db")
	m.lay(t, path, m.now)
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	n, _ := x.LeafOf("items", "010\x00item")
	damagePage(t, path, n, m.size)
	flag := func(key string) []index.Mutation {
		return []index.Mutation{index.SetFlags{Key: key, Ref: "ref-" + key, Set: index.FlagDamaged}}
	}
	_, errs := x.ApplyTogether([][]index.Mutation{flag("000/item"), flag("010/item"), flag("003/item")})
	if errs[0] != nil || !errors.Is(errs[1], index.ErrCorrupt) || errs[2] != nil {
		t.Errorf("got %v, want ErrCorrupt for the second", errs)
	}
	if x.Failed() != nil || x.Damage() == nil {
		t.Errorf("failed: %v, damage: %v", x.Failed(), x.Damage())
	}
	if entry, err := x.Get("003/item"); err != nil || entry.Item.Flags != index.FlagDamaged {
		t.Errorf("got %+v, %v", entry, err)
	}
}

// TestPassingReadError: what cannot be read for a moment is an error for that moment.
func TestPassingReadError(t *testing.T) {
	m := makeImage(t)
	path := filepath.Join(t.TempDir(), "index.db")
	m.lay(t, path, m.now)
	x := open(t, path, index.Options{})
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(int64(m.size)); err != nil {
		t.Fatal(err)
	}
	if _, err := x.Get("003/item"); !errors.Is(err, index.ErrCorrupt) {
		t.Errorf("get: got %v, want %v", err, index.ErrCorrupt)
	}
	if _, err := x.Apply(background, put("a", 1)); !errors.Is(err, index.ErrCorrupt) || errors.Is(err, index.ErrFailed) {
		t.Errorf("apply: got %v, want %v alone", err, index.ErrCorrupt)
	}
	if report, err := x.Check(background); err != nil || len(report.Problems) == 0 || x.Damage() == nil {
		t.Errorf("check: got %+v, %v, damage %v", report, err, x.Damage())
	}
	if _, err := f.WriteAt(m.now, 0); err != nil {
		t.Fatal(err)
	}
	equal(t, "content", everything(t, x), m.want)
	apply(t, x, put("a", 1))
	if report, err := x.Check(background); err != nil || len(report.Problems) > 0 || x.Damage() != nil {
		t.Errorf("check afterwards: got %+v, %v, damage %v", report, err, x.Damage())
	}
}

// TestCheckSaysWhere: the pages that are damaged, and the rows in them.
func TestCheckSaysWhere(t *testing.T) {
	m := makeImage(t)
	path := filepath.Join(t.TempDir(), "index.db")
	m.lay(t, path, m.now)
	x, err := index.Open(path, index.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer x.Close()
	n, first := x.LeafOf("items", "010\x00item")
	damagePage(t, path, n, m.size)
	report, err := x.Check(background)
	if err != nil {
		t.Fatal(err)
	}
	if text := strings.Join(report.Problems, "\n"); !strings.Contains(text, fmt.Sprintf("bucket items: index is damaged: page %d: ", n)) ||
		!strings.Contains(text, fmt.Sprintf("rows from %.80q to before", first)) {
		t.Errorf("got %q, want page %d and its rows from %.80q", report.Problems, n, first)
	}
	equal(t, "stored counters", report.Stored, x.Counters())
	if _, err := x.Get("000/item"); err != nil {
		t.Errorf("item of another page: %v", err)
	}
}
