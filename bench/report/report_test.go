package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"io"
	"math"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"packhouse/bench"
	"packhouse/bench/report"
)

var update = flag.Bool("update", false, "rewrite the golden files in testdata")

// stored is the run that is made up in bench/testdata.
func stored(t testing.TB) *bench.Run {
	t.Helper()
	f, err := os.Open("../testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := bench.ReadRun(f)
	if err != nil {
		t.Fatal(err)
	}
	return run
}

func page(t testing.TB, run, old *bench.Run) string {
	t.Helper()
	var b strings.Builder
	if err := report.HTML(&b, run, old); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func table(t testing.TB, run *bench.Run) string {
	t.Helper()
	var b strings.Builder
	if err := report.Table(&b, run); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// golden compares text with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	name = "testdata/" + name
	if *update {
		if err := os.WriteFile(name, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("the text differs from %s (-update rewrites it); got:\n%s", name, got)
	}
}

// node is an element of a page.
type node struct {
	name     string
	attrs    map[string]string
	text     string // of it and what is in it
	children []*node
}

// parse reads a page as XML: every element is closed, every attribute quoted, every character escaped.
func parse(t testing.TB, text string) *node {
	t.Helper()
	d := xml.NewDecoder(strings.NewReader(text))
	root := &node{}
	open := []*node{root}
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("the page is not well-formed: %v", err)
		}
		switch x := token.(type) {
		case xml.StartElement:
			n := &node{name: x.Name.Local, attrs: map[string]string{}}
			for _, a := range x.Attr {
				n.attrs[a.Name.Local] = a.Value
			}
			parent := open[len(open)-1]
			parent.children = append(parent.children, n)
			open = append(open, n)
		case xml.EndElement:
			open = open[:len(open)-1]
		case xml.CharData:
			for _, n := range open {
				n.text += string(x) + " "
			}
		}
	}
	return root
}

// all finds elements by name.
func (n *node) all(name string) []*node {
	var found []*node
	for _, c := range n.children {
		if c.name == name {
			found = append(found, c)
		}
		found = append(found, c.all(name)...)
	}
	return found
}

// card finds the part of the page about a workload.
func card(t testing.TB, root *node, workload string) *node {
	t.Helper()
	for _, a := range root.all("article") {
		for _, h := range a.all("h4") {
			for _, code := range h.all("code") {
				if strings.TrimSpace(code.text) == workload {
					return a
				}
			}
		}
	}
	t.Fatalf("the page has no part about %s", workload)
	return nil
}

// bars are the bars of a part of the page.
func (n *node) bars() int {
	count := 0
	for _, p := range n.all("path") {
		if strings.HasPrefix(p.attrs["class"], "bar ") {
			count++
		}
	}
	return count
}

func TestPageIsWellFormed(t *testing.T) {
	old := older(t)
	text := page(t, stored(t), old)
	root := parse(t, text)
	ids := map[string]bool{}
	var walk func(n *node)
	walk = func(n *node) {
		if id, ok := n.attrs["id"]; ok {
			if ids[id] {
				t.Errorf("the id %q is there twice", id)
			}
			ids[id] = true
		}
		for name, value := range n.attrs {
			outside := strings.Contains(value, "//") && name != "xmlns"
			if outside || strings.HasPrefix(name, "on") || name == "src" {
				t.Errorf("<%s %s=%q> is a request or a script", n.name, name, value)
			}
		}
		for _, c := range n.children {
			walk(c)
		}
	}
	walk(root)
	for _, a := range root.all("a") {
		if to := a.attrs["href"]; !ids[strings.TrimPrefix(to, "#")] {
			t.Errorf("a link to %q, which is no part of the page", to)
		}
	}
	if n := len(root.all("script")); n != 0 {
		t.Errorf("%d scripts", n)
	}
	for _, bad := range []string{"url(", "@import", "NaN", "Inf", "%!", "ZgotmplZ", "undefined"} {
		if strings.Contains(text, bad) {
			t.Errorf("the page contains %q", bad)
		}
	}
}

// Every picture has a name and says its figures in words, and has no colours of its own.
func TestPicturesAreDescribed(t *testing.T) {
	pictures := parse(t, page(t, stored(t), older(t))).all("svg")
	if len(pictures) < 40 {
		t.Fatalf("only %d pictures", len(pictures))
	}
	for _, svg := range pictures {
		titles, texts := svg.all("title"), svg.all("desc")
		if svg.attrs["role"] != "img" || len(titles) != 1 || len(texts) != 1 || titles[0].text == "" || len(texts[0].text) < 10 {
			t.Errorf("a picture without role, title or description: %+v", svg.attrs)
			continue
		}
		for _, kind := range []string{"path", "text", "circle", "rect"} {
			for _, shape := range svg.all(kind) {
				if shape.attrs["style"] != "" || shape.attrs["fill"] != "" || shape.attrs["class"] == "" {
					t.Errorf("%s: a %s with a colour of its own or without a class: %v", titles[0].text, kind, shape.attrs)
				}
			}
		}
	}
}

var number = regexp.MustCompile(`[0-9][0-9,]*(\.[0-9]+)?(e-?[0-9]+)?`)

// numbers are all numbers in a text.
func numbers(text string) []float64 {
	var all []float64
	for _, digits := range number.FindAllString(text, -1) {
		if v, err := strconv.ParseFloat(strings.TrimRight(strings.ReplaceAll(digits, ",", ""), "."), 64); err == nil {
			all = append(all, v)
		}
	}
	return all
}

// shows says whether one of the numbers is v to three digits.
func shows(all []float64, v float64) bool {
	for _, x := range all {
		if math.Abs(x-v) <= 0.006*math.Abs(v) {
			return true
		}
	}
	return false
}

func TestPageShowsEveryFigure(t *testing.T) {
	run := stored(t)
	root := parse(t, page(t, run, nil))
	checked := 0
	for _, w := range run.Workloads {
		c := card(t, root, w.Name)
		columns := map[string][]float64{}
		tables := c.all("table")
		rows := tables[0].all("tr")
		head := rows[0].all("th")
		for _, r := range rows[1:] {
			cells := append(r.all("th"), r.all("td")...)
			for i := 2; i < len(cells); i++ {
				name := strings.TrimSpace(head[i].text)
				columns[name] = append(columns[name], numbers(cells[i].text)...)
			}
		}
		for _, s := range w.Servers {
			if s.Skipped != "" {
				if !strings.Contains(c.text, s.Server) || !strings.Contains(c.text, s.Skipped) {
					t.Errorf("%s does not say why %s was left out", w.Name, s.Server)
				}
				continue
			}
			for _, x := range s.Summaries {
				for _, v := range []float64{x.Median, x.Min, x.Max} {
					checked++
					if !shows(columns[s.Server], v) {
						t.Errorf("%s, %s: %s %v is not in the table", w.Name, s.Server, x.Measure, v)
					}
				}
			}
			for _, text := range s.Disturbed {
				if !strings.Contains(c.text, text) {
					t.Errorf("%s, %s: the page does not say %q", w.Name, s.Server, text)
				}
			}
		}
	}
	if checked < 2000 {
		t.Errorf("only %d figures were checked", checked)
	}
	for _, s := range run.Servers {
		if !strings.Contains(root.text, s.Notes) {
			t.Errorf("the page does not say of %s: %s", s.Name, s.Notes)
		}
	}
}

// A server without a figure has words in the place of its bar, and never a zero.
func TestFailedIsNoBar(t *testing.T) {
	run := stored(t)
	w, _ := run.Workload("put8k@8")
	before := card(t, parse(t, page(t, run, nil)), w.Name).bars()
	if want := len(w.Servers); before != want {
		t.Fatalf("%d bars, want one for each of %d servers", before, want)
	}
	s, _ := w.Server("borgstore")
	for i := range s.Samples {
		for j := range s.Samples[i].Operations {
			o := &s.Samples[i].Operations[j]
			*o = bench.Operation{Name: o.Name, Failures: o.Requests, Errors: []string{"POST /packs/00: 500 <b>&"}}
		}
	}
	s.Summarize()
	v, _ := w.Server("vykar")
	v.Samples, v.Summaries, v.Skipped = nil, nil, "it did not start"
	c := card(t, parse(t, page(t, run, nil)), w.Name)
	if got := c.bars(); got != before-2 {
		t.Errorf("%d bars, want %d without those of two servers", got, before-2)
	}
	for _, words := range []string{"no request succeeded", "borgstore: 6,000 of 6,000 requests failed, such as POST /packs/00: 500 <b>&", "vykar: it did not start"} {
		if !strings.Contains(c.text, words) {
			t.Errorf("the page does not say %q", words)
		}
	}
	text := table(t, run)
	row := regexp.MustCompile(`(?m)^ *put8k@8 .*$`).FindString(text)
	if cells := strings.Fields(row); cells[len(cells)-1] != "-" || !strings.Contains(row, "failed") {
		t.Errorf("the row of the table is %q", row)
	}
	for _, words := range []string{"borgstore in put8k@8: 6,000 of 6,000 requests failed", "vykar in put8k@8: it did not start"} {
		if !strings.Contains(text, words) {
			t.Errorf("the table does not say %q", words)
		}
	}
}

func TestTable(t *testing.T) { golden(t, "table.txt", table(t, stored(t))) }

// What is wrong with the whole run stands above the figures.
func TestRunThatIsInDoubt(t *testing.T) {
	run := stored(t)
	run.Disturbed = []string{"in 3 of 9 samples others used the machine"}
	run.Incomplete = "interrupted"
	for name, text := range map[string]string{"table": table(t, run), "page": page(t, run, nil)} {
		for _, words := range []string{run.Disturbed[0], run.Incomplete} {
			at, figures := strings.Index(text, words), strings.Index(text, "put8k@1")
			if at < 0 || at > figures {
				t.Errorf("%s: %q is at %d, the first figure at %d", name, words, at, figures)
			}
		}
	}
}

// A writer that fails is an error, not half a report.
func TestWriterFails(t *testing.T) {
	run := stored(t)
	full := errors.New("no space left")
	for name, write := range map[string]func(io.Writer) error{
		"page":    func(w io.Writer) error { return report.HTML(w, run, nil) },
		"table":   func(w io.Writer) error { return report.Table(w, run) },
		"compare": report.Compare(run, run).Write,
	} {
		if err := write(failing{full}); !errors.Is(err, full) {
			t.Errorf("%s: got %v, want %v", name, err, full)
		}
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// A report is the same whenever it is written.
func TestPageIsReproducible(t *testing.T) {
	run, old := stored(t), older(t)
	first := page(t, run, old)
	for range 3 {
		if !bytes.Equal([]byte(first), []byte(page(t, run, old))) {
			t.Fatal("two pages of one run differ")
		}
	}
}
