//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"fmt"
	"html"
	"image"
	"image/draw"
	"image/png"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"packhouse/bench"
	"packhouse/bench/report"
)

// browser is a real browser without a screen, all of whose requests end at a proxy of ours.
type browser struct {
	program string
	proxy   *httptest.Server

	mu     sync.Mutex
	pages  map[string]string // by URL; guarded by mu, as what follows
	policy string            // Content-Security-Policy of the pages
	asked  []string          // what was requested
}

func newBrowser(t *testing.T) *browser {
	b := &browser{program: need(t, "chromium"), pages: map[string]string{}}
	b.proxy = httptest.NewServer(b)
	t.Cleanup(b.proxy.Close)
	return b
}

// show puts a page at a URL, and a policy on all pages.
func (b *browser) show(url, page, policy string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pages[url], b.policy = page, policy
}

// itsOwn are the requests that the browser makes for itself, and that no switch keeps it from. What a page asks of those
// hosts would be refused by the policy, which the console says.
var itsOwn = regexp.MustCompile(`^\w+ (http:)?//(\w+\.)*(google|googleapis)\.com[:/]`)

// ServeHTTP is the proxy: it answers with our pages, and knows nothing else.
func (b *browser) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if asked := r.Method + " " + r.URL.String(); !itsOwn.MatchString(asked) {
		b.asked = append(b.asked, asked)
	}
	page, ok := b.pages[r.URL.String()]
	if !ok {
		http.Error(w, "the test has no network", http.StatusForbidden)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if b.policy != "" {
		w.Header().Set("Content-Security-Policy", b.policy)
	}
	fmt.Fprint(w, page)
}

// visit loads a URL with further arguments, and returns what the browser printed, what its console said and what its
// pages requested.
func (b *browser) visit(t *testing.T, url string, args ...string) (out string, console, asked []string) {
	t.Helper()
	// The browser's last processes may still write there when it has ended, so that a failure to remove it is none.
	profile, err := os.MkdirTemp("", "packhouse-browser-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(profile)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	b.mu.Lock()
	b.asked = nil
	b.mu.Unlock()
	// It runs as root in containers, where its sandbox and shared memory are not to be had. What it asks for itself,
	// such as news of its components, is switched off.
	cmd := exec.CommandContext(ctx, b.program, append([]string{"--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
		"--user-data-dir=" + profile, "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
		"--disable-default-apps", "--disable-extensions", "--enable-logging=stderr",
		"--proxy-server=" + b.proxy.URL, "--proxy-bypass-list=<-loopback>"}, append(args, url)...)...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &stdout, &stderr, 5*time.Second
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", b.program, err, stderr.String())
	}
	for line := range strings.Lines(stderr.String()) {
		// The browser's own windows have a console too, and complain of a busy machine.
		if strings.Contains(line, ":CONSOLE") && !strings.Contains(line, "source: chrome://") {
			console = append(console, strings.TrimSpace(line))
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return stdout.String(), console, slices.Clone(b.asked)
}

// picture loads a URL in a window and returns what is seen.
func (b *browser) picture(t *testing.T, url string, width, height int, args ...string) (seen image.Image, console, asked []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "seen.png")
	_, console, asked = b.visit(t, url, append(args, "--screenshot="+file, fmt.Sprintf("--window-size=%d,%d", width, height))...)
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	seen, err = png.Decode(f)
	if err != nil {
		t.Fatal(err)
	}
	if keep := os.Getenv("PACKHOUSE_PICTURES"); keep != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(filepath.Join(keep, filepath.Base(t.Name())+".png"), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return seen, console, asked
}

const (
	reportURL = "http://report.test/"
	frameURL  = "http://report.test/frame"
)

// reportPage is the page of the run in bench/testdata, compared with itself.
func reportPage(t *testing.T) string {
	t.Helper()
	f, err := os.Open("../bench/testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	run, err := bench.ReadRun(f)
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	if err := report.HTML(&page, run, run); err != nil {
		t.Fatal(err)
	}
	return page.String()
}

// TestReportInBrowser: the report of a bench is drawn by a real browser, in light and dark, on wide and narrow screens;
// its console says nothing, and it asks for nothing but the page.
func TestReportInBrowser(t *testing.T) {
	b := newBrowser(t)
	page := reportPage(t)
	b.show(reportURL, page, "default-src 'none'; style-src 'unsafe-inline'; img-src data:") // what it refuses, the console says
	themes := regexp.MustCompile(`--page:(#[0-9a-f]{6});.*?((?:--s\d:#[0-9a-f]{6};)+)`).FindAllStringSubmatch(page, -1)
	if len(themes) != 2 {
		t.Fatalf("the page has %d themes, want light and dark", len(themes))
	}
	dark := "--blink-settings=preferredColorScheme=0"
	for _, tt := range []struct {
		name          string
		width, height int
		theme         []string
		args          []string
	}{
		{"light", 1280, 6000, themes[0], nil},
		{"dark", 1280, 6000, themes[1], []string{dark}},
		{"phone", 390, 14000, themes[0], nil},
		{"darkphone", 390, 14000, themes[1], []string{dark}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			seen, console, asked := b.picture(t, reportURL, tt.width, tt.height, tt.args...)
			if len(console) > 0 {
				t.Errorf("the console says:\n%s", strings.Join(console, "\n"))
			}
			if !slices.Equal(asked, []string{"GET " + reportURL}) {
				t.Errorf("requested: %q", asked)
			}
			if got := seen.Bounds().Size(); got != (image.Point{tt.width, tt.height}) {
				t.Fatalf("the picture is %v", got)
			}
			count := colours(seen)
			if n := count[tt.theme[1]]; n < tt.width*tt.height/10 {
				t.Errorf("only %d pixels have the colour of the page, %s", n, tt.theme[1])
			}
			if len(count) < 500 {
				t.Errorf("the picture has only %d colours", len(count))
			}
			for i, colour := range regexp.MustCompile(`#[0-9a-f]{6}`).FindAllString(tt.theme[2], -1) {
				if i < 6 && count[colour] < 200 { // the run has six servers
					t.Errorf("only %d pixels have colour %d, %s", count[colour], i, colour)
				}
			}
		})
	}
}

// TestBrowserTells: what TestReportInBrowser looks for is found where it is.
func TestBrowserTells(t *testing.T) {
	b := newBrowser(t)
	faulty := `<!DOCTYPE html><html><head><link rel="icon" href="data:,"></head><body><img src="http://elsewhere.test/x.png"><script>nosuch()</script></body></html>`
	b.show(reportURL, faulty, "")
	_, console, asked := b.visit(t, reportURL, "--dump-dom")
	if !slices.Contains(asked, "GET http://elsewhere.test/x.png") {
		t.Errorf("the request for an image is not among %q", asked)
	}
	if !strings.Contains(strings.Join(console, "\n"), "nosuch is not defined") {
		t.Errorf("the fault of the script is not in the console: %q", console)
	}
	b.show(reportURL, faulty, "default-src 'none'; script-src 'none'")
	if _, console, _ = b.visit(t, reportURL, "--dump-dom"); !strings.Contains(strings.Join(console, "\n"), "Content Security Policy") {
		t.Errorf("what the policy refuses is not in the console: %q", console)
	}
	b.show(reportURL, `<!DOCTYPE html><html><body><p style="width:500px">wide</p><figure style="margin:0;width:300px"><svg viewBox="0 0 300 60"><title>bad</title>
		<text x="10" y="30">first</text><text x="20" y="30">second</text><text x="280" y="50">outside</text></svg></figure></body></html>`, "")
	_, wrong := b.measure(t, 360)
	for _, words := range []string{"the page is 50", "bad: second lies on first", "bad: outside leaves its box"} {
		if !strings.Contains(wrong, words) {
			t.Errorf("%q is not said of a page with that fault: %q", words, wrong)
		}
	}
	b.show(reportURL, `<!DOCTYPE html><html><body></body></html>`, "")
	if seen, _, _ := b.picture(t, reportURL, 400, 300); len(colours(seen)) != 1 {
		t.Errorf("an empty page has %d colours", len(colours(seen)))
	}
}

// measuring is a page with the report in a frame of a width. It writes down what does not fit: a page wider than its
// frame, labels that leave their picture's box, labels of a picture that lie on each other.
const measuring = `<!DOCTYPE html><html><head><link rel="icon" href="data:,"></head><body>
<iframe src="/" style="width:%dpx;height:900px;border:0"></iframe><pre></pre><script>
document.querySelector("iframe").onload = (event) => {
  const page = event.target.contentDocument, wrong = [];
  const width = page.documentElement.scrollWidth;
  if (width > event.target.clientWidth) wrong.push("the page is " + width + " pixels wide");
  for (const request of event.target.contentWindow.performance.getEntriesByType("resource"))
    wrong.push("the page asks for " + request.name);
  let labels = 0;
  for (const picture of page.querySelectorAll("svg")) {
    const box = (picture.closest("article, figure") || picture).getBoundingClientRect();
    const of = picture.querySelector("title").textContent;
    const placed = [];
    for (const label of picture.querySelectorAll("text")) {
      const r = label.getBoundingClientRect();
      labels++;
      if (r.left < box.left - 1 || r.right > box.right + 1 || r.top < box.top - 1 || r.bottom > box.bottom + 1)
        wrong.push(of + ": " + label.textContent + " leaves its box");
      for (const [other, o] of placed)
        if (r.left + 1 < o.right && o.left + 1 < r.right && r.top + r.height / 3 < o.bottom && o.top + o.height / 3 < r.bottom)
          wrong.push(of + ": " + label.textContent + " lies on " + other);
      placed.push([label.textContent, r]);
    }
  }
  document.querySelector("pre").textContent = "labels: " + labels + "\n" + wrong.join("\n");
};
</script></body></html>`

// TestReportFits: on screens from phone to desktop nothing is cut off or hides something else.
func TestReportFits(t *testing.T) {
	b := newBrowser(t)
	b.show(reportURL, reportPage(t), "")
	for _, width := range []int{360, 800, 1280} {
		t.Run(fmt.Sprint(width), func(t *testing.T) {
			labels, wrong := b.measure(t, width)
			if labels < 500 {
				t.Errorf("only %d labels were measured", labels)
			}
			if wrong != "" {
				t.Errorf("on %d pixels:\n%s", width, wrong)
			}
		})
	}
}

// measure returns how many labels the pictures of the page at reportURL have, and what does not fit in that width.
func (b *browser) measure(t *testing.T, width int) (labels int, wrong string) {
	t.Helper()
	b.show(frameURL, fmt.Sprintf(measuring, width), "")
	out, console, _ := b.visit(t, frameURL, "--dump-dom", "--window-size=1400,1000")
	found := regexp.MustCompile(`(?s)<pre>labels: (\d+)\n(.*?)</pre>`).FindStringSubmatch(out)
	if found == nil {
		t.Fatalf("the page was not measured; console: %q\n%s", console, out)
	}
	labels, err := strconv.Atoi(found[1])
	if err != nil {
		t.Fatal(err)
	}
	return labels, html.UnescapeString(found[2])
}

// colours counts the pixels of each colour.
func colours(seen image.Image) map[string]int {
	flat := image.NewRGBA(seen.Bounds())
	draw.Draw(flat, flat.Bounds(), seen, flat.Bounds().Min, draw.Src)
	byColour := map[[3]byte]int{}
	for i := 0; i < len(flat.Pix); i += 4 {
		byColour[[3]byte(flat.Pix[i:])]++
	}
	count := map[string]int{}
	for c, n := range byColour {
		count[fmt.Sprintf("#%02x%02x%02x", c[0], c[1], c[2])] = n
	}
	return count
}
