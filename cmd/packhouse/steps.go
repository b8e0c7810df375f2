package main

import (
	"fmt"
	"io"
	"time"

	"github.com/schollz/progressbar/v3"
)

// steps is a bar of steps for people; elsewhere it is a line now and then.
type steps struct {
	w    io.Writer
	bar  *progressbar.ProgressBar // nil: none, or not begun
	said time.Time                // when the last line was printed
}

func newSteps(w io.Writer) *steps { return &steps{w: w} }

// set tells that done of total steps are over and which comes now.
func (p *steps) set(done, total int, step string) {
	if !isTerminal(p.w) {
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

// end takes the bar away.
func (p *steps) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
