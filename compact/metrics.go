package compact

import "github.com/prometheus/client_golang/prometheus"

// metrics count over all repositories since the start of the program.
type metrics struct {
	plans    *prometheus.CounterVec // by result
	read     prometheus.Counter
	written  prometheus.Counter
	freed    prometheus.Counter
	damaged  prometheus.Counter
	vacuumed prometheus.Counter
	queued   prometheus.GaugeFunc
	ended    *prometheus.CounterVec // background jobs, by kind and result
}

// Results of plans.
const (
	planDone     = "done"
	planReplayed = "replayed"
	planFailed   = "failed"
	planUnknown  = "unknown"
)

func newMetrics(queued func() float64) *metrics {
	ended := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "packhouse_jobs_ended_total", Help: "Background jobs that ended, by kind (compaction, scrub, vacuum) and result (done, failed, cancelled, unknown).",
	}, []string{"kind", "result"})
	for _, kind := range []Kind{Compaction, Scrub, Vacuum} {
		for _, result := range []State{Done, Failed, Cancelled, Unknown} {
			ended.WithLabelValues(string(kind), string(result)) // which is there from the start: a rate needs a first value
		}
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
	}
	return &metrics{
		ended: ended,
		plans: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "packhouse_compaction_plans_total", Help: "Plans that ended, by result: done, replayed (answered with the stored result of the same plan), failed, unknown (the disk failed in the commit).",
		}, []string{"result"}),
		read:     counter("packhouse_compaction_read_bytes_total", "Bytes that plans have read."),
		written:  counter("packhouse_compaction_written_bytes_total", "Bytes that plans have written."),
		freed:    counter("packhouse_compaction_freed_bytes_total", "Sizes of the items that plans have deleted."),
		vacuumed: counter("packhouse_vacuum_freed_bytes_total", "Bytes of the segments that vacuums have emptied and deleted."),
		damaged:  counter("packhouse_scrub_damaged_items_total", "Damaged items found by scrubs; an item that stays damaged is counted in each scrub."),
		queued: prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Name: "packhouse_jobs", Help: "Background jobs that are queued or running.",
		}, queued),
	}
}

// Collector has the engine's metrics.
func (e *Engine) Collector() prometheus.Collector { return e.metrics }

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.plans, m.read, m.written, m.freed, m.damaged, m.vacuumed, m.queued, m.ended}
}

// Describe implements prometheus.Collector.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) {
	for _, c := range m.collectors() {
		c.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	for _, c := range m.collectors() {
		c.Collect(ch)
	}
}
