//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestAlertRules: promtool finds the rules of deploy/ right, and has each fire for what it is about.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	promtool := need(t, "promtool")
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	run(t, nil, promtool, "check", "rules", filepath.Join(here, "..", "deploy", "alerts.yml"))
	run(t, nil, promtool, "test", "rules", filepath.Join(here, "testdata", "alerts-minutes.test.yml"), filepath.Join(here, "testdata", "alerts-days.test.yml"))
}

// prometheus is a real one that scrapes a server each second.
type prometheus struct {
	t   *testing.T
	url string
}

func newPrometheus(t *testing.T, s *server, token string) *prometheus {
	t.Helper()
	program := need(t, "prometheus")
	rules, err := filepath.Abs("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "prometheus.yml")
	writeFile(t, filepath.Join(dir, "packhouse.token"), token, 0o600)
	writeFile(t, file, fmt.Sprintf(`global: {scrape_interval: 1s, evaluation_interval: 1s}
rule_files: [%q]
scrape_configs:
  - job_name: packhouse
    authorization: {credentials_file: packhouse.token}
    static_configs: [{targets: [%q]}]
`, rules, s.addr), 0o600)
	addr := freeAddress(t)
	var log bytes.Buffer
	cmd := exec.Command(program, "--config.file="+file, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of Prometheus:\n%s", log.String())
		}
	})
	return &prometheus{t, "http://" + addr}
}

// get reads an answer of its API.
func (p *prometheus) get(path string, data any) error {
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("%s: %w in %.200s", path, err, text)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

// series is how many series a query gives.
func (p *prometheus) series(query string) (int, error) {
	var data struct{ Result []json.RawMessage }
	err := p.get("/api/v1/query?query="+url.QueryEscape(query), &data)
	return len(data.Result), err
}

// await waits until a query gives a series.
func (p *prometheus) await(query string) {
	p.t.Helper()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		n := 0
		if n, err = p.series(query); n > 0 {
			return
		}
	}
	p.t.Fatalf("Prometheus has no series of %s: %v", query, err)
}

// dashboard is what the test reads of deploy/grafana.json.
type dashboard struct {
	Panels []struct {
		Title   string
		Targets []struct{ Expr string }
	}
	Templating struct {
		List []struct{ Name, Definition string }
	}
}

// TestPrometheus: in a real Prometheus that scrapes a server every query of the dashboard gives a series, every metric that a rule names is there, and
// rules are evaluated without an error and see what is wrong. The token of the scrape may only read.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	s := startServer(t, "--quota", "10K")
	for _, request := range [][2]string{
		{"laptop/?cmd=create", ""}, {"laptop/packs/a", strings.Repeat("x", 9500)}, {"laptop/archives/a", ""}, {"fresh/?cmd=create", ""},
	} {
		status, text := s.post(request[0], request[1])
		if status != http.StatusOK {
			t.Fatalf("%s: got %d %s", request[0], status, text)
		}
	}
	if status, _ := s.post("laptop/packs/b", strings.Repeat("x", 5000)); status != http.StatusInsufficientStorage {
		t.Fatalf("beyond the quota: got %d", status)
	}
	run(t, nil, packhouse(), "scrub", "-d", s.data, "--repo", "laptop", "--wait")
	token := strings.TrimSpace(run(t, nil, packhouse(), "token", "create", "-d", s.data, "--all-repositories", "--role", "read", "--json"))
	var made struct{ Secret string }
	if err := json.Unmarshal([]byte(token[strings.Index(token, "{"):]), &made); err != nil {
		t.Fatalf("%v in %s", err, token)
	}
	p := newPrometheus(t, s, made.Secret)
	p.await(`rate(packhouse_requests_total{operation="metrics"}[10s]) > 0`)

	text, err := os.ReadFile("../deploy/grafana.json")
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard
	if err := json.Unmarshal(text, &d); err != nil {
		t.Fatal(err)
	}
	queries := 0
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			queries++
			query := strings.NewReplacer("$instance", ".*", "$repository", ".*", "$__rate_interval", "10s").Replace(target.Expr)
			if n, err := p.series(query); err != nil || n == 0 {
				t.Errorf("%s: %s gives %d series, %v", panel.Title, query, n, err)
			}
		}
	}
	for _, variable := range d.Templating.List {
		m := regexp.MustCompile(`^label_values\((.*), (\w+)\)$`).FindStringSubmatch(variable.Definition)
		if m == nil {
			continue // which data source
		}
		queries++
		if n, err := p.series(strings.ReplaceAll(m[1], "$instance", ".*") + ` * on(` + m[2] + `) group_left() (` + strings.ReplaceAll(m[1], "$instance", ".*") + ` * 0 + 1)`); err != nil || n == 0 {
			t.Errorf("variable %s gives %d values, %v", variable.Name, n, err)
		}
	}
	if queries < 40 {
		t.Errorf("only %d queries were tried", queries)
	}

	rules, err := os.ReadFile("../deploy/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`packhouse_\w+`).FindAllString(string(rules), -1)
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if n, err := p.series(name); err != nil || n == 0 {
			t.Errorf("%s, which a rule names, has %d series, %v", name, n, err)
		}
	}
	p.await(`ALERTS{alertname="PackhouseQuotaAlmostUsed",repository="laptop",alertstate="pending"}`)
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	if err := p.get("/api/v1/rules", &data); err != nil {
		t.Fatal(err)
	}
	checked := 0
	for _, group := range data.Groups {
		for _, rule := range group.Rules {
			if checked++; rule.Health != "ok" {
				t.Errorf("rule %s is %s: %s", rule.Name, rule.Health, rule.LastError)
			}
		}
	}
	if checked < 15 {
		t.Errorf("Prometheus has %d rules", checked)
	}
	if n, err := p.series(`ALERTS{alertname!="PackhouseQuotaAlmostUsed",alertname!="PackhouseDiskAlmostFull",alertname!="PackhouseInodesAlmostUsed"}`); err != nil || n > 0 {
		t.Errorf("%d other alerts, %v", n, err)
	}
}

// post sends a BorgStore request with the server's token.
func (s *server) post(path, body string) (int, string) {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.scheme+"://"+s.addr+"/"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Accept", "application/vnd.x.borgstore.rest.v1")
	req.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}
