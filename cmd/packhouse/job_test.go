package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestJobsAreStreamed: job list prints a job while the server still sends the others.
func TestJobsAreStreamed(t *testing.T) {
	t.Setenv("PACKHOUSE_TOKEN", "t")
	for _, test := range []struct {
		name, first string
		args        []string
	}{
		{"lines", `a1\tscrub\tdone\t`, nil},
		{"JSON", `"id": "a1"`, []string{"--json"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			seen := make(chan struct{}) // closed when the first job is printed
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				io.WriteString(w, `{"jobs":[{"id":"a1","kind":"scrub","state":"done"}`)
				w.(http.Flusher).Flush()
				select {
				case <-seen:
				case <-r.Context().Done():
				}
				io.WriteString(w, `,{"id":"a2","kind":"scrub","state":"done"}]}`)
			}))
			defer server.Close()
			r, w := io.Pipe()
			var out, errs buffer
			code := make(chan int, 1)
			go func() {
				c := run(t.Context(), append([]string{"packhouse", "job", "list", "--server", server.URL, "--repo", "x"}, test.args...), strings.NewReader(""), w, &errs)
				_ = w.Close()
				code <- c
			}()
			go io.Copy(&out, r)
			out.await(t, test.first)
			close(seen)
			if c := <-code; c != 0 {
				t.Errorf("got exit code %d, %s", c, &errs)
			}
			out.await(t, "a2")
			if test.args != nil {
				var document struct{ Jobs []struct{ ID string } }
				await(t, "whole document", func() bool { return json.Unmarshal([]byte(out.String()), &document) == nil }, &out)
				if len(document.Jobs) != 2 || !strings.Contains(out.String(), "\n    {\n      \"id\": \"a1\",") {
					t.Errorf("got\n%s", &out)
				}
			}
		})
	}
}
