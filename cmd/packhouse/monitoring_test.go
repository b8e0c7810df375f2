package main

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// TestDocumentedMonitoring: docs/deployment.md has every metric with its type and labels, and every field of health, and
// none that is not there.
func TestDocumentedMonitoring(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "deployment.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Monitoring\n")
	section, _, _ = strings.Cut(section, "\n## ")
	health, metrics, _ := strings.Cut(section, "\n### Metrics\n")

	dir := tempDir(t)
	s := startServer(t, dir, "--data-dir", filepath.Join(dir, "data"))
	s.expect(t, http.StatusOK, "POST", "/laptop/?cmd=create", "")
	s.expect(t, http.StatusOK, "POST", "/laptop/config/a", "hello")
	s.expect(t, http.StatusOK, "POST", "/laptop/archives/a", "")
	plan := filepath.Join(dir, "plan.json")
	write(t, plan, `{"operations":[{"delete":["config/a"]}]}`)
	if code, _, errs := runHere(t, "compact", "--repo", "laptop", "--plan", plan, "--wait", "-d", filepath.Join(dir, "data")); code != 0 {
		t.Fatalf("compact: %s", errs)
	}
	page := func(path string) string {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Authorization", "Bearer "+s.token)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: got %d %s, %v", path, resp.StatusCode, body, err)
		}
		return string(body)
	}

	var fields map[string]any
	if err := json.Unmarshal([]byte(page("/health")), &fields); err != nil {
		t.Fatal(err)
	}
	fields["reason"] = nil // there when something is wrong
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]+`) \\|").FindAllStringSubmatch(health, -1) {
		for _, field := range words(row[1]) {
			if _, ok := fields[field]; !ok {
				t.Errorf("health has no field %q", field)
			}
			delete(fields, field)
		}
	}
	if len(fields) > 0 {
		t.Errorf("docs/deployment.md lacks these fields of health: %v", fields)
	}

	scrape := page("/metrics")
	found := make(map[string]string) // name -> type and labels
	library := 0                     // metrics of the client library
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+) (\w+)$`).FindAllStringSubmatch(scrape, -1) {
		if strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			library++
			continue
		}
		suffix := ""
		if m[2] == "histogram" {
			suffix = "_count"
		}
		sample := regexp.MustCompile(`(?m)^` + m[1] + suffix + `(?:\{(.*)\})? `).FindStringSubmatch(scrape)
		if sample == nil {
			t.Fatalf("%s has no sample", m[1])
		}
		labels := []string{m[2]}
		for _, label := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(sample[1], -1) {
			labels = append(labels, label[1])
		}
		slices.Sort(labels)
		found[m[1]] = strings.Join(labels, " ")
	}
	known := make(map[string]bool)
	for _, row := range regexp.MustCompile("(?m)^\\| `(packhouse_\\w+)` \\| (\\w+) \\| ([^|]*)\\|").FindAllStringSubmatch(metrics, -1) {
		labels := append([]string{row[2]}, words(row[3])...)
		slices.Sort(labels)
		if want := found[row[1]]; strings.Join(labels, " ") != want {
			t.Errorf("%s: documented %v, the server has %q", row[1], labels, want)
		}
		known[row[1]] = true
		delete(found, row[1])
	}
	if len(found) > 0 {
		t.Errorf("docs/deployment.md lacks the metrics %v", found)
	}
	if library < 30 {
		t.Errorf("there are %d metrics of the client library, want those of Go and of the process", library)
	}
	for _, file := range []string{"alerts.yml", "grafana.json"} {
		text, err := os.ReadFile(filepath.Join("..", "..", "deploy", file))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range regexp.MustCompile(`packhouse_\w+`).FindAllString(string(text), -1) {
			if name = strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_count"); !known[name] {
				t.Errorf("deploy/%s names %s, which is no metric", file, name)
			}
		}
	}
	if got := s.stop(t, syscall.SIGTERM); got != 0 {
		t.Errorf("exit code: got %d", got)
	}
}

// words are the parts of text in backticks.
func words(text string) []string {
	var all []string
	for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(text, -1) {
		all = append(all, m[1])
	}
	return all
}
