package apitest

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "t.txt")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestParse(t *testing.T) {
	path := write(t, `# comment
@ Accept: a
> POST /x?y=z
> Accept: b
>> one
>> two
>>= "\r\n"
>>* 3 ab
< 200
< A: b
< !C
<ref 500 W15
<< text
<<= "\n"

@ Accept:
@ reconnect
> GET /
< 404
<<~ ^a+$
`)
	exchanges, _, err := parse(path)
	if err != nil || len(exchanges) != 2 {
		t.Fatalf("got %d exchanges, %v, want 2", len(exchanges), err)
	}
	x := exchanges[0]
	if got, want := string(x.wire("h")), "POST /x?y=z HTTP/1.1\r\nAccept: b\r\nHost: h\r\nContent-Length: 15\r\n\r\none\ntwo\r\nababab"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if x.status != 200 || len(x.wants) != 1 || len(x.forbids) != 1 || x.wantB != "text\n" ||
		x.other != "500" || x.why != "W15" {
		t.Errorf("got %+v", x)
	}
	x = exchanges[1]
	if got, want := string(x.wire("h")), "GET / HTTP/1.1\r\nHost: h\r\n\r\n"; got != want || !x.reconnect || x.wantRE == nil {
		t.Errorf("got %q %+v, want %q", got, x, want)
	}
}

func TestParseRefuses(t *testing.T) {
	for _, text := range []string{"< 200", "> GET", "> GET /\n< x", "> GET /\n<< body before status", "> GET /\n< 200\n<<~ (", "> GET /\n< 200\n<ref x",
		"? what", "@ nothing"} {
		if _, _, err := parse(write(t, text)); err == nil || !strings.Contains(err.Error(), "t.txt:") {
			t.Errorf("%q: got %v, want an error with its line", text, err)
		}
	}
}

func TestRewrite(t *testing.T) {
	path := write(t, "# first\n> GET /\n< 200\n<< old\n\n# second\n> GET /x\n< 200\n")
	exchanges, lines, err := parse(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := rewrite(path, lines, exchanges, [][]string{{"< 201", "<< new"}, {"< 404"}}); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if want := "# first\n> GET /\n< 201\n<< new\n\n# second\n> GET /x\n< 404\n"; err != nil || string(text) != want {
		t.Errorf("got %q, %v, want %q", text, err, want)
	}
}

// Each answer has the body that the transcript says: without a line about it, none.
func TestReplayComparesBodies(t *testing.T) {
	for _, c := range []struct {
		expectation, body string
		differs           bool
	}{
		{"< 200\n<< text\n", "text", false},
		{"< 200\n<< text\n", "", true},
		{"< 200\n", "", false},
		{"< 200\n<< \n", "", false},
		{"< 200\n", "text", true},
		{"< 404\n", "text", true},
		{"< 200\n<<~ ^t\n", "text", false},
		{"< 200\n<<~ ^t\n", "other", true},
		{"< 200\n<<~ \n", "text", false},
	} {
		exchanges, _, err := parse(write(t, "> GET /\n"+c.expectation))
		if err != nil {
			t.Fatal(err)
		}
		x := exchanges[0]
		if got := x.differs([]byte(c.body)); (got != "") != c.differs {
			t.Errorf("%q for a body %q: got %q", c.expectation, c.body, got)
		}
		response := &http.Response{StatusCode: x.status}
		again, _, err := parse(write(t, "> GET /\n"+strings.Join(x.record(response, []byte(c.body)), "\n")))
		if err != nil {
			t.Fatal(err)
		}
		if x.wantRE == nil && again[0].differs([]byte(c.body)) != "" {
			t.Errorf("-update of %q with a body %q expects %q", c.expectation, c.body, again[0].wantB)
		}
	}
}

// The status of the reference is written only where it differs, and its reason is kept as long as it holds.
func TestRecordReference(t *testing.T) {
	path := write(t, "> GET /\n< 200\n< A: b\n<ref 500 W15\n<< x\n")
	exchanges, lines, err := parse(path)
	if err != nil {
		t.Fatal(err)
	}
	for status, want := range map[string]string{
		"500": "< 200|< A: b|<ref 500 W15|<< x",
		"404": "< 200|<ref 404|< A: b|<< x",
		"200": "< 200|< A: b|<< x",
	} {
		if got := strings.Join(exchanges[0].recordReference(lines, status), "|"); got != want {
			t.Errorf("status %s: got %s, want %s", status, got, want)
		}
	}
}
