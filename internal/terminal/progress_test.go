package terminal

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestPlainProgress: where nobody looks at a bar there is a line at first, and then one every ten seconds.
func TestPlainProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		p := NewProgress(&out, "laptop")
		for n := range int64(25) {
			p.Set(n<<20, 24<<20)
			time.Sleep(time.Second)
		}
		p.End()
		if got, want := out.String(), "laptop: 0 B of 24 MiB\nlaptop: 10 MiB of 24 MiB\nlaptop: 20 MiB of 24 MiB\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

// A title that changes is told at once: who waits for a job sees that it has begun.
func TestProgressTellsItsTitle(t *testing.T) {
	var out strings.Builder
	p := NewProgress(&out, "job queued")
	p.Set(0, 1024)
	p.SetTitle("job running")
	p.Set(0, 1024)
	p.Set(512, 1024)
	if want := "job queued: 0 B of 1 KiB\njob running: 0 B of 1 KiB\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}

// A bar has the units that everything else has.
func TestBarHasBinaryUnits(t *testing.T) {
	var out strings.Builder
	bar := newBar(&out, "laptop", 24<<20)
	if err := bar.Set64(12 << 20); err != nil {
		t.Fatal(err)
	}
	if text := out.String(); !strings.Contains(text, "iB/s") {
		t.Errorf("got %q", text)
	}
}
