package borgstore_test

import (
	"fmt"
	"strings"
	"testing"

	"packhouse/api/borgstore"
)

// BenchmarkReadSources: a list of 100,000 sources, as borg sends it.
func BenchmarkReadSources(b *testing.B) {
	const sources = 100_000
	var text strings.Builder
	text.WriteByte('[')
	for i := range sources {
		if i > 0 {
			text.WriteString(", ")
		}
		fmt.Fprintf(&text, `["packs/%02x/%064x", %d, %d]`, i%256, i, 13+i, 2500)
	}
	text.WriteByte(']')
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		if got, err := borgstore.ReadSources(strings.NewReader(text.String()), int64(text.Len())); err != nil || len(got) != sources {
			b.Fatalf("%d sources, %v", len(got), err)
		}
	}
}
