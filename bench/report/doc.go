// Package report shows a run of the bench: as text (Table), as a page (HTML), and beside an older run (Compare). It
// measures nothing and reads no files; what it shows follows from the values it is given alone.
//
// # Reading the page
//
// A server has the same colour and the same mark in all plots of all reports; no plot needs the colour, since each row
// and each line is labelled. Every plot has a title and a description that says its figures, and below each workload is a
// table of all of them.
//
// Overview: where each server is beside the floor, by the headline figure of each workload, on a logarithmic scale. At 1x a
// server does as much as a bare server that does the least that must be done; at 0.5x it takes twice as long. Beside it,
// what a request costs the processor.
//
// Workloads: a bar ends at the median of the rounds, from zero; the line across its end goes from the least to the most,
// with a stroke for each round. "±3%" is half of that line as a part of the median. The hills below are the latencies of
// all rounds on a logarithmic scale, each scaled to its own peak: the width and place of a hill mean something, its height
// does not. Strokes and figures are the median and what 99 of 100 requests did not exceed. A server that failed or was
// not measured has words in the place of its bar, never a bar of zero.
//
// Marks: "!" is a figure in doubt (its rounds differ by more than a third, or other processes were at work), "f" has
// failed requests, which are in no figure, "-" was not measured. A note beside the figures says why.
//
// Growth: both axes are logarithmic, so that a level line is a server whose speed does not depend on the number of items.
//
// Mixed load: requests a second over time, a picture for each round; red bands are stalls, in which no request ended, and
// above are the times of what ran beside the load.
//
// # Comparing
//
// Compare says first how the runs are unlike: another machine or other options explain any change. A figure has changed
// beyond the noise if the Mann-Whitney test on the rounds of both runs says that chance does that to less than one in
// twenty. With three rounds in each run that test never can; then a figure counts whose rounds do not overlap and leave
// more than half of the wider spread between them, which chance alone does to about one in forty. Where the floor
// changed in the same direction, the machine is the likely reason. None of this sees what differs between runs but not
// between rounds, such as a virtual disk that is slower today: who needs to know repeats both.
//
// # Why this library
//
// Plots are drawn by github.com/go-analyze/charts: a release every month or two, MIT licence, and two modules below the
// part that we use (golang/freetype, unchanged since 2017, and x/image). Its SVG is plain text and paths with classes,
// so that one style sheet gives the colours of light and dark, and the type of the reader's machine is used. We use the
// frame, axes, ranges and SVG of its package chartdraw, and add series of our own, as its chart types know no spread
// around a bar, no logarithmic axis below 1 and no distributions. gonum.org/v1/plot has all of these, but colours and
// fonts within each shape, no release for more than a year, and writers of PDF, LaTeX and TIFF and the fonts for them:
// an otherwise empty program grows by 9 MB with it, and by 3 MB with this one. go-echarts needs a script from
// elsewhere.
//
// The comparison is that of golang.org/x/perf/benchmath, which benchstat uses.
//
// Start reading at Table and HTML.
package report
