package api

import (
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// metrics are the server's own registry: nothing global.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	received *prometheus.CounterVec
	sent     *prometheus.CounterVec
	handler  http.Handler

	series sync.Map // of answerKind to *answerSeries: to look a series up by the text of its labels costs more than to count
}

// answerKind is what requests are counted by.
type answerKind struct {
	dialect, operation string
	status             int
}

// answerSeries are the series of one kind.
type answerSeries struct {
	requests, received, sent prometheus.Counter
	duration                 prometheus.Observer
}

// newMetrics makes the metrics of a server: active is how many requests are being answered, count how many repositories there are, and
// failedLogins how many logins have failed.
func newMetrics(o Options, active func() int, count func() datadir.Counts, failedLogins func() int64) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "packhouse_requests_total", Help: "Requests answered.",
		}, []string{"dialect", "operation", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "packhouse_request_seconds", Help: "Time from the headers of a request to the end of its answer.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"dialect", "operation"}),
		received: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "packhouse_received_bytes_total", Help: "Bytes of request bodies read.",
		}, []string{"dialect"}),
		sent: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "packhouse_sent_bytes_total", Help: "Bytes of response bodies sent.",
		}, []string{"dialect"}),
	}
	running := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "packhouse_requests_running", Help: "Requests being answered.",
	}, func() float64 { return float64(active()) })
	adoptions := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "packhouse_repositories_adopting", Help: "Repositories that are being made from directories of other servers, or wait for that to be continued.",
	}, func() float64 { return float64(count().Adopting) })
	missing := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "packhouse_repositories_missing", Help: "Repositories that were here, and that nobody has destroyed.",
	}, func() float64 { return float64(count().Missing) })
	logins := prometheus.NewCounterFunc(prometheus.CounterOpts{
		Name: "packhouse_failed_logins_total", Help: "Logins that failed, with wrong or expired credentials, or after too many attempts. The log has the names.",
	}, func() float64 { return float64(failedLogins()) })
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "packhouse_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": o.Version, "go": runtime.Version()},
	})
	build.Set(1)
	registry := prometheus.NewRegistry()
	all := append([]prometheus.Collector{
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		m.requests, m.duration, m.received, m.sent, running, adoptions, missing, logins, build, &repositories{set: o.Set},
	}, o.Collectors...)
	for _, collector := range all {
		if err := registry.Register(collector); err != nil {
			return nil, fmt.Errorf("metrics: %w", err)
		}
	}
	m.handler = promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
	return m, nil
}

func (m *metrics) count(dialect, operation string, status int, took time.Duration, received, sent int64) {
	of := m.seriesOf(answerKind{dialect, operation, status})
	of.requests.Inc()
	of.duration.Observe(took.Seconds())
	of.received.Add(float64(received))
	of.sent.Add(float64(sent))
}

func (m *metrics) seriesOf(kind answerKind) *answerSeries {
	if known, ok := m.series.Load(kind); ok {
		return known.(*answerSeries)
	}
	of := &answerSeries{
		requests: m.requests.WithLabelValues(kind.dialect, kind.operation, strconv.Itoa(kind.status)),
		duration: m.duration.WithLabelValues(kind.dialect, kind.operation),
		received: m.received.WithLabelValues(kind.dialect),
		sent:     m.sent.WithLabelValues(kind.dialect),
	}
	m.series.Store(kind, of)
	return of
}

// serveMetrics answers a Prometheus scrape, for who may list what the server has: it names all repositories.
func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	x := stateOf(r)
	x.dialect, x.log.Operation = nil, "metrics"
	if !s.o.OpenMetrics {
		var ok bool
		if r, ok = s.admit(w, r, x); !ok {
			return
		}
		admitted := s.o.Metrics != nil && !x.trusted && s.o.Metrics(x.principal)
		if !admitted && !s.authorized(r, x, "").Permissions.Allows("", "l") {
			x.log.Reason = "needs the token, or a user of all repositories"
			WriteText(w, r, http.StatusForbidden, "Forbidden")
			return
		}
	}
	s.metrics.handler.ServeHTTP(w, r)
}

// repositories reports what the repositories in use hold, from their counters, which others cannot be used, and the disk
// below all of them.
type repositories struct{ set *datadir.Set }

var repositoryMetrics = struct {
	items, bytes, limit, trash, trashLimit, readOnly, backup, usable, missing, damaged, salvage, damagedIndex, free, freeWithKept, size, attached, inodes, allInodes, all, allLimit *prometheus.Desc

	scrubbed, unverified, grace, lifted *prometheus.Desc

	refusals *prometheus.Desc // by rule
	writer   *prometheus.Desc // by writer

	used, created, snapshots, logPendingBytes, checkpoint *prometheus.Desc

	plans, open, returned, kept, keptBytes, log, logPending, logSegments, logItems, logLive *prometheus.Desc
}{
	items: describe("items", "Items in the repository."),
	bytes: describe("bytes", "Bytes of all items."),
	limit: describe("quota_bytes", "Quota; -1 for none."),
	trash: describe("trash_bytes", "Bytes of removed items that can still be restored."),

	trashLimit: describe("trash_quota_bytes", "Bytes of removed items that there may be when clients add to the repository; -1 for any number."),

	readOnly: describe("read_only", "1 after a disk error, until the server is restarted, while too many files are missing, and on a read-only file system."),
	backup:   describe("last_backup_seconds", "When a backup was last completed, in seconds since 1970; 0 for never."),
	missing:  describe("missing_items", "Known items whose file is missing."),
	damaged:  describe("damaged_items", "Known items whose bytes are wrong."),
	salvage:  describe("salvage", "1 while damaged items are served with their wrong bytes (packhouse repo salvage)."),
	usable:   describe("usable", "0 if the repository could not be opened, or its disk does not answer; then it has no other metrics."),
	free:     prometheus.NewDesc("packhouse_disk_free_bytes", "Bytes that the server may still use in the data directory's file system.", nil, nil),
	freeWithKept: prometheus.NewDesc("packhouse_disk_free_with_kept_bytes",
		"Free bytes plus those kept after compactions, which are deleted before a request is refused because the disk is full.", nil, nil),
	damagedIndex: describe("index_damaged", "1 if the index is damaged; requests that do not need the damaged part are served."),
	size:         prometheus.NewDesc("packhouse_disk_size_bytes", "Bytes of the data directory's file system.", nil, nil),
	inodes:       prometheus.NewDesc("packhouse_disk_free_inodes", "Inodes that are free in the data directory's file system, if it has a number of them.", nil, nil),
	all:          prometheus.NewDesc("packhouse_used_bytes", "Bytes that count in the total quota, of all repositories that were opened.", nil, nil),
	allLimit:     prometheus.NewDesc("packhouse_total_quota_bytes", "Quota of all repositories together; -1 for none.", nil, nil),
	allInodes:    prometheus.NewDesc("packhouse_disk_size_inodes", "Inodes of the data directory's file system, if it has a number of them.", nil, nil),
	attached:     prometheus.NewDesc("packhouse_data_directory_attached", "0 while the data directory is missing or not the one that was opened, and every request is refused.", nil, nil),

	scrubbed:   describe("scrubbed_bytes", "Bytes that scrubs have read and compared, of those that are there."),
	unverified: describe("oldest_unverified_seconds", "Every byte was read by a scrub, or written, after that; in seconds since 1970; 0 for an empty repository."),

	grace:  describe("grace_seconds", "For how long removed items can be restored; 0: not at all."),
	lifted: describe("guard_lifted", "1 while an administrator lets clients remove snapshots that the guard would keep."),
	refusals: prometheus.NewDesc("packhouse_repository_guard_refusals_total", "Requests to remove snapshots that a rule of the guard has refused.",
		[]string{"repository", "rule"}, nil),

	writer: prometheus.NewDesc("packhouse_repository_writer_last_backup_seconds", "When a user or token last completed a backup, in seconds since 1970.",
		[]string{"repository", "writer"}, nil),

	used:      describe("quota_used_bytes", "Bytes that count against the quota."),
	created:   describe("created_seconds", "When the repository was created, in seconds since 1970."),
	snapshots: describe("snapshots", "Snapshots or archives, with those that a client can undelete; 0 if the protocol has none."),

	logPendingBytes: describe("log_pending_bytes", "Bytes of the log that would be read if the repository was opened now."),
	checkpoint:      describe("checkpoint_failed", "1 if the log could not be applied to the index when that was last tried: the log grows."),

	plans:     describe("open_plans", "Compactions that wait for their client's index."),
	open:      describe("open_bytes", "Bytes of the sources of open plans, which stay until the client's index arrives."),
	returned:  describe("returned_bytes", "Bytes of items that a compaction had removed and that were brought back because a client may need them."),
	kept:      describe("kept_items", "Items kept after compactions, deleted when disk space is needed."),
	keptBytes: describe("kept_bytes", "Bytes of the items kept after compactions."),

	log:         describe("log_bytes", "Bytes of the log in front of the index."),
	logSegments: describe("log_segments", "Segments of the log."),
	logItems:    describe("log_items", "Small items that lie in the log, including those that can be restored."),
	logLive:     describe("log_live_bytes", "Bytes of the items in the log. A vacuum frees much of the rest."),
	logPending:  describe("log_pending_rows", "Rows of the index that are in the log alone until the next checkpoint."),
}

func describe(name, help string) *prometheus.Desc {
	return prometheus.NewDesc("packhouse_repository_"+name, help, []string{"repository"}, nil)
}

func (c *repositories) Describe(out chan<- *prometheus.Desc) {
	m := repositoryMetrics
	for _, desc := range []*prometheus.Desc{m.items, m.bytes, m.limit, m.trash, m.trashLimit, m.readOnly, m.backup, m.usable, m.missing, m.damaged, m.salvage, m.damagedIndex, m.free, m.freeWithKept, m.size, m.attached, m.inodes, m.allInodes, m.all, m.allLimit,
		m.scrubbed, m.unverified, m.grace, m.lifted, m.refusals, m.writer, m.used, m.created, m.snapshots, m.logPendingBytes, m.checkpoint, m.plans, m.open, m.returned, m.kept, m.keptBytes, m.log, m.logPending, m.logSegments, m.logItems, m.logLive} {
		out <- desc
	}
}

func (c *repositories) Collect(out chan<- prometheus.Metric) {
	m := repositoryMetrics
	attached := 1.0
	if c.set.Attached() != nil {
		attached = 0
	}
	out <- prometheus.MustNewConstMetric(m.attached, prometheus.GaugeValue, attached)
	together := c.set.TotalUsage()
	out <- prometheus.MustNewConstMetric(m.all, prometheus.GaugeValue, float64(together.Used))
	out <- prometheus.MustNewConstMetric(m.allLimit, prometheus.GaugeValue, float64(together.Limit))
	unusable := c.set.Unusable()
	figures, silent := datadir.AskOpened(c.set, figuresOf)
	kept, own := int64(0), c.set.FileSystem("")
	for _, f := range figures {
		if f.state.on == own {
			kept += f.state.kept
		}
	}
	if free, size, err := c.set.Space(); err == nil {
		for desc, n := range map[*prometheus.Desc]int64{m.free: free, m.freeWithKept: free + kept, m.size: size} {
			out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, float64(n))
		}
	}
	if free, total, err := c.set.Inodes(); err == nil && total > 0 {
		out <- prometheus.MustNewConstMetric(m.inodes, prometheus.GaugeValue, float64(free))
		out <- prometheus.MustNewConstMetric(m.allInodes, prometheus.GaugeValue, float64(total))
	}
	cannot := slices.AppendSeq(silent, maps.Keys(unusable))
	slices.Sort(cannot)
	for _, name := range slices.Compact(cannot) {
		if _, opened := figures[name]; !opened { // else it was opened this moment
			out <- prometheus.MustNewConstMetric(m.usable, prometheus.GaugeValue, 0, name)
		}
	}
	for name, f := range figures {
		for _, w := range f.writers {
			out <- prometheus.MustNewConstMetric(m.writer, prometheus.GaugeValue, seconds(w.At), name, w.Writer)
		}
		for rule, n := range f.refusals {
			out <- prometheus.MustNewConstMetric(m.refusals, prometheus.CounterValue, float64(n), name, rule)
		}
		for _, sample := range f.samples {
			out <- prometheus.MustNewConstMetric(sample.desc, prometheus.GaugeValue, sample.value, name)
		}
	}
}

// repositoryFigures are those of a repository in use.
type repositoryFigures struct {
	state    repositoryState
	samples  []repositorySample
	refusals map[string]int64 // by rule of the guard
	writers  []index.Freshness
}

type repositorySample struct {
	desc  *prometheus.Desc
	value float64
}

func figuresOf(name string, r *repo.Repository) repositoryFigures {
	m := repositoryMetrics
	state := stateOfRepository(name, r)
	log, usage, scrubs := r.LogStatus(), r.Usage(), r.Coverage()
	// Of an index that is damaged there are no figures, which its own metric says.
	inLog, _ := r.LogUsage()
	snapshots, _ := r.Snapshots()
	writers, _ := r.Writers()
	return repositoryFigures{state: state, refusals: r.GuardRefusals(), writers: writers, samples: []repositorySample{
		{m.items, float64(usage.Items)}, {m.bytes, float64(usage.Bytes)}, {m.limit, float64(usage.Limit)},
		{m.trash, float64(usage.TrashBytes)}, {m.trashLimit, float64(usage.TrashLimit)}, {m.readOnly, oneIf(state.ReadOnly)}, {m.backup, seconds(usage.LastBackup)}, {m.usable, 1}, {m.damagedIndex, oneIf(state.IndexDamaged)},
		{m.plans, float64(usage.Plans)}, {m.open, float64(usage.OpenBytes)}, {m.returned, float64(usage.ReturnedBytes)},
		{m.kept, float64(usage.KeptItems)}, {m.keptBytes, float64(usage.KeptBytes)},
		{m.log, float64(log.Bytes)}, {m.logPending, float64(log.PendingRows)}, {m.logSegments, float64(log.Segments)},
		{m.logItems, float64(inLog.Items)}, {m.logLive, float64(inLog.Live)},
		{m.used, float64(usage.Used)}, {m.created, seconds(r.Created())}, {m.snapshots, float64(snapshots)},
		{m.logPendingBytes, float64(log.Pending)}, {m.checkpoint, oneIf(log.Err != nil)},
		{m.missing, float64(usage.MissingItems)}, {m.damaged, float64(usage.DamagedItems)}, {m.salvage, oneIf(r.Salvaging())},
		{m.scrubbed, float64(scrubs.Bytes)}, {m.unverified, seconds(scrubs.Oldest)}, {m.grace, r.Grace().Seconds()}, {m.lifted, oneIf(!r.GuardLifted().IsZero())},
	}}
}

// seconds are since 1970, with milliseconds; 0 for the zero time.
func seconds(at time.Time) float64 {
	if at.IsZero() {
		return 0
	}
	return float64(at.UnixMilli()) / 1000
}

func oneIf(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
