package vger

import (
	"fmt"
	"strings"
	"testing"

	"packhouse/internal/jsonstream"
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
		err := p.read(jsonstream.New(strings.NewReader(text.String())))
		if err != nil || p.count != 100 || p.wrong != nil {
			b.Fatalf("%+v, %v", p, err)
		}
		kept = len(p.packed)
	}
	b.ReportMetric(float64(kept)/float64(text.Len()), "kept/text")
}

// BenchmarkReadManyOperations: a plan of 100,000 operations of one blob each, without indentation.
func BenchmarkReadManyOperations(b *testing.B) {
	const operations = 100_000
	var text strings.Builder
	text.WriteString(`{"operations":[`)
	for i := range operations {
		if i > 0 {
			text.WriteByte(',')
		}
		name := fmt.Sprintf("%064x", i)
		fmt.Fprintf(&text, `{"source_pack":"packs/%s/%s","keep_blobs":[{"offset":%d,"length":2500}],"delete_after":true}`, name[:2], name, 13+i)
	}
	text.WriteString(`],"hash":"blake3","protocol_version":2}`)
	limits := Limits{Operations: operations}.withDefaults()
	b.SetBytes(int64(text.Len()))
	b.ReportAllocs()
	for b.Loop() {
		p := &repackPlan{limits: limits}
		if err := p.read(jsonstream.New(strings.NewReader(text.String()))); err != nil || p.count != operations || p.wrong != nil {
			b.Fatalf("%d operations, %v, %v", p.count, err, p.wrong)
		}
	}
}
