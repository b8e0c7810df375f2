package terminal

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Steps is a bar for a number of steps on a terminal; otherwise it is a line from time to time.
type Steps struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil: none, or not begun
	said time.Time                // when the last line was printed
}

// NewSteps returns a bar of steps. Nothing is printed before the first Set.
func NewSteps(w io.Writer) *Steps { return &Steps{w: w} }

// Set reports that done of total steps are finished, and the name of the next one.
func (p *Steps) Set(done, total int, step string) {
	if !Is(p.w) {
		if now := time.Now(); now.Sub(p.said) >= lineEvery {
			p.said = now
			fmt.Fprintf(p.w, "step %d of %d: %s\n", done+1, total, step)
		}
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions(total, progressbar.OptionSetWriter(p.w), progressbar.OptionShowCount(), progressbar.OptionSetWidth(20),
			progressbar.OptionSetPredictTime(true), progressbar.OptionClearOnFinish())
	}
	p.bar.Describe(step)
	_ = p.bar.Set(done) // a bar that cannot be drawn is no error
}

// End removes the bar.
func (p *Steps) End() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
