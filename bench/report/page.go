package report

import (
	_ "embed"
	"errors"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"packhouse/bench"
	"packhouse/internal/bytesize"
)

//go:embed page.html
var pageText string

//go:embed page.css
var pageStyle string

// HTML writes a run as one self-contained page: no script, no request for other files, and also well-formed XML. old is a run to
// compare with, or nil. An error is one of w, or that of the library for figures that cannot be drawn.
func HTML(w io.Writer, run, old *bench.Run) error {
	t, err := template.New("page").Parse(pageText)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	p, err := newPage(run, old)
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := t.Execute(w, p); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

// page is what page.html shows.
type page struct {
	Run      *bench.Run
	Style    template.CSS
	Head     []string
	Warnings []note
	Facts    []fact
	Servers  []serverView
	Floor    string
	Ratios   []picture
	CPU      []picture
	Compared *comparedView
	Kinds    []kindView
	Curves   []picture
	Mixed    []mixedView
	Table    tableView
	Caches   []string
}

// picture is a plot with the words below it.
type picture struct {
	Plot    template.HTML
	Caption string
}

type fact struct{ Name, Value string }

type serverView struct {
	bench.ServerInfo
	Class, Durability string
	Shape             template.HTML
}

// kindView is all workloads of a kind.
type kindView struct {
	Name, Anchor string
	Groups       []groupView
}

// groupView is the workloads of one title.
type groupView struct {
	Title  string
	Floors []string
	Caches []string
	Cards  []cardView
}

// cardView is one workload.
type cardView struct {
	Name, Label, Unit string
	Bars, Latency     template.HTML
	Notes             []note
	Measures          tableView
}

func newPage(run, old *bench.Run) (*page, error) {
	colours := newPalette(run.Servers)
	p := &page{
		Run: run, Head: headLines(run), Warnings: runNotes(run), Facts: factsOf(run), Floor: floorOf(run), Table: headlineTable(run),
		Style: template.CSS(strings.NewReplacer("/*light*/", paletteStyle(false), "/*dark*/", paletteStyle(true), "/*servers*/", paletteRules()).Replace(pageStyle)),
	}
	for i := range run.Workloads {
		p.Caches = appendNew(p.Caches, run.Workloads[i].Cache)
	}
	for _, s := range run.Servers {
		shape, err := key(s.Name, colours)
		if err != nil {
			return nil, err
		}
		p.Servers = append(p.Servers, serverView{s, colours.class(s.Name), durability(s), shape})
	}
	return p, errors.Join(p.overviews(colours), p.workloads(colours), p.curves(colours), p.mixed(colours), p.compare(old, colours))
}

func factsOf(run *bench.Run) []fact {
	m := run.Machine
	return []fact{
		{"Processor", fmt.Sprintf("%s, %s", m.CPU, counted(m.Cores, "core"))},
		{"Memory", bytesize.Text(m.Memory)},
		{"System", fmt.Sprintf("%s %s, %s", m.OS, m.Kernel, m.Arch)},
		{"File system", m.FileSystem},
		{"Free before", bytesize.Text(m.DiskFree)},
		{"Go", m.GoVersion},
		{"Packhouse", run.Program},
		{"Run", fmt.Sprintf("%s, %s, %s", settings(run.Settings), counted(run.Settings.Rounds, "round"), took(run.Seconds))},
		{"Started", run.Started.UTC().Format("2 January 2006 15:04 MST")},
	}
}

// key is the mark of a server alone, as it stands in the plots.
func key(server string, colours palette) (template.HTML, error) {
	p := plot{title: "mark of " + server, text: "its points and bars have this colour", height: 10, y: axis{max: 1}, x: axis{max: 1}}
	p.layers = []layer{func(p pane) {
		p.area("dot "+colours.class(server), colours.shape(server).outline(point{5 * unit, 5 * unit}, 4*unit)...)
	}}
	svg, err := p.draw()
	// The plot is as wide as all others; the mark is at its left end.
	return template.HTML(strings.Replace(string(svg), fmt.Sprintf("viewBox=\"0 0 %d ", plotWidth*unit), fmt.Sprintf("viewBox=\"0 0 %d ", 10*unit), 1)), err
}

func (p *page) overviews(colours palette) error {
	draw := func(all []dots, base float64, label func(float64) string) ([]picture, error) {
		var plots []picture
		low, high := reach(all)
		for _, d := range all {
			d.x, d.base, d.unit = logarithmic(low/1.2, high*1.2, 10, 5, label), base, label
			svg, err := d.draw(colours)
			if err != nil {
				return nil, err
			}
			plots = append(plots, picture{svg, d.caption})
		}
		return plots, nil
	}
	var errRatio, errCPU error
	if p.Floor != "" {
		p.Ratios, errRatio = draw(overview(p.Run, "beside the floor", toFloor(p.Run)), 1, ratioTick)
	}
	p.CPU, errCPU = draw(overview(p.Run, "processor time of the server for a request", func(_ *bench.WorkloadRun, s *bench.ServerRun) (float64, bool) {
		x, ok := s.Summary(bench.ServerCPU)
		return x.Median / 1000, ok // as milliseconds
	}), 0, milliseconds)
	return errors.Join(errRatio, errCPU)
}

// workloads makes the cards, by kind and title.
func (p *page) workloads(colours palette) error {
	others := kindView{Name: "other workloads", Anchor: "kind-others"}
	for _, workloads := range kinds(p.Run) {
		k := kindView{Name: kindName(workloads[0].Kind), Anchor: "kind-" + workloads[0].Kind}
		at := make(map[string]int)
		for _, w := range workloads {
			if _, ok := at[w.Title]; !ok {
				at[w.Title] = len(k.Groups)
				k.Groups = append(k.Groups, groupView{Title: w.Title})
			}
			g := &k.Groups[at[w.Title]]
			c, err := card(p.Run, w, colours)
			if err != nil {
				return err
			}
			g.Cards = append(g.Cards, c)
			g.Floors, g.Caches = appendNew(g.Floors, w.Floor), appendNew(g.Caches, w.Cache)
		}
		if len(workloads) < fewCards {
			others.Groups = append(others.Groups, k.Groups...)
		} else {
			p.Kinds = append(p.Kinds, k)
		}
	}
	if len(others.Groups) > 0 {
		p.Kinds = append(p.Kinds, others)
	}
	return nil
}

// fewCards is the number of workloads below which a kind has no part of its own.
const fewCards = 3

func card(run *bench.Run, w *bench.WorkloadRun, colours palette) (cardView, error) {
	c := cardView{Name: w.Name, Label: label(w), Unit: unitInWords(w, w.Measure), Notes: shared(notesOf(w)), Measures: measureTable(run, w)}
	var errBars, errLatency error
	c.Bars, errBars = bars(w, colours)
	c.Latency, errLatency = latency(w, "", colours)
	return c, errors.Join(errBars, errLatency)
}

// label tells workloads of one title apart.
func label(w *bench.WorkloadRun) string {
	text := counted(w.Connections, "connection")
	if w.Items > 0 {
		text += ", " + counted(int(w.Items), "item") + " there"
	}
	if w.TLS {
		text += ", TLS"
	}
	return text
}

func (p *page) curves(colours palette) error {
	for _, c := range curvesOf(p.Run) {
		svg, err := c.draw(p.Run, colours)
		if err != nil {
			return err
		}
		if svg != "" {
			first := c.points[0]
			p.Curves = append(p.Curves, picture{svg, fmt.Sprintf("%s (%s): %s over the number of items", c.name, first.Title, unitInWords(first, first.Measure))})
		}
	}
	return nil
}

// appendNew adds a text that is not there yet.
func appendNew(all []string, text string) []string {
	if text == "" || slices.Contains(all, text) {
		return all
	}
	return append(all, text)
}
