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
		if got, want := out.String(), "laptop: 0B of 24MiB\nlaptop: 10MiB of 24MiB\nlaptop: 20MiB of 24MiB\n"; got != want {
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
	if want := "job queued: 0B of 1KiB\njob running: 0B of 1KiB\n"; out.String() != want {
		t.Errorf("got %q, want %q", out.String(), want)
	}
}
