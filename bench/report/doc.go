// Package report shows a run of the bench: as text (Table), as a page (HTML), and compared with an older run (Compare). It
// measures nothing and reads no files; its output depends only on the values that it is given.
//
// # Reading the page
//
// A server has the same colour and the same mark in all plots of all reports. No plot depends on the colour, since each row and
// each line is labelled. Every plot has a title and a description with its figures, and below each workload is a table of
// all of them.
//
// Overview: compares each server with the floor, by the main figure of each workload, on a logarithmic scale. At 1x a server is
// as fast as the floor, a minimal server; at 0.5x it takes twice as long. The second part shows the processor time for each
// request.
//
// Workloads: a bar extends from zero to the median of the rounds. The line across its end extends from the lowest to the highest
// round, with a mark for each round. "±3%" is half of the length of that line, relative to the median. The density curves
// below show the latencies of all rounds on a logarithmic scale. Each is scaled to its own peak: position and width have a
// meaning, the height does not. Marks and figures are the median and the 99th percentile. If a server failed or was not
// measured, a text is shown instead of its bar, never a bar of zero.
//
// Marks: "!" is a doubtful figure (its rounds differ by more than a third, or other processes were running), "f" has failed
// requests, which are in no figure, "-" was not measured. A note below the figures gives the reason.
//
// Growth: both axes are logarithmic, so that a horizontal line is a server whose speed does not depend on the number of items.
//
// Mixed load: requests per second over time, one plot for each round. Red bands are stalls, in which no request ended; above
// them are the times of the tasks that ran at the same time.
//
// # Comparing
//
// Compare first lists how the conditions of the runs differ: another machine or other options explain any change. A figure has
// changed significantly if the Mann-Whitney test on the rounds of both runs gives p < 0.05. With three rounds in each run that
// is impossible; then a figure has changed if the rounds do not overlap and the gap between them is more than half of the wider
// spread, which happens by chance in about one of forty cases. Where the floor changed in the same direction, the likely
// reason is the machine. Differences between runs that do not show between the rounds of one run, such as a virtual disk that
// is slower today, are not detected; to exclude them, repeat both runs.
//
// # Why this library
//
// Plots are drawn by github.com/go-analyze/charts. It has a release every month or two, the MIT licence, and two modules below
// the part that we use (golang/freetype, unchanged since 2017, and x/image). Its SVG is plain text and paths with classes, so
// that one style sheet sets the colours of light and dark mode, and the fonts of the reader's machine are used. We use frame,
// axes, ranges and SVG of its package chartdraw, and add our own series, because its chart types have no spread around a bar, no
// logarithmic axis below 1 and no distributions. gonum.org/v1/plot has all of these, but it sets colours and fonts within
// each shape, has had no release for more than a year, and includes writers of PDF, LaTeX and TIFF with their fonts: an
// otherwise empty program grows by 9 MiB with it, and by 3 MiB with go-analyze/charts. go-echarts needs a script from another
// server.
//
// The comparison uses golang.org/x/perf/benchmath, as benchstat does.
//
// Start reading at Table and HTML.
package report
