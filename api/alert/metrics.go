package alert

import "github.com/prometheus/client_golang/prometheus"

var (
	alertsDesc  = prometheus.NewDesc("packhouse_alerts", "Alerts that last, by level.", []string{"level"}, nil)
	waitingDesc = prometheus.NewDesc("packhouse_alerts_undelivered", "Alerts of which receivers are still to be told, because they could not be delivered.", nil, nil)
	certDesc    = prometheus.NewDesc("packhouse_certificate_end_seconds", "When the certificate of the server ends, in seconds since 1970; 0 if it has none.", nil, nil)
	missingDesc = prometheus.NewDesc("packhouse_certificates_missing", "Names for which the server is to obtain a certificate, and has none.", nil, nil)
)

var _ prometheus.Collector = (*Monitor)(nil)

// Describe implements prometheus.Collector.
func (m *Monitor) Describe(out chan<- *prometheus.Desc) {
	for _, desc := range []*prometheus.Desc{alertsDesc, waitingDesc, certDesc, missingDesc} {
		out <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *Monitor) Collect(out chan<- prometheus.Metric) {
	levels, undelivered := m.count()
	for _, level := range []Level{Warning, Critical} {
		out <- prometheus.MustNewConstMetric(alertsDesc, prometheus.GaugeValue, float64(levels[level]), string(level))
	}
	out <- prometheus.MustNewConstMetric(waitingDesc, prometheus.GaugeValue, float64(undelivered))
	end, missing := 0.0, 0
	if m.o.Certificate != nil {
		k := m.o.Certificate()
		if !k.End.IsZero() {
			end = float64(k.End.Unix())
		}
		missing = len(k.Missing)
	}
	out <- prometheus.MustNewConstMetric(certDesc, prometheus.GaugeValue, end)
	out <- prometheus.MustNewConstMetric(missingDesc, prometheus.GaugeValue, float64(missing))
}

// count is how many alerts last, and of how many receivers are still to be told after an attempt that failed.
func (m *Monitor) count() (levels map[Level]int, undelivered int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	levels = make(map[Level]int)
	for _, a := range m.active {
		levels[a.Level]++
	}
	now := m.o.Now()
	for _, s := range m.senders {
		if s.told.attempts > 0 && s.r.Type != Ping {
			notices, _ := s.noticesLocked(now)
			undelivered += len(notices)
		}
	}
	return levels, undelivered
}
