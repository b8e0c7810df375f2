package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"packhouse/internal/bytesize"
)

// Table prints rows in columns: aligned on a terminal, otherwise separated by tabs. Rows are printed immediately; on a terminal
// they are printed in blocks of blockRows, of which each is aligned separately.
type Table struct {
	w     io.Writer
	align *tabwriter.Writer // nil: nobody looks
	rows  int               // of this block
	fault error             // of writing a block
}

// blockRows is the number of rows that are buffered so that columns can be aligned.
const blockRows = 500

// NewTable returns a table. Its columns get a heading on a terminal only.
func NewTable(w io.Writer, columns ...string) *Table {
	t := &Table{w: w}
	if Is(w) {
		t.align = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		t.Row(columns...)
	}
	return t
}

// Row prints one row. Control characters in text that clients chose (names, keys) are replaced.
func (t *Table) Row(cells ...string) {
	for i, cell := range cells {
		cells[i] = Printable(cell)
	}
	w := t.w
	if t.align != nil {
		w = t.align
	}
	fmt.Fprintln(w, strings.Join(cells, "\t"))
	if t.rows++; t.rows >= blockRows && t.align != nil {
		t.rows = 0
		t.fault = errors.Join(t.fault, t.align.Flush())
	}
}

// End prints buffered rows. It returns the first error of any row.
func (t *Table) End() error {
	if t.align == nil {
		return nil
	}
	return errors.Join(t.fault, t.align.Flush())
}

// Size formats n bytes: with a unit on a terminal, otherwise as a plain number.
func (t *Table) Size(n int64) string {
	if t.align == nil {
		return fmt.Sprint(n)
	}
	return bytesize.Text(n)
}

// Time formats a time: on a terminal in local time; "-": never.
func (t *Table) Time(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	if t.align == nil {
		return at.UTC().Format(time.RFC3339)
	}
	return at.Local().Format("2006-01-02 15:04:05")
}
