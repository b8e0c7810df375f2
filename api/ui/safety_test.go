package ui_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"packhouse/api/ui"
)

// hostile is text that is code where it is not escaped.
const hostile = `"><img src=x onerror=alert(1)>'<script>alert(2)</script>&amp;{{.}}` + "`" + `javascript:alert(3)`

// stub is an API that answers each path with what a function makes.
func stub(t *testing.T, answer func(path string) any) *person {
	t.Helper()
	w := &world{t: t}
	h, err := ui.New(ui.Options{Server: func() http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") == "" {
				http.Error(rw, "Unauthorized", http.StatusUnauthorized)
				return
			}
			switch v := answer(r.URL.EscapedPath()).(type) {
			case int:
				rw.WriteHeader(v)
				_ = json.NewEncoder(rw).Encode(map[string]any{"title": hostile, "detail": hostile, "status": v})
			case func(http.ResponseWriter, *http.Request):
				v(rw, r)
			default:
				_ = json.NewEncoder(rw).Encode(v)
			}
		})
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close(ctx) })
	front := httptest.NewServer(h)
	t.Cleanup(front.Close)
	w.url, w.pages = front.URL, h
	p := w.person()
	p.post("login", "user", "u", "secret", "s")
	return p
}

type object = map[string]any

// hostileAPI has hostile text wherever the API has text that a client or a user has chosen.
func hostileAPI(path string) any {
	now := time.Now().UTC()
	repository := object{
		"name": hostile, "dialect": hostile, "created": now, "rights": "lrwWD", "administrates": true, "grace": "1h", "history_since": now, "writers": []object{{"name": hostile, "last_backup": now}, {"name": hostile, "last_backup": now}},
		"writers_total": 20, "usage": object{"items": 1, "bytes": 1, "quota": 10, "trash_quota": 10, "last_backup": now, "damaged_items": 1, "open_plans": 1, "kept_items": 1},
		"health": object{"writable": false, "reason": hostile, "short": []object{{"of": hostile, "help": hostile}}}, "grown": object{"bytes_30d": -5},
	}
	job := object{
		"id": hostile, "kind": "scrub", "state": "failed", "principal": hostile, "when": hostile, "created": now, "started": now, "finished": now, "damaged": []string{hostile},
		"error": object{"message": hostile, "key": hostile}, "plan": object{"detail": hostile}, "bad": 1,
	}
	removed := object{"id": strings.Repeat("0", 32), "key": hostile, "size": 1, "modified": now, "removed": now, "expires": now}
	rest := path[strings.Index(path, "/-/")+3:]
	switch {
	case path == "/-/self":
		return object{"name": hostile, "rights": "lrwWD", "administrates": true}
	case path == "/health":
		return object{"status": "degraded", "reason": hostile, "disk_total_bytes": 10, "disk_free_bytes": 1}
	case path == "/-/tokens":
		token := object{"id": hostile, "name": hostile, "role": hostile, "repositories": []string{hostile}, "created": now, "expires": now, "created_by": hostile, "secret": hostile}
		return func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost {
				_ = json.NewEncoder(w).Encode(token)
				return
			}
			_ = json.NewEncoder(w).Encode(object{"tokens": []object{token}})
		}
	case path == "/-/alerts":
		return object{
			"alerts":    []object{{"kind": hostile, "repository": hostile, "level": hostile, "text": hostile, "since": now}},
			"receivers": []object{{"name": hostile, "type": hostile, "to": hostile, "failed_attempts": 1, "error": hostile, "failing_since": now}}, "looked": now,
		}
	case path == "/-/removed":
		return object{"removed": []object{{"id": "1", "name": hostile, "dialect": hostile, "removed": now, "expires": now}}}
	case path == "/-/repositories":
		return object{"repositories": []object{repository, {"name": hostile, "error": object{"detail": hostile}}}}
	case rest == "":
		return repository
	case rest == "guard":
		return object{"min_age": hostile, "guard": "keep", "refused": object{hostile: 1}, "max_removed": 3, "lifted_until": now, "held_since": now}
	case rest == "writers":
		return object{"writers": []object{{"name": hostile, "last_backup": now}}, "total": 1000}
	case rest == "plans":
		return object{"id": 1, "since": now, "principal": hostile, "address": hostile, "lock": hostile, "job": hostile}
	case rest == "kept":
		return object{"key": hostile, "removed": now, "expires": now, "why": hostile}
	case rest == "accept-loss":
		return object{"items": 1, "keys": []string{hostile}, "shards": []string{hostile}}
	case rest == "check":
		return func(w http.ResponseWriter, _ *http.Request) {
			e := json.NewEncoder(w)
			_ = errors.Join(e.Encode(object{"problem": hostile, "problems": 1}), e.Encode(object{"advice": hostile, "problems": 1}), e.Encode(object{"broken": hostile}))
		}
	case rest == "locks":
		return object{"total": 1000, "locks": []object{{"kind": hostile, "id": hostile, "host": hostile, "process": 1, "since": now, "refreshed": now, "why": hostile, "principal": hostile, "address": hostile, "silence": hostile}}}
	case rest == "jobs":
		return object{"jobs": []object{job}, "total": 1000}
	case strings.HasPrefix(rest, "jobs/"):
		return job
	case rest == "growth":
		return object{"days": []object{{"day": "2026-01-01", "bytes": 1}, {"day": "2026-01-03", "bytes": 5, "added": 7}}}
	case rest == "trash":
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Has("limit") {
				_ = json.NewEncoder(w).Encode(object{"removed": []object{removed}, "next": hostile})
				return
			}
			_ = json.NewEncoder(w).Encode(removed)
		}
	case rest == "history":
		return object{"changes": []object{{"id": 1, "time": now, "kind": hostile, "key": hostile, "from": hostile, "principal": hostile, "address": hostile, "job": hostile}}, "next": 7}
	case rest == "rollback":
		return object{"to": now, "last": 1, "changes": 3, "lost": 1, "lost_keys": []object{{"key": hostile, "why": hostile}}, "before": now, "after": now}
	case strings.HasPrefix(rest, "compactions"):
		return object{"operations": 1}
	}
	return http.StatusNotFound
}

// What a text of somebody else would have to be to run: a tag of its own, a URL that is a program, or, outside of the values of attributes, an
// attribute.
var (
	code      = regexp.MustCompile(`(?i)<img src=x|<script>alert|href="\s*javascript:|action="\s*javascript:`)
	attribute = regexp.MustCompile(`(?i)<[^>]*\son\w+\s*=`)
	quoted    = regexp.MustCompile(`"[^"]*"`)
)

// runs finds what would run in a page.
func runs(text string) string {
	return code.FindString(text) + attribute.FindString(quoted.ReplaceAllString(text, `""`))
}

// TestHostileText: text of clients is text on every page, also in URLs, in fields and in errors.
func TestHostileText(t *testing.T) {
	p := stub(t, hostileAPI)
	check := func(page, text string) {
		t.Helper()
		if found := runs(text); found != "" {
			t.Errorf("%s: %q is code in\n%s", page, found, text)
		}
		if !strings.Contains(readable(text), "<img src=x") {
			t.Errorf("%s: the text is not shown: %s", page, readable(text))
		}
	}
	name := []string{"name", hostile}
	for page, parameters := range map[string][]string{
		"": {"q", "<img", "sort", hostile}, "repository": name, "jobs": name, "job": append(name, "id", hostile), "jobs/cancel": append(name, "id", hostile), "scrub": append(name, "share", "all"), "plan": name,
		"trash": append(name, "prefix", hostile), "trash/restore": append(name, "prefix", hostile, "id", strings.Repeat("0", 32)), "history": append(name, "key", hostile, "principal", hostile),
		"rollback": append(name, "to", "2026-01-01 00:00", "principal", hostile), "lock": append(name, "id", hostile), "quota": append(name, "quota", "5K"),
		"locks": name, "writers": name, "plans": name, "kept": name, "repair": name, "check": name, "salvage": append(name, "hours", "1"), "loss": name, "destroy": name,
		"selection": append(name, "prefix", hostile, "principal", hostile), "removed": nil, "removed/restore": {"id", "1"}, "tokens": {"q", hostile},
		"tokens/new": {"role", "read", "token", hostile, "repositories", hostile}, "tokens/revoke": {"token", hostile}, "alerts": nil, "alerts/test": nil,
	} {
		status, text := p.get(page, parameters...)
		if status != http.StatusOK {
			t.Errorf("%s: got %d %s", page, status, readable(text))
		}
		check(page, text)
	}
	text := p.wants(nil, "plan", name...)
	_, text = p.post("plan/estimate", append(p.fields(text, "plan/estimate"), "plan", hostile)...)
	check("plan/estimate", text)
	_, text = p.post("check", p.fields(p.wants(nil, "check", name...), "check")...)
	check("check/state", text)
	_, text = p.post("tokens/new", p.fields(p.wants(nil, "tokens/new", "role", "read", "repositories", "r"), "tokens/new")...)
	check("tokens/new", text)
	if status, text := p.get("quota", append(name, "quota", hostile)...); status != http.StatusBadRequest {
		t.Errorf("got %d", status)
	} else {
		check("wrong input", text)
	}
	p = stub(t, func(path string) any {
		if path == "/-/self" {
			return object{"name": hostile}
		}
		return http.StatusForbidden
	})
	_, text = p.get("")
	check("problem", text)
	p = stub(t, func(string) any { return http.StatusForbidden })
	if _, text = p.post("login", "user", hostile, "secret", "x"); runs(text) != "" || !strings.Contains(text, "&lt;img") {
		t.Errorf("login: got %s", text)
	}
}

// TestTemplates: pages have no code and no style of their own, and ask no other site for anything.
func TestTemplates(t *testing.T) {
	files, err := filepath.Glob("templates/*.html")
	if err != nil || len(files) < 10 {
		t.Fatalf("got %q, %v", files, err)
	}
	styles, err := filepath.Glob("assets/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(files, styles...) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := regexp.MustCompile(`(?i)<[^>]*\s(style|on\w+)\s*=|<style|<script>|https?://|//cdn|@import|javascript:`).FindString(string(text))
		if found != "" && found != "http://" || found == "http://" && strings.Count(string(text), "http://") != strings.Count(string(text), "http://www.w3.org/") {
			t.Errorf("%s has %q", file, found)
		}
		for _, form := range regexp.MustCompile(`(?s)<form method="post"[^>]*>.*?</form>`).FindAllString(string(text), -1) {
			if !strings.Contains(form, `name="form" value="{{$.Token `) && !strings.Contains(form, `{{link "login"}}`) {
				t.Errorf("%s: a form has no token: %s", file, form)
			}
		}
	}
}

// TestContrast: each text can be read on what it stands on, in both schemes: WCAG 2 AA wants 4.5 for text, and 3 for the edges of fields.
func TestContrast(t *testing.T) {
	text, err := os.ReadFile("assets/style.css")
	if err != nil {
		t.Fatal(err)
	}
	schemes := strings.SplitN(string(text), "@media (prefers-color-scheme: dark)", 2)
	if len(schemes) != 2 {
		t.Fatal("there is no dark scheme")
	}
	dark, _, _ := strings.Cut(schemes[1], "* {")
	for scheme, css := range map[string]string{"light": schemes[0], "dark": dark} {
		colours := make(map[string]float64)
		for _, m := range regexp.MustCompile(`--([a-z-]+): #([0-9a-f]{6});`).FindAllStringSubmatch(css, -1) {
			n, err := strconv.ParseUint(m[2], 16, 32)
			if err != nil {
				t.Fatal(err)
			}
			colours[m[1]] = luminance(n)
		}
		for _, pair := range []struct {
			on, over string
			least    float64
		}{
			{"text", "bg", 4.5}, {"text", "surface", 4.5}, {"muted", "bg", 4.5}, {"muted", "surface", 4.5}, {"accent", "bg", 4.5}, {"accent", "surface", 4.5},
			{"on-accent", "accent", 4.5}, {"on-head", "head", 4.5}, {"ok", "ok-bg", 4.5}, {"warn", "warn-bg", 4.5}, {"bad", "bad-bg", 4.5}, {"run", "run-bg", 4.5},
			{"text", "ok-bg", 4.5}, {"text", "warn-bg", 4.5}, {"text", "bad-bg", 4.5}, {"text", "run-bg", 4.5},
			{"field", "surface", 3}, {"field", "bg", 3}, {"accent", "line", 3}, {"bad", "line", 3}, {"accent", "area", 3},
		} {
			a, ok := colours[pair.on]
			b, there := colours[pair.over]
			if !ok || !there {
				t.Errorf("%s: there is no %s or %s", scheme, pair.on, pair.over)
				continue
			}
			if got := (max(a, b) + 0.05) / (min(a, b) + 0.05); got < pair.least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, want %.1f", scheme, pair.on, pair.over, got, pair.least)
			}
		}
	}
}

// luminance is the relative luminance of a colour, as WCAG 2 defines it.
func luminance(rgb uint64) (l float64) {
	for i, weight := range []float64{0.2126, 0.7152, 0.0722} {
		c := float64(rgb>>(16-8*i)&0xff) / 255
		if c <= 0.04045 {
			c /= 12.92
		} else {
			c = math.Pow((c+0.055)/1.055, 2.4)
		}
		l += weight * c
	}
	return l
}

// TestManyRepositories: a thousand of them are shown in pages, sorted and filtered, with the totals of all.
func TestManyRepositories(t *testing.T) {
	p := stub(t, manyRepositories(1000))
	text := p.wants([]string{"repository-0000", "repository-0099", "1 to 100 of 1000", "Next page", "487.8 KiB"}, "")
	if strings.Contains(text, "repository-0100") {
		t.Error("a page has more than 100")
	}
	p.wants([]string{"repository-0900", "901 to 1000 of 1000", "Previous page"}, "", "skip", "900")
	p.wants([]string{"1000 to 1000 of 1000"}, "", "skip", "5000")
	p.wants([]string{"repository-0999", "repository-0998"}, "", "sort", "size")
	if text := p.wants([]string{"repository-0777", "1 found"}, "", "q", "Y-0777"); strings.Contains(text, "repository-0776") {
		t.Error("the filter lets others through")
	}
	for _, order := range []string{"state", "backup", "growth", "nothing"} {
		p.wants([]string{"of 1000"}, "", "sort", order)
	}
	if status, _ := p.get("", "skip", "-1"); status != http.StatusBadRequest {
		t.Errorf("skip=-1: got %d", status)
	}
}

func manyRepositories(n int) func(path string) any {
	all := make([]object, n)
	for i := range all {
		all[i] = object{
			"name": fmt.Sprintf("repository-%04d", i), "dialect": "borgstore", "usage": object{"items": 1, "bytes": i, "last_backup": "2026-01-01T00:00:00Z"}, "health": object{"writable": true},
			"grown": object{"bytes_30d": i}, "writers": []object{{"name": "a", "last_backup": "2026-01-01T00:00:00Z"}}, "writers_total": 1, "grace": "0s",
		}
	}
	return func(path string) any {
		switch path {
		case "/-/self":
			return object{"name": "u"}
		case "/health":
			return object{"status": "ok"}
		}
		return object{"repositories": all}
	}
}

// TestBrokenAnswers: an API that ends early, or panics, is said to have failed, and nothing hangs.
func TestBrokenAnswers(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"cut": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, `{"repositories":[`)
			panic(http.ErrAbortHandler)
		},
		"panic":    func(http.ResponseWriter, *http.Request) { panic("a fault") },
		"no JSON":  func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") },
		"no words": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) },
	} {
		p := stub(t, func(path string) any {
			if path == "/-/self" {
				return object{"name": "u"}
			}
			return answer
		})
		if status, text := p.get(""); status < 500 || !strings.Contains(readable(text), "That did not work") {
			t.Errorf("%s: got %d %s", name, status, readable(text))
		}
	}
}

// TestSender: the API is asked as the browser asks: from its address, with what proxies say, with the credentials of the session, and with
// nothing else of its.
func TestSender(t *testing.T) {
	var seen *http.Request
	p := stub(t, func(path string) any {
		return func(w http.ResponseWriter, r *http.Request) {
			seen = r
			fmt.Fprint(w, `{"name":"u"}`)
		}
	})
	r := p.request(http.MethodGet, "/-/ui/repository?name=alice%2Fa+b", "")
	r.Header.Set("X-Forwarded-For", "192.0.2.9")
	r.Header.Set("X-Forwarded-Proto", "https")
	r.Header.Set("X-Packhouse-Principal", "somebody")
	r.Header.Set("Authorization", "Bearer of-the-browser")
	p.do(r)
	if seen == nil || seen.RequestURI != "/alice/a%20b/-/growth" || seen.Header.Get("Authorization") != "Basic dTpz" || seen.Header.Get("X-Forwarded-For") != "192.0.2.9" ||
		seen.Header.Get("X-Forwarded-Proto") != "https" || seen.Header.Get("X-Packhouse-Principal") != "" || seen.Header.Get("Cookie") != "" || !strings.HasPrefix(seen.RemoteAddr, "127.0.0.1:") {
		t.Errorf("got %+v", seen)
	}
}
