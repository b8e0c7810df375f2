package apitest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// What a "<ref" line may say instead of a status.
const (
	noAnswer = "none"   // the connection ends without one
	notSent  = "unsent" // the request would be taken for several, or for none
)

// ReplayReference sends the requests of a transcript to the reference server of its protocol. Its answers must have the status
// that the transcript expects of it, and if that is a success also the body and the headers. This verifies that the
// transcripts describe what clients expect, and that each difference is listed.
//
// Each request has its own connection, because the reference does not keep a connection usable after an error.
func ReplayReference(t *testing.T, address, path string) {
	t.Helper()
	exchanges, lines, err := parse(path)
	if err != nil {
		t.Fatal(err)
	}
	r := &replayer{t: t, dial: dialer(address)}
	defer r.close()
	answers := make([][]string, len(exchanges))
	for i, x := range exchanges {
		where := fmt.Sprintf("%s:%d: %s %s", filepath.Base(path), x.line, x.method, x.target)
		status := notSent
		if x.other != notSent {
			x.reconnect = true
			response, body, err := r.do(x)
			if status = noAnswer; err == nil {
				status = strconv.Itoa(response.StatusCode)
				x.compareReference(t, where, response, body)
			}
		}
		expected := x.other
		if expected == "" {
			expected = strconv.Itoa(x.status)
		}
		if status != expected && !*update {
			t.Errorf("%s: the reference answers %s, the transcript says %s", where, status, expected)
		}
		answers[i] = x.recordReference(lines, status)
	}
	if *update {
		if err := rewrite(path, lines, exchanges, answers); err != nil {
			t.Fatal(err)
		}
	}
}

// compareReference reports where a successful answer of the reference is not the one the transcript expects of us.
func (x *exchange) compareReference(t *testing.T, where string, response *http.Response, body []byte) {
	t.Helper()
	if response.StatusCode != x.status || x.status >= 400 || x.other != "" {
		return
	}
	if x.wantRE != nil && response.Header.Get("Content-Type") == "application/json" {
		var compact bytes.Buffer
		if err := json.Compact(&compact, body); err == nil {
			body = compact.Bytes()
		}
	}
	where += " (reference)"
	x.elsewhere(t, where, response, body).compare(t, where, response, body)
}

// elsewhere is the expectation of another server: times, and what directories have for a size, are its own. It
// compares a listing by itself.
func (x *exchange) elsewhere(t *testing.T, where string, response *http.Response, body []byte) *exchange {
	t.Helper()
	expect := *x
	expect.wants = nil
	directory := response.Header.Get("X-BorgStore-Is-Directory") == "true"
	for _, want := range x.wants {
		if strings.HasSuffix(want.name, "time") || want.name == "Content-Length" && directory {
			want.value = "*"
		}
		expect.wants = append(expect.wants, want)
	}
	if strings.HasPrefix(x.wantB, "[") && response.Header.Get("Content-Type") == "application/json" {
		expect.wantRE = anyBody
		want, wantErr := entries([]byte(x.wantB))
		got, gotErr := entries(body)
		if wantErr != nil || gotErr != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got a listing of %v %v, want %v %v", where, got, gotErr, want, wantErr)
		}
	}
	return &expect
}

// anyBody is the expectation of a body that is not looked at.
var anyBody = regexp.MustCompile("")

// entry is what clients need of one entry of a listing.
type entry struct {
	Name      string
	Size      int64
	Directory bool
}

func entries(listing []byte) (list []entry, err error) {
	err = json.Unmarshal(listing, &list)
	for i := range list {
		if list[i].Directory {
			list[i].Size = 0
		}
	}
	return list, err
}

// recordReference is the expectation as it stands in the file, with the status of the reference where it differs.
func (x *exchange) recordReference(lines []string, status string) []string {
	var kept []string
	for _, line := range lines[x.answer[0]:x.answer[1]] {
		if why, ok := strings.CutPrefix(line, "<ref "); ok {
			if is, _, _ := strings.Cut(why, " "); is != status {
				continue // it answers otherwise now
			}
			status = "" // the line stays, with its reason
		}
		kept = append(kept, line)
	}
	if status != "" && status != strconv.Itoa(x.status) {
		kept = slices.Insert(kept, 1, "<ref "+status)
	}
	return kept
}
