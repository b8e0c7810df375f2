package admin

import (
	"fmt"
	"strings"
	"testing"

	"packhouse/compact"
)

// BenchmarkReadPlan: the text of a plan of 100,000 operations, as a program prints it, into what is kept of it.
func BenchmarkReadPlan(b *testing.B) {
	const operations = 100_000
	var text strings.Builder
	text.WriteString(`{"operations":[`)
	for i := range operations {
		if i > 0 {
			text.WriteByte(',')
		}
		fmt.Fprintf(&text, `{"ranges":[["packs/%02x/%064x",%d,%d],["packs/%02x/%064x",%d,%d]],"name":{"algorithm":"sha256","prefix":"packs","levels":1},"delete":["packs/%02x/%064x"]}`,
			i%256, i, 13+i, 2500, i%256, i, 4096+i, 2500, i%256, i)
	}
	text.WriteString(`]}`)
	e := compact.New(compact.Options{})
	defer e.Close()
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		plan := e.NewPlan(compact.Limits{Operations: operations})
		if err := readPlan(strings.NewReader(text.String()), plan, true); err != nil || plan.Len() != operations {
			b.Fatalf("%d operations, %v", plan.Len(), err)
		}
		if err := plan.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
