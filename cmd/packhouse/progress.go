package main

import (
	"io"

	"github.com/schollz/progressbar/v3"
)

// progress is a bar for people; others see nothing of it.
type progress struct {
	w     io.Writer
	title string
	bar   *progressbar.ProgressBar // nil: none, or not begun
}

func newProgress(w io.Writer, title string) *progress { return &progress{w: w, title: title} }

// set moves the bar to n of total bytes.
func (p *progress) set(n, total int64) {
	if !isTerminal(p.w) || total <= 0 {
		return
	}
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(total, progressbar.OptionSetWriter(p.w), progressbar.OptionSetDescription(p.title),
			progressbar.OptionShowBytes(true), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish())
	}
	p.bar.ChangeMax64(max(total, n))
	_ = p.bar.Set64(n) // a bar that cannot be drawn is no error
}

// end takes the bar away.
func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
