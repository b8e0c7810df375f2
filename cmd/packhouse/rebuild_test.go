package main

import (
	"bytes"
	"strings"
	"testing"

	"packhouse/repo/recovery"
)

// Who reads that blobs were superseded must not take them for lost.
func TestRebuiltSaysWhatCanBeRestored(t *testing.T) {
	for superseded, want := range map[int64]bool{0: false, 3: true} {
		var out bytes.Buffer
		if err := showRebuilt(streams{out: &out}, recovery.RebuildReport{Superseded: superseded}); err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(out.String(), "can be restored for 30 days: packhouse trash"); got != want {
			t.Errorf("%d superseded: got %q", superseded, out.String())
		}
	}
}
