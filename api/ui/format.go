package ui

import (
	"fmt"
	"html/template"
	"net/http"
	"net/url"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"packhouse/api"
	"packhouse/internal/bytesize"
)

// link is the URL of a page, with parameters: names and values in turn. Empty values are left out. It is relative to Root, wherever a proxy has
// put that: pages have it as their base.
func link(page string, parameters ...any) string {
	query := url.Values{}
	for i := 0; i+1 < len(parameters); i += 2 {
		if value := fmt.Sprint(parameters[i+1]); value != "" {
			query.Add(fmt.Sprint(parameters[i]), value)
		}
	}
	if page == "" {
		page = "./"
	}
	if len(query) == 0 {
		return page
	}
	return page + "?" + query.Encode()
}

// base is the URL of Root, relative to that of a request: it begins with a dot or with a part of a path, so that what is appended names no
// other server.
func base(r *http.Request) string {
	path := r.URL.EscapedPath()
	below, ok := strings.CutPrefix(path, Root)
	switch depth := strings.Count(below, "/"); {
	case !ok: // "/", or Root without its slash
		return strings.TrimPrefix(Root, path[:strings.LastIndexByte(path, '/')+1])
	case depth == 0:
		return "./"
	default:
		return strings.Repeat("../", depth)
	}
}

// functions are those of the templates.
func (h *Handler) functions() template.FuncMap {
	return template.FuncMap{
		"count": func(n any) string {
			switch n := n.(type) {
			case int:
				return count(n)
			case int64:
				return count(n)
			}
			return fmt.Sprint(n)
		},
		"link":     link,
		"size":     bytesize.Text,
		"sizeP":    func(n *int64) string { return bytesize.Text(*n) },
		"grown":    grownBy,
		"items":    func(n int64) string { return plural(n, "item") },
		"stamp":    stamp,
		"iso":      func(t time.Time) string { return t.UTC().Format(time.RFC3339) },
		"ago":      func(t time.Time) string { return ago(h.o.Now(), t) },
		"until":    func(t time.Time) string { return until(h.o.Now(), t) },
		"short":    short,
		"share":    share,
		"asset":    func(name string) string { return link("assets/"+name, "v", h.assets[name].version) },
		"deref":    func(t *time.Time) time.Time { return *t },
		"state":    stateOf,
		"tab":      func(v view, at string) map[string]any { return map[string]any{"View": v, "At": at} },
		"lockrows": func(v view, locks []api.LockInfo) map[string]any { return map[string]any{"View": v, "Locks": locks} },
		"len64":    func(list []string) int64 { return int64(len(list)) },
		"jobrows":  func(name string, jobs []jobView) map[string]any { return map[string]any{"Name": name, "Jobs": jobs} },
		// before is the moment before a change, as the rollback form takes it.
		"before": func(t time.Time) string { return t.UTC().Add(-time.Millisecond).Format(time.RFC3339Nano) },
		"grace":  graceOf,
		"by":     takenBy,
	}
}

// grownBy is a change of a size.
func grownBy(n int64) string {
	switch {
	case n > 0:
		return "+" + bytesize.Text(n)
	case n < 0:
		return "−" + bytesize.Text(-n)
	}
	return "0"
}

// count is a number with its thousands apart.
func count[T int | int64](n T) string {
	text := fmt.Sprint(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return text
}

// stamp is a moment, in UTC.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }

// ago is how long ago a moment was, in one unit.
func ago(now, t time.Time) string {
	d := now.Sub(t)
	switch {
	case d < -time.Minute:
		return "in " + span(-d)
	case d < time.Minute:
		return "just now"
	}
	return span(d) + " ago"
}

func until(now, t time.Time) string {
	if !t.After(now) {
		return "any moment"
	}
	return "in " + span(t.Sub(now))
}

func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return "less than a minute"
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}

// short cuts a text, which may be of a client's choice, in its middle.
func short(most int, text string) string {
	if utf8.RuneCountInString(text) <= most {
		return text
	}
	runes := []rune(text)
	return string(runes[:most/2]) + "…" + string(runes[len(runes)-(most-most/2-1):])
}

// share is a part of a whole, in percent from 0 to 100.
func share(part, whole int64) int64 {
	if whole <= 0 {
		return 0
	}
	return int64(min(100, max(0, float64(part)/float64(whole)*100)))
}

// sentence begins a text of the server as a sentence, and ends it as one.
func sentence(text string) string {
	text = strings.TrimSpace(text)
	first, n := utf8.DecodeRuneInString(text)
	if n == 0 {
		return ""
	}
	text = string(unicode.ToUpper(first)) + text[n:]
	if !strings.HasSuffix(text, ".") {
		text += "."
	}
	return text
}
