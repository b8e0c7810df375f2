package layout_test

import (
	"strings"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo/keys"
	"packhouse/repo/layout"
)

func TestSnapshotName(t *testing.T) {
	at := time.Date(2026, 11, 29, 4, 55, 13, 7_000_000, time.FixedZone("", 3600))
	name := layout.SnapshotName(at)
	if got, ok := layout.SnapshotTime(name); !ok || !got.Equal(at) {
		t.Errorf("%s: got %v, %v, want %v", name, got, ok, at)
	}
	if later := layout.SnapshotName(at.Add(time.Millisecond)); later <= name {
		t.Errorf("%s does not sort behind %s", later, name)
	}
	if _, ok := layout.SnapshotTime(name + layout.SnapshotPart); ok || !layout.IsSnapshotPart(name+layout.SnapshotPart) || layout.IsSnapshotPart(name) {
		t.Errorf("%s%s is not told from a snapshot that is whole", name, layout.SnapshotPart)
	}
	for _, other := range []string{"", ".index.zst", "yesterday.index.zst", strings.TrimSuffix(name, ".zst")} {
		if _, ok := layout.SnapshotTime(other); ok {
			t.Errorf("%q is taken for a snapshot", other)
		}
	}
}

// FuzzDecodeLabel: what is read of a label is what is written of it again.
func FuzzDecodeLabel(f *testing.F) {
	item := index.Item{Created: time.UnixMilli(1), Modified: time.UnixMilli(2), Algorithm: "sha256", Sum: []byte{1, 2}, Writer: "w"}
	text, err := layout.EncodeLabel("borgstore", "packs/<a>", item, true)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add([]byte(`{"v":2,"key":"a"}`))
	f.Add([]byte(`{"v":1,"key":"../a"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l, err := layout.DecodeLabel(text)
		if err != nil {
			return
		}
		if err := keys.Check(l.Key); err != nil {
			t.Errorf("key: %v", err)
		}
		again, err := layout.EncodeLabel(l.Dialect, l.Key, l.Item(), l.Exempt)
		if err != nil {
			t.Fatal(err)
		}
		second, err := layout.DecodeLabel(again)
		l.Sum = strings.ToLower(l.Sum)
		if err != nil || second != l {
			t.Errorf("%+v, %v; want %+v", second, err, l)
		}
	})
}
