package terminal

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/docker/go-units"
)

// Table prints rows in columns: aligned for people, with tabs between for others. Rows are printed as they come, for
// people in blocks of blockRows, each aligned by itself.
type Table struct {
	w     io.Writer
	align *tabwriter.Writer // nil: nobody looks
	rows  int               // of this block
	fault error             // of writing a block
}

// blockRows are what is held back so that columns can be aligned.
const blockRows = 500

// NewTable begins a table. Its columns are named in a heading where a person reads it.
func NewTable(w io.Writer, columns ...string) *Table {
	t := &Table{w: w}
	if Is(w) {
		t.align = tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		t.Row(columns...)
	}
	return t
}

// Row prints one row. What clients chose (names, keys) is shown without control characters.
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

// End prints what is held back. Its error is that of any row.
func (t *Table) End() error {
	if t.align == nil {
		return nil
	}
	return errors.Join(t.fault, t.align.Flush())
}

// Size is n bytes: for people with a unit, else the number.
func (t *Table) Size(n int64) string {
	if t.align == nil {
		return fmt.Sprint(n)
	}
	return units.BytesSize(float64(n))
}

// Time is a moment, in local time for people; "-": never.
func (t *Table) Time(at time.Time) string {
	if at.IsZero() {
		return "-"
	}
	if t.align == nil {
		return at.UTC().Format(time.RFC3339)
	}
	return at.Local().Format("2006-01-02 15:04:05")
}
