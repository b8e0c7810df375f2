package terminal

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Steps is a bar of steps for people; elsewhere it is a line now and then.
type Steps struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil: none, or not begun
	said time.Time                // when the last line was printed
}

// NewSteps begins one. Nothing is printed before its first Set.
func NewSteps(w io.Writer) *Steps { return &Steps{w: w} }

// Set tells that done of total steps are over and which comes now.
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

// End takes the bar away.
func (p *Steps) End() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
