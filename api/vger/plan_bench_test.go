package vger

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkReadRepackPlan: the text of a plan as clients print it (2 spaces of indentation), into what is kept of it.
func BenchmarkReadRepackPlan(b *testing.B) {
	var text strings.Builder
	text.WriteString("{\n  \"operations\": [")
	for i := range 100 {
		if i > 0 {
			text.WriteByte(',')
		}
		name := fmt.Sprintf("%064x", i)
		fmt.Fprintf(&text, "\n    {\n      \"source_pack\": \"packs/%s/%s\",\n      \"keep_blobs\": [", name[:2], name)
		for j := range 1000 {
			if j > 0 {
				text.WriteByte(',')
			}
			fmt.Fprintf(&text, "\n        {\n          \"offset\": %d,\n          \"length\": %d\n        }", 13+j*2504, 2500)
		}
		text.WriteString("\n      ],\n      \"delete_after\": true\n    }")
	}
	text.WriteString("\n  ],\n  \"hash\": \"blake3\",\n  \"protocol_version\": 2\n}")
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	kept := 0
	for b.Loop() {
		p := &repackPlan{limits: Limits{}.withDefaults()}
		err := p.read(newJSONStream(strings.NewReader(text.String())))
		if err != nil || p.count != 100 || p.wrong != nil {
			b.Fatalf("%+v, %v", p, err)
		}
		kept = len(p.packed)
	}
	b.ReportMetric(float64(kept)/float64(text.Len()), "kept/text")
}
