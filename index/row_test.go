package index

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	bolt "go.etcd.io/bbolt"
)

// readsAlike holds that a Row takes exactly the records that Entry decodes, and says the same of them.
func readsAlike(t *testing.T, row string, record []byte) {
	t.Helper()
	var r Row
	err := r.set([]byte(row), record)
	entry, decodeErr := (&Row{row: []byte(row), value: record, Dir: isDirRow([]byte(row))}).Entry()
	if (err == nil) != (decodeErr == nil) || err != nil && !errors.Is(err, ErrCorrupt) {
		t.Fatalf("%x: a row: %v, decoded: %v", record, err, decodeErr)
	}
	if err != nil {
		return
	}
	want := Row{Dir: entry.Dir, Created: entry.Item.Created.UnixMilli()}
	if !entry.Dir {
		want.Flags, want.Size, want.Modified = entry.Item.Flags, entry.Item.Size, entry.Item.Modified.UnixMilli()
	}
	got := Row{Dir: r.Dir, Flags: r.Flags, Size: r.Size, Created: r.Created, Modified: r.Modified}
	if !reflect.DeepEqual(got, want) {
		t.Fatalf("%x: got %+v, want %+v", record, got, want)
	}
}

// A row reads what is stored, whole, cut short and with any byte changed, as Entry does.
func TestRowReadsRecords(t *testing.T) {
	for _, r := range goldenRecords {
		row := "a\x00b"
		if r.file == "directory-1" {
			row = "a\x00b\x00"
		}
		record := r.encode()
		readsAlike(t, row, append(bytes.Clone(record), 0))
		for n := range record {
			readsAlike(t, row, record[:n])
			for _, b := range []byte{0, 1, 2, 0x7f, 0x80, 0xff} {
				changed := bytes.Clone(record)
				changed[n] = b
				readsAlike(t, row, changed)
			}
		}
		readsAlike(t, row, record)
	}
	zero := goldenSource
	zero.Plan = 0
	record := encodeItem(&zero)
	copy(record[len(record)-8:], appendTime(nil, Item{}.Found)) // the zero time, where there may be another or none
	readsAlike(t, "a", record)
}

func FuzzRow(f *testing.F) {
	addRecords(f, "item")
	addRecords(f, "directory")
	f.Fuzz(func(t *testing.T, record []byte) {
		readsAlike(t, "a\x00b", record)
		readsAlike(t, "a\x00b\x00", record)
	})
}

func TestRowKeys(t *testing.T) {
	for _, test := range []struct{ row, key, name string }{
		{"a", "a", "a"}, {"a\x00", "a", "a"}, {"a\x00b!\x00", "a/b!", "b!"}, {"a\x00b\x00c", "a/b/c", "c"}, {"é\x00ü", "é/ü", "ü"},
	} {
		r := Row{row: []byte(test.row), Dir: isDirRow([]byte(test.row))}
		clone := r.Clone()
		for _, r := range []*Row{&r, clone} {
			if r.Key() != test.key || string(r.AppendKey([]byte{0})[1:]) != test.key || string(r.Name()) != test.name || r.Compare(clone) != 0 {
				t.Errorf("%q: got key %q, appended %q, name %q", test.row, r.Key(), r.AppendKey(nil), r.Name())
			}
		}
		if clear(r.row); clone.Key() != test.key {
			t.Errorf("%q: the clone shares its memory", test.row)
		}
	}
}

// The number of allocations of a listing does not depend on that of its rows, and it has those that List has.
func TestRowsAllocateNothing(t *testing.T) {
	x := newTestIndex(t)
	allocated := map[int]float64{}
	var page []byte
	for _, n := range []int{100, 2000} {
		dir := fmt.Sprint(n)
		var muts []Mutation
		for i := range n {
			muts = append(muts, Put{Key: fmt.Sprintf("%s/%d", dir, i), Limit: -1, Item: Item{Ref: fmt.Sprint(n, " ", i), Sum: make([]byte, 32)}})
		}
		if _, err := x.Apply(t.Context(), muts...); err != nil {
			t.Fatal(err)
		}
		if n == 2000 { // half of them in the file, and half in the overlay
			if err := x.Checkpoint(); err != nil {
				t.Fatal(err)
			}
		}
		allocated[n] = testing.AllocsPerRun(10, func() {
			visited := 0
			err := x.Rows(t.Context(), ListOptions{Dir: dir, Recursive: true}, func(r *Row) error {
				visited++
				page = r.AppendKey(page[:0])
				return nil
			})
			if err != nil || visited != n {
				t.Fatal(visited, err)
			}
		})
	}
	if allocated[2000] > allocated[100]+5 {
		t.Errorf("100 rows take %v allocations, 2000 take %v", allocated[100], allocated[2000])
	}
}

func newTestIndex(t *testing.T) *Index {
	t.Helper()
	path := filepath.Join(t.TempDir(), "index.db")
	if err := Create(path, nil); err != nil {
		t.Fatal(err)
	}
	x, err := Open(path, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = x.Close() })
	return x
}

// A page that can no longer be read when fn looks at its row is damage of the index, no panic of fn.
func TestRowOfAPageThatIsGone(t *testing.T) {
	x := newTestIndex(t)
	if _, err := x.Apply(t.Context(), Put{Key: "a", Limit: -1, Item: Item{Ref: "r"}}); err != nil {
		t.Fatal(err)
	}
	if err := x.Checkpoint(); err != nil {
		t.Fatal(err)
	}
	err := x.Rows(t.Context(), ListOptions{}, func(r *Row) error {
		if err := os.Truncate(filepath.Join(x.dir, "index.db"), 0); err != nil {
			t.Error(err)
		}
		_ = r.Key()
		return nil
	})
	if !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v, want ErrCorrupt", err)
	}
}

// A cursor over file and overlay visits what a map of both has, from wherever it is set.
func TestRowCursor(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	key := func() string { return fmt.Sprintf("%04d", random.IntN(3000)) }
	for round := range 60 {
		x := newTestIndex(t)
		rows := map[string]string{}
		set := func(k, value string, over *overlay) {
			rows[k] = value
			if over != nil {
				over.set(bucketItems, k, []byte(value))
			}
		}
		err := x.Tamper(func(tx *bolt.Tx) error {
			for range random.IntN(1 + round*40) {
				k := key()
				set(k, "file", nil)
				if err := tx.Bucket([]byte("items")).Put([]byte(k), []byte("file")); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		var over overlay
		for range random.IntN(1 + round) {
			set(key(), "overlay", &over)
		}
		for range random.IntN(1 + round) {
			k := key()
			delete(rows, k)
			over.set(bucketItems, k, nil)
		}
		var sorted []string
		for k := range rows {
			sorted = append(sorted, k)
		}
		slices.Sort(sorted)
		err = x.view(func(v *view) error {
			c := newView(v.snapshot, &over).Bucket(bucketItems).Cursor()
			for range 20 {
				from := key()
				at, _ := slices.BinarySearch(sorted, from)
				got, value := c.Seek([]byte(from))
				if random.IntN(4) == 0 {
					at = 0
					got, value = c.First()
				}
				for steps := random.IntN(3000); steps > 0 && at < len(sorted); steps-- {
					if string(got) != sorted[at] || string(value) != rows[sorted[at]] {
						t.Fatalf("round %d, from %s: got %q %q, want %q %q", round, from, got, value, sorted[at], rows[sorted[at]])
					}
					at++
					got, value = c.Next()
				}
				if at == len(sorted) && got != nil {
					t.Fatalf("round %d, from %s: got %q, want the end", round, from, got)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}
