package terminal

import (
	"fmt"
	"io"
	"time"

	"packhouse/internal/bytesize"

	"github.com/schollz/progressbar/v3"
)

// Progress is a bar on a terminal; otherwise it is a line from time to time, and a line whenever the title changes.
type Progress struct {
	w     io.Writer
	title string
	bar   *progressbar.ProgressBar // nil: none, or not begun
	said  time.Time                // when the last line was printed
	under string                   // its title
}

// lineEvery is the time between two lines.
const lineEvery = 10 * time.Second

// NewProgress returns a progress bar. Nothing is printed before the first Set.
func NewProgress(w io.Writer, title string) *Progress { return &Progress{w: w, title: title} }

// SetTitle changes the title.
func (p *Progress) SetTitle(title string) {
	p.title = title
	if p.bar != nil {
		p.bar.Describe(title)
	}
}

// Set reports that n of total bytes are done.
func (p *Progress) Set(n, total int64) {
	if !Is(p.w) {
		if now := time.Now(); now.Sub(p.said) >= lineEvery || p.title != p.under {
			p.said, p.under = now, p.title
			fmt.Fprintf(p.w, "%s: %s of %s\n", p.title, bytesize.Text(n), bytesize.Text(total))
		}
		return
	}
	if total <= 0 {
		return
	}
	if p.bar == nil {
		p.bar = newBar(p.w, p.title, total)
	}
	p.bar.ChangeMax64(max(total, n))
	_ = p.bar.Set64(n) // a bar that cannot be drawn is no error
}

// newBar returns a bar of a number of bytes.
func newBar(w io.Writer, title string, total int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(total, progressbar.OptionSetWriter(w), progressbar.OptionSetDescription(title),
		progressbar.OptionShowBytes(true), progressbar.OptionUseIECUnits(true), progressbar.OptionSetWidth(30), progressbar.OptionClearOnFinish())
}

// End removes the bar.
func (p *Progress) End() {
	if p.bar != nil {
		_ = p.bar.Clear()
		p.bar = nil
	}
}
