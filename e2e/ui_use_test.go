//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
)

// lookAtPage returns what is wrong with the page that is shown, for people who do not see it well or have a small screen: text with a contrast below
// that of WCAG 2 AA (1.4.3) on what is painted below it; fields and links without a name; a page that is wider than the screen; something to
// press that is smaller than 24 pixels (2.5.8), unless it is in a line of text; headings out of order; and an ID that is there twice.
const lookAtPage = `(() => {
  const wrong = [], canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
  const over = (a, b) => [0, 1, 2].map((i) => (a[i] * a[3] + b[i] * (255 - a[3])) / 255).concat(255);
  const light = (c) => c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4).reduce((l, v, i) => l + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (e) => { const c = e ? rgba(getComputedStyle(e).backgroundColor) : [255, 255, 255, 255]; return c[3] === 255 ? c : over(c, ground(e.parentElement)); };
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".hidden, .skip") && !e.closest("svg");
  const said = (e) => e.outerHTML.slice(0, 120);
  const check = (e, colour, text) => {
    const on = ground(e), a = light(over(rgba(colour), on)), b = light(on), style = getComputedStyle(e), size = parseFloat(style.fontSize);
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), least = size >= 24 || size >= 18.66 && style.fontWeight >= 700 ? 3 : 4.5;
    if (ratio < least) wrong.push("a contrast of " + ratio.toFixed(2) + ": " + text);
  };
  for (const e of document.querySelectorAll("body *")) {
    if (!seen(e)) continue;
    if ([...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()) && e.tagName !== "OPTION") check(e, getComputedStyle(e).color, said(e));
    if (e.placeholder && !e.value) check(e, getComputedStyle(e, "::placeholder").color, "placeholder of " + said(e));
  }
  for (const e of document.querySelectorAll("a, button, summary, input:not([type=hidden]), select, textarea")) {
    if (!seen(e)) continue;
    const label = e.getAttribute("aria-label") || e.textContent.trim() || (e.labels && [...e.labels].map((l) => l.textContent.trim()).join(""));
    if (!label || (e.matches("select, textarea, input") && !e.labels.length && !e.getAttribute("aria-label"))) wrong.push("it has no name: " + said(e));
    const box = (e.labels && e.labels[0] && e.labels[0].contains(e) ? e.labels[0] : e).getBoundingClientRect();
    if (getComputedStyle(e).display !== "inline" && Math.min(box.width, box.height) < 24 && !e.matches("input[type=checkbox], summary")) wrong.push("it is " + box.width + " by " + box.height + ": " + said(e));
  }
  if (document.documentElement.scrollWidth > innerWidth) {
    const wide = [...document.querySelectorAll("body *")].filter((e) => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .skip")).map(said);
    wrong.push(document.documentElement.scrollWidth + " of " + innerWidth + " pixels: " + wide.slice(-3).join(" "));
  }
  let level = 0;
  for (const h of document.querySelectorAll("h1, h2, h3")) { if (h.tagName[1] - level > 1) wrong.push("a heading that is out of order: " + said(h)); level = h.tagName[1]; }
  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) wrong.push("two have the ID " + id);
  return wrong;
})()`

// uiPages are all pages that can be shown of a repository, and of the server.
func uiPages(name, trash string) [][]string {
	return [][]string{
		{""}, {"", "q", "nothing"}, {"new"}, {"new", "new", "x", "dialect", "vger"}, {"removed"}, {"tokens"}, {"tokens/new"}, {"tokens/new", "role", "admin", "all", "yes"},
		{"alerts"}, {"nothing"}, {"repository", "name", name}, {"repository", "name", "new-and-empty"}, {"jobs", "name", name}, {"scrub", "name", name, "share", "all"},
		{"plan", "name", name}, {"plans", "name", name}, {"kept", "name", name}, {"trash", "name", name}, {"trash/restore", "name", name, "id", trash},
		{"selection", "name", name, "prefix", "gone/"}, {"history", "name", name}, {"rollback", "name", name}, {"rollback", "name", name, "to", "2026-01-01 00:00"},
		{"locks", "name", name}, {"lock", "name", name, "id", "locks/" + fmt.Sprintf("%064x", 7)}, {"writers", "name", name}, {"quota", "name", name, "quota", "1K"},
		{"repair", "name", name}, {"check", "name", name}, {"salvage", "name", name, "hours", "1"}, {"loss", "name", name}, {"destroy", "name", name},
	}
}

// TestUIForEveryone: each page can be read and used in light and dark, on a wide screen and on one of 360 pixels. With PACKHOUSE_AXE, the path of
// axe.min.js of the npm package axe-core, that looks as well.
func TestUIForEveryone(t *testing.T) {
	s, before := uiServer(t, hostile)
	b := openTab(t, "http://"+s.addr)
	axe := ""
	if path := os.Getenv("PACKHOUSE_AXE"); path != "" {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		axe = string(text)
	}
	looked := 0
	every := func(page string) {
		t.Helper()
		for _, width := range []int64{360, 1280} {
			b.do(chromedp.EmulateViewport(width, 800))
			for _, dark := range []bool{false, true} {
				b.scheme(dark)
				wrong, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](lookAtPage))
				if err != nil {
					t.Fatal(err)
				}
				if axe != "" {
					if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](axe+";true")); err != nil {
						t.Fatal(err)
					}
					const run = `axe.run(document, {runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}).then((r) => r.violations.flatMap((v) => v.nodes.map((n) => v.id + ": " + n.html.slice(0, 160) + " " + n.failureSummary)))`
					found, err := chromedp.Run(b.ctx, chromedp.Evaluate[[]string](run, chromedp.EvalAwaitPromise))
					if err != nil {
						t.Fatal(err)
					}
					wrong = append(wrong, found...)
				}
				for _, w := range wrong {
					t.Errorf("%s, %d pixels, dark %v: %s", page, width, dark, w)
				}
				looked++
			}
		}
	}
	b.do(chromedp.Navigate(b.base + "/"))
	every("front")
	b.load("")
	every("login")
	b.login("", token)
	const name = "alice/laptop"
	b.load("trash", "name", name, "prefix", "gone/")
	id, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.querySelector("input[name=id]").value`))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range uiPages(name, id) {
		b.load(page[0], page[1:]...)
		every(strings.Join(page, " "))
	}
	b.load("tokens/new", "role", "read", "repositories", name, "token", "reads")
	b.press(button("Create the token"))
	b.wants("The token reads is created")
	every("tokens/new, created")
	b.load("tokens")
	every("tokens, with one")
	b.load("check", "name", name)
	b.press(button("Begin"))
	every("check/state")
	b.load("scrub", "name", name, "share", "all")
	b.press(button("Begin"))
	every("job")
	b.load("rollback", "name", name, "to", before.UTC().Format("2006-01-02 15:04:05"))
	every("rollback, planned")
	b.press(button("Roll back"))
	every("rollback/state")
	b.load("destroy", "name", "mail")
	b.do(chromedp.SendKeys("#typed", "mail"))
	b.press(button("Destroy the repository"))
	b.wants("The repository mail is destroyed.")
	b.load("removed")
	every("removed, with one")
	if looked < 150 {
		t.Errorf("only %d looks", looked)
	}
}

// focused is what the keyboard is on.
const focused = `(() => { const e = document.activeElement; return (e.getAttribute("aria-label") || e.textContent || e.id || "").trim().replace(/\s+/g, " ") + "|" + e.id + "|" + (parseFloat(getComputedStyle(e).outlineWidth) >= 2 && getComputedStyle(e).outlineStyle !== "none"); })()`

// tabTo goes on by the tabulator key until what has a text, or an ID, has the focus, which must be seen there.
func (b *tab) tabTo(text string) {
	b.t.Helper()
	var on string
	for range 120 {
		b.do(chromedp.KeyEvent("\t"))
		var err error
		if on, err = chromedp.Run(b.ctx, chromedp.Evaluate[string](focused)); err != nil {
			b.t.Fatal(err)
		}
		part := strings.Split(on, "|")
		if strings.Contains(part[0], text) || part[1] == text {
			if part[2] != "true" {
				b.t.Errorf("that %q has the focus is not to be seen", text)
			}
			return
		}
	}
	b.t.Fatalf("%q is not reached by keyboard; the last was %q\n%s", text, on, b.text())
}

// waits returns when something is true of the page, which may be loaded anew meanwhile.
func (b *tab) waits(expression string) {
	b.t.Helper()
	for range 200 {
		if is, err := chromedp.Run(b.ctx, chromedp.Evaluate[bool](`document.readyState === "complete" && `+expression)); err == nil && is {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	b.t.Fatalf("it does not become true that %s\n%s", expression, b.text())
}

// enter presses a key that leads to another page.
func (b *tab) enter() {
	b.t.Helper()
	if _, err := chromedp.RunResponse(b.ctx, chromedp.KeyEvent("\r")); err != nil {
		b.t.Fatalf("enter: %v\n%s", err, b.text())
	}
	b.do(chromedp.WaitVisible("main#main"))
}

// TestUIByKeyboard: logs in, breaks a lock, creates a token and logs out without a mouse.
func TestUIByKeyboard(t *testing.T) {
	s, _ := uiServer(t, hostile)
	b := openTab(t, "http://"+s.addr)
	b.load("") // the field of the secret has the focus
	b.do(chromedp.KeyEvent(token))
	b.enter()
	b.wants("Repositories")
	b.tabTo("alice/laptop")
	b.enter()
	b.tabTo("Break… the lock")
	b.enter()
	b.tabTo("Break the lock")
	b.enter()
	b.wants("is broken.")
	b.tabTo("Tokens")
	b.enter()
	b.tabTo("New token")
	b.enter()
	b.tabTo("token")
	b.do(chromedp.KeyEvent("by-keys"))
	b.tabTo("repositories")
	b.do(chromedp.KeyEvent("databases"))
	b.tabTo("Look at the token")
	b.enter()
	b.wants("by-keys", "databases", "backup: back up and restore")
	b.tabTo("Create the token")
	b.enter()
	b.wants("The token by-keys is created")
	b.tabTo("Log out")
	b.enter()
	b.wants("You have logged out.")
	b.check()
}

// TestUITokens: the secret of a token is on one page, which neither loading it again nor going back shows again; and its sessions end with it.
func TestUITokens(t *testing.T) {
	s, _ := uiServer(t, hostile)
	b, holder := openTab(t, "http://"+s.addr), openTab(t, "http://"+s.addr)
	b.login("", token)
	b.load("tokens/new", "role", "maintain", "repositories", "databases", "token", "nightly")
	b.press(button("Create the token"))
	secret, err := chromedp.Run(b.ctx, chromedp.Text(".secret"))
	if err != nil || len(secret) < 20 {
		t.Fatalf("the secret is %q, %v", secret, err)
	}
	holder.login("", secret)
	holder.wants("databases")
	holder.lacks("alice/laptop", "Tokens")
	gone := func(what string) {
		t.Helper()
		shown, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](`document.documentElement.outerHTML`))
		if err != nil || strings.Contains(shown, secret) {
			t.Errorf("%s: the secret is shown again, %v", what, err)
		}
	}
	b.press(link("To the tokens"))
	b.wants("nightly", "maintain")
	gone("the list")
	if err := chromedp.Do(b.ctx, chromedp.NavigateBack()); err != nil && !strings.Contains(err.Error(), "ERR_CACHE_MISS") { // it has kept nothing, and asks before it sends the form again
		t.Fatal(err)
	}
	gone("back")
	b.load("tokens/new", "role", "read", "repositories", "databases", "token", "again")
	if _, err := chromedp.RunResponse(b.ctx, chromedp.DoubleClick(button("Create the token"))); err != nil {
		t.Fatal(err)
	}
	b.wants("The token again is created")
	if secret, err = chromedp.Run(b.ctx, chromedp.Text(".secret")); err != nil {
		t.Fatal(err)
	}
	b.do(chromedp.Reload(), chromedp.WaitVisible("main#main"))
	b.wants("Already done", "was sent before")
	gone("loaded again")

	b.load("tokens", "q", "nightly")
	b.press(link("Revoke…"))
	b.wants("Its clients are refused at once", "maintain", "databases")
	b.press(button("Revoke the token"))
	b.wants("The token nightly is revoked.")
	holder.load("")
	holder.wants("The session has ended")
	b.check()
}

// TestUIBehindProxies: with TLS, at another port, and below a path, forms come from the same site, and the cookie is one that other hosts cannot set.
func TestUIBehindProxies(t *testing.T) {
	for _, proxy := range []struct {
		name, prefix string
		start        func(t *testing.T, socket, addr, certificate, key string)
	}{
		{"nginx", "", startNginx},
		{"nginx below a path", "/backup", func(t *testing.T, socket, addr, certificate, key string) {
			site := strings.NewReplacer("location / {", "location /backup/ {", "proxy_pass http://packhouse;", "proxy_pass http://packhouse/;").Replace(nginxSite(t, socket, addr, certificate, key))
			runNginx(t, addr, site)
		}},
		{"caddy", "", startCaddy},
	} {
		t.Run(proxy.name, func(t *testing.T) {
			certificate, key := selfSigned(t)
			s, front := newServer(t), freeAddress(t)
			seedUI(t, s.data, hostile)
			socket := filepath.Join(shortDir(t), "http.sock")
			tokenFile := filepath.Join(s.dir, "token")
			writeFile(t, tokenFile, token+"\n", 0o600)
			s.args = []string{"serve", "--listen", s.addr, "--listen", "unix:" + socket, "--data-dir", s.data, "--token-file", tokenFile, "--log-format", "json"}
			s.start()
			proxy.start(t, socket, front, certificate, key)
			_, port, _ := strings.Cut(front, ":")
			b := openTab(t, "https://localhost:"+port+proxy.prefix)
			b.login("", token)
			b.lacks("without TLS")
			cookies, err := chromedp.Call(b.ctx, network.GetCookies, network.GetCookiesParams{})
			if err != nil {
				t.Fatal(err)
			}
			if len(cookies.Cookies) != 1 || cookies.Cookies[0].Name != "__Host-packhouse_session" || !cookies.Cookies[0].Secure || !cookies.Cookies[0].HTTPOnly {
				t.Errorf("the cookies are %+v", cookies.Cookies)
			}
			b.press(link("alice/laptop"))
			b.press(`//tr[contains(., "stale")]//a`)
			b.press(button("Break the lock"))
			b.wants("is broken.")
			b.press(link("Jobs"))
			b.do(chromedp.SetValue("#share", "all"))
			b.press(button("Check…"))
			b.press(button("Begin"))
			b.waits(`document.querySelector("main h2 .badge").textContent === "done"`) // of which an event tells
			b.press(button("Log out"))
			b.wants("You have logged out.")
			b.check()
		})
	}
}
