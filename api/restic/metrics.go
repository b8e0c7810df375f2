package restic

import (
	"github.com/prometheus/client_golang/prometheus"

	"packhouse/api"
)

// Metrics are those of rest-server, under its names, for dashboards that know them: objects that were stored, read and deleted, with their
// bytes, by repository, type and user. An object that was there already is not stored again; config is no object. It is safe
// for concurrent use. Source: restic-rest 3.8.
type Metrics struct {
	root  string // the name of the repository that clients have at "/"
	named bool   // requests have users

	write, writeBytes, read, readBytes, remove, removeBytes *prometheus.CounterVec
}

var _ prometheus.Collector = (*Metrics)(nil)

// NewMetrics makes them. The label of the repository that has the name root is empty, and so are those of users unless named.
func NewMetrics(root string, named bool) *Metrics {
	counter := func(name, help string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: "rest_server_blob_" + name, Help: help}, []string{"repo", "type", "user"})
	}
	return &Metrics{
		root: root, named: named,
		write: counter("write_total", "Objects stored."), writeBytes: counter("write_bytes_total", "Bytes of objects stored."),
		read: counter("read_total", "Objects read, or parts of them."), readBytes: counter("read_bytes_total", "Bytes of objects read."),
		remove: counter("delete_total", "Objects deleted."), removeBytes: counter("delete_bytes_total", "Bytes of objects deleted."),
	}
}

func (m *Metrics) all() []*prometheus.CounterVec {
	return []*prometheus.CounterVec{m.write, m.writeBytes, m.read, m.readBytes, m.remove, m.removeBytes}
}

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(out chan<- *prometheus.Desc) {
	for _, vec := range m.all() {
		vec.Describe(out)
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, vec := range m.all() {
		vec.Collect(out)
	}
}

// What is counted of an object.
type event int

const (
	stored event = iota
	loaded
	removed
)

// count counts what was done with an object of so many bytes. A nil Metrics counts nothing.
func (m *Metrics) count(e event, t *api.Target, r resource, bytes int64) {
	if m == nil || r.shape != object {
		return
	}
	labels := []string{t.Name, r.kind(), t.Principal.Name}
	if t.Name == m.root {
		labels[0] = ""
	}
	if !m.named {
		labels[2] = ""
	}
	number, sum := m.write, m.writeBytes
	switch e {
	case loaded:
		number, sum = m.read, m.readBytes
	case removed:
		number, sum = m.remove, m.removeBytes
	}
	number.WithLabelValues(labels...).Inc()
	sum.WithLabelValues(labels...).Add(float64(bytes))
}
