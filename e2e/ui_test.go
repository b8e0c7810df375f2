//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	cdplog "github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"golang.org/x/crypto/bcrypt"
)

// tab is a page of a real browser. What its console says is an error of the test.
type tab struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu    sync.Mutex
	wrong []string // guarded by mu
}

// openTab starts a browser, which takes any certificate.
func openTab(t *testing.T, base string) *tab {
	t.Helper()
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(need(t, "chromium")), chromedp.NoSandbox,
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("ignore-certificate-errors", true), chromedp.WindowSize(1280, 900))
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &tab{t: t, ctx: ctx, base: base}
	err := chromedp.Listen(ctx, func(event any) {
		b.mu.Lock()
		defer b.mu.Unlock()
		switch e := event.(type) {
		case *page.EventJavascriptDialogOpening:
			b.wrong = append(b.wrong, "a dialog: "+e.Message)
		case *runtime.EventExceptionThrown:
			b.wrong = append(b.wrong, "an exception: "+e.ExceptionDetails.Text)
		case *runtime.EventConsoleAPICalled:
			b.wrong = append(b.wrong, "the console: "+string(e.Type))
		case *cdplog.EventEntryAdded:
			if e.Entry.Source != cdplog.EntrySourceNetwork { // that is the status of a page that refuses something
				b.wrong = append(b.wrong, "the log: "+e.Entry.Text)
			}
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// do runs steps in the browser.
func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		seen, _ := chromedp.Run(b.ctx, chromedp.Text("body"))
		b.t.Fatalf("%v\nthe page says:\n%s", err, seen)
	}
}

// check reports what the browser complained of.
func (b *tab) check() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, wrong := range b.wrong {
		b.t.Error(wrong)
	}
	b.wrong = nil
}

// load loads a page below the root of the pages.
func (b *tab) load(path string, parameters ...string) {
	b.t.Helper()
	query := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		query.Set(parameters[i], parameters[i+1])
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	b.do(chromedp.Navigate(b.base+"/-/ui/"+path), chromedp.WaitVisible("main#main"))
}

// text is what is to be seen.
func (b *tab) text() string {
	b.t.Helper()
	seen, err := chromedp.Run(b.ctx, chromedp.Text("body"))
	if err != nil {
		b.t.Fatal(err)
	}
	return seen
}

func (b *tab) wants(texts ...string) {
	b.t.Helper()
	seen := b.text()
	for _, want := range texts {
		if !strings.Contains(seen, want) {
			b.t.Errorf("want %q on the page:\n%s", want, seen)
		}
	}
}

func (b *tab) lacks(texts ...string) {
	b.t.Helper()
	seen := b.text()
	for _, text := range texts {
		if strings.Contains(seen, text) {
			b.t.Errorf("%q is on the page:\n%s", text, seen)
		}
	}
}

// press clicks on what a selector finds, and waits for the page that follows.
func (b *tab) press(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 30*time.Second)
	defer cancel()
	if _, err := chromedp.RunResponse(ctx, chromedp.Click(selector, chromedp.NodeVisible)); err != nil {
		b.t.Fatalf("press %s: %v\n%s", selector, err, b.text())
	}
	b.do(chromedp.WaitVisible("main#main"))
}

// link and button find what has a text.
func link(text string) string { return `//a[contains(normalize-space(.), "` + text + `")]` }
func button(text string) string {
	return `//button[contains(normalize-space(.), "` + text + `")]`
}

func (b *tab) login(user, secret string) {
	b.t.Helper()
	b.load("")
	b.do(chromedp.SendKeys("#user", user), chromedp.SendKeys("#secret", secret))
	b.press(button("Log in"))
}

// scheme has the browser prefer dark pages, or light ones.
func (b *tab) scheme(dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	if err != nil {
		b.t.Fatal(err)
	}
}

// picture is the page as it is seen; it is kept where PACKHOUSE_SCREENSHOTS says.
func (b *tab) picture(name string, width, height int64, dark bool) {
	b.t.Helper()
	b.scheme(dark)
	b.do(chromedp.EmulateViewport(width, height))
	seen, err := chromedp.Run(b.ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Fatal(err)
	}
	b.do(chromedp.EmulateViewport(1280, 900))
	if dir := os.Getenv("PACKHOUSE_SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), seen, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

// uiServer is a server over repositories that look used, with a user who may only read. A scrub takes some time. It returns a moment before
// the last removal, too.
func uiServer(t *testing.T, chosen string) (*server, time.Time) {
	t.Helper()
	s := newServer(t)
	before := seedUI(t, s.data, chosen)
	hash, err := bcrypt.GenerateFromPassword([]byte("reads"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(s.dir, "packhouse.toml")
	writeFile(t, config, fmt.Sprintf(`
[server]
listen = %q
data_dir = %q
token = %q
log_format = "json"
grace = "90d"
quota = "64M"

[[user]]
name = "reader"
password_hash = %q
role = "read"

[maintenance]
rate = "512K"
scrub = "off"
snapshots = "off"
vacuum = "off"
`, s.addr, s.data, token, hash), 0o600)
	s.args = []string{"serve", "--config", config}
	s.start()
	return s, before
}

// TestUI goes through the pages in a real browser: look, run and cancel a job, restore, roll back, with too few rights, and over a restart.
func TestUI(t *testing.T) {
	s, before := uiServer(t, hostile)
	b := openTab(t, "http://"+s.addr)
	const name = "alice/laptop"

	b.do(chromedp.Navigate(b.base + "/"))
	b.wants("This is Packhouse")
	b.press(link("Go to the repositories"))
	b.do(chromedp.SendKeys("#secret", "wrong"))
	b.press(button("Log in"))
	b.wants("The server does not know these credentials.")
	b.login("", token)

	b.wants(name, "bob/phone", "new-and-empty", "no backup yet", "server ok", "<img src=x")
	b.do(chromedp.KeyEvent("\t"))
	if focus, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.activeElement.className`)); err != nil || focus != "skip" {
		t.Errorf("the first stop of the keyboard is %q, %v", focus, err)
	}
	b.press(link(name))
	b.wants("Size by day", "laptop.example@123456", hostile, "stale", "held")

	b.press(`//tr[contains(., "stale")]//a`)
	b.wants("This lock will be removed", hostile)
	b.press(button("Break the lock"))
	b.wants("is broken.")
	b.lacks("stale")

	b.press(link("Jobs"))
	b.do(chromedp.SetValue("#share", "all"))
	b.press(button("Check…"))
	b.press(button("Begin"))
	b.wants("The scrub is")
	b.do(chromedp.Func(func(ctx context.Context, _ *chromedp.Target) error { // told by events, without another page
		_, err := chromedp.Run(ctx, chromedp.Poll[bool](`document.querySelector("progress").value > 3 && document.querySelector("[data-text]").textContent.includes("running")`))
		return err
	}))
	b.press(link("Cancel…"))
	b.wants("The job will be cancelled")
	b.press(button("Cancel the job"))
	b.wants("The job is cancelled.")

	b.press(link("Trash"))
	b.do(chromedp.SendKeys("#prefix", "gone/"))
	b.press(button("Show"))
	b.wants("gone/important", "gone/"+hostile)
	b.do(chromedp.Click(`//input[@data-all]`))
	b.press(button("Restore what is ticked"))
	b.wants("Restore 2 items", "gone/"+hostile)
	b.press(button("Restore"))
	b.wants("Restored: 2 items")
	b.press(link("History"))
	b.wants("restore", "gone/important")

	b.load("rollback", "name", name, "to", before.UTC().Format(time.RFC3339))
	b.wants("Changes undone")
	b.load("rollback", "name", name, "to", before.Add(-7*time.Minute).UTC().Format(time.RFC3339))
	b.wants("Go to the trash", "3 items")
	b.press(button("Roll back"))
	b.wants("Done: 0 items came back", "3 went to the trash")
	b.press(link("To the repository"))

	// A page that is left open over a restart changes nothing.
	b.load("scrub", "name", name, "share", "all")
	s.stop()
	s.start()
	b.press(button("Begin"))
	b.wants("Nothing was changed: there is no session any more.")

	b.login("reader", "reads")
	b.wants(name, "reader")
	b.press(link(name))
	b.wants("read-only for you")
	b.lacks("Roll back", "Break…", "Change the quota")
	b.load("trash", "name", name)
	b.wants("You may not do that")
	b.load("scrub", "name", name, "share", "all")
	b.wants("You may not do that")
	b.press(button("Log out"))
	b.wants("You have logged out.")
	b.check()

	scrubs := 0
	for _, e := range s.entries() {
		if e.Operation == "scrub" && e.Status < 300 {
			scrubs++
		}
	}
	if scrubs != 1 {
		t.Errorf("%d scrubs were begun, want 1", scrubs)
	}
}

// TestUIOff: with the setting the pages are not there, and "/" is what it is for clients.
func TestUIOff(t *testing.T) {
	s := newServer(t)
	config := filepath.Join(s.dir, "packhouse.toml")
	writeFile(t, config, fmt.Sprintf("[server]\nlisten = %q\ndata_dir = %q\ntoken = %q\nlog_format = \"json\"\nui = false\n", s.addr, s.data, token), 0o600)
	s.args = []string{"serve", "--config", config}
	s.start()
	for _, path := range []string{"/", "/-/ui/"} {
		r, err := http.NewRequest(http.MethodGet, "http://"+s.addr+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "text/html")
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s: got %d, want 401", path, resp.StatusCode)
		}
	}
}

// TestScreenshots makes the pictures of the documents: make screenshots.
func TestScreenshots(t *testing.T) {
	if os.Getenv("PACKHOUSE_SCREENSHOTS") == "" {
		t.Skip("PACKHOUSE_SCREENSHOTS names no directory for the pictures")
	}
	s, _ := uiServer(t, "alice-tablet")
	b := openTab(t, "http://"+s.addr)
	b.login("", token)
	b.picture("dashboard", 1160, 715, false)
	b.load("repository", "name", "databases")
	b.picture("dashboard-repository", 1160, 940, true)
	b.check()
}
