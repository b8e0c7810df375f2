package borgstore_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"unicode/utf8"

	"packhouse/api/borgstore"
	"packhouse/repo"
	"packhouse/repo/keys"
)

// A name that is accepted has one spelling, which is accepted again and is what a repository can hold.
func FuzzName(f *testing.F) {
	for _, seed := range []string{"", ".", "a", "a/b", "./a", "a//b", "..", "a..b", "f.tmp", "f.tmp/x", "A", "ü", "a b", "\x7f", "a\\b",
		strings.Repeat("a", 100), strings.Repeat("a", 101), "./" + strings.Repeat("./", 60)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if borgstore.Plain([]byte(name)) && borgstore.CheckName(name) != nil {
			t.Fatalf("%q is plain but not valid", name)
		}
		key, err := borgstore.CleanName(name)
		if err != nil {
			if status, text := answer(err); status != 400 || !utf8.ValidString(text) || strings.ContainsAny(text, "\r\n") {
				t.Fatalf("%q: got %d %q", name, status, text)
			}
			return
		}
		if borgstore.CheckName(name) != nil {
			t.Fatalf("%q is clean but not valid", name)
		}
		again, err := borgstore.CleanName(key)
		if err != nil && !strings.HasSuffix(key, ".tmp") && !strings.HasSuffix(key, ".hid") {
			t.Fatalf("%q became %q: %v", name, key, err)
		}
		if err == nil && again != key {
			t.Fatalf("%q became %q and then %q", name, key, again)
		}
		if key != "" && keys.Check(key) != nil {
			t.Fatalf("%q became %q, which a repository cannot hold", name, key)
		}
	})
}

// Plain names are those of lower case letters and digits alone, whatever else there is at any place.
func TestPlain(t *testing.T) {
	for _, length := range []int{1, 7, 8, 9, 64, 100} {
		name := bytes.Repeat([]byte{'f'}, length)
		for i := range name {
			for c := range 256 {
				name[i] = byte(c)
				want := c >= '0' && c <= '9' || c >= 'a' && c <= 'z'
				if borgstore.Plain(name) != want {
					t.Fatalf("%q: got %v", name, !want)
				}
			}
			name[i] = "09az"[i%4]
		}
	}
	if borgstore.Plain(nil) || borgstore.Plain(bytes.Repeat([]byte{'a'}, 101)) {
		t.Error("a name of no bytes or of 101 is plain")
	}
}

func TestAppendSeconds(t *testing.T) {
	for ms, want := range map[int64]string{1: "0.001", 999: "0.999", 1000: "1.000", 1234: "1.234", 1785492000007: "1785492000.007"} {
		if got := string(borgstore.AppendSeconds([]byte("x"), ms)); got != "x"+want {
			t.Errorf("%d: got %s, want %s", ms, got[1:], want)
		}
	}
}

// answer is the status and text of an error, whatever its kind.
func answer(err error) (int, string) {
	if status, _ := borgstore.ErrorTable.Find(err); status != 500 {
		return status, err.Error()
	}
	return 400, err.Error() // a statusError; the transcripts hold its status
}

// A range is always inside the object.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"bytes=2-4", "bytes=5-", "bytes=-3", "bytes=10-20", "bytes=5-4", "bytes=5-2", "bytes=0--1", "bytes=-", "lines=1-2",
		"bytes=9223372036854775807-9223372036854775807", "bytes=0-9223372036854775808", "bytes= +1_0 - 2", "bytes=1__0-", "bytes=0-1,2-3"} {
		f.Add(seed, int64(10))
		f.Add(seed, int64(0))
	}
	f.Add("bytes=1-9223372036854775807", int64(1<<62))
	f.Fuzz(func(t *testing.T, header string, size int64) {
		if size < 0 {
			return
		}
		offset, length, err := borgstore.ParseRange(header, size)
		if err != nil {
			return
		}
		if offset < 0 || length < 0 || offset > size || length > size-offset {
			t.Fatalf("%q of %d bytes: got %d+%d", header, size, offset, length)
		}
	})
}

// Queries that net/url reads are read alike, but for what the protocol has different.
func FuzzQuery(f *testing.F) {
	for _, seed := range []string{"", "cmd=move&current=a%2Fb&new=c", "a=1&a=2", "a=&a=2", "a=+%20", "%zz=1", "a=%FF", "a=b=c", "&&", "=x", "a;b=1", strings.Repeat("x=1&", 100) + "cmd=hash"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		got := borgstore.ParseQuery(raw)
		for key, value := range got {
			if value == "" || !utf8.ValidString(key) || !utf8.ValidString(value) {
				t.Fatalf("%q: got %q = %q", raw, key, value)
			}
		}
		want, err := url.ParseQuery(raw)
		if err != nil || !utf8.ValidString(raw) {
			return
		}
		for key, values := range want {
			first := ""
			for _, value := range values {
				if first == "" {
					first = value
				}
			}
			if !utf8.ValidString(key) || !utf8.ValidString(first) || first == "" {
				continue
			}
			if got[key] != first {
				t.Fatalf("%q: got %q = %q, want %q", raw, key, got[key], first)
			}
		}
	})
}

// A body that is accepted is JSON, and says what was read from it.
func FuzzSources(f *testing.F) {
	for _, seed := range []string{`[]`, `[["packs/ab/abcd", 0, 3000486]]`, `[["a",-3,3],["b",0,0]]`, `[["a",0,null]]`, `{}`, `[["a",0,1]`, `[["a",0,1e3]]`,
		`[["A",0,1]]`, `[["\u0061",0,1]] x`, `[["a",99999999999999999999,1]]`, "\xef\xbb\xbf[]"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		sources, err := borgstore.ReadSources(strings.NewReader(string(body)), int64(len(body)))
		if err != nil {
			if errors.Is(err, repo.ErrTooLarge) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		var want [][]any
		decoder := json.NewDecoder(strings.NewReader(string(body)))
		decoder.UseNumber()
		if err := decoder.Decode(&want); err != nil || len(want) != len(sources) {
			t.Fatalf("%q: read %d sources of what has %d: %v", body, len(sources), len(want), err)
		}
		for i, source := range sources {
			name, _ := want[i][0].(string)
			if key, err := borgstore.CleanName(name); err != nil || key != source.Key || source.Length < 0 {
				t.Fatalf("%q: source %d is %+v", body, i, source)
			}
		}
	})
}

func TestSourcesBounds(t *testing.T) {
	body := "[" + strings.Repeat(`["a",0,1],`, 1000) + `["a",0,1]]`
	if _, err := borgstore.ReadSources(strings.NewReader(body), int64(len(body)-1)); !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("one byte too many: got %v, want ErrTooLarge", err)
	}
	sources, err := borgstore.ReadSources(strings.NewReader(body), int64(len(body)))
	if err != nil || len(sources) != 1001 {
		t.Errorf("got %d sources, %v, want 1001", len(sources), err)
	}
	many := "[" + strings.Repeat(`["a",0,1],`, 200_000) + `["a",0,1]]`
	if _, err := borgstore.ReadSources(strings.NewReader(many), 1<<30); !errors.Is(err, repo.ErrTooLarge) {
		t.Errorf("200,001 sources: got %v, want ErrTooLarge", err)
	}
}

// What cannot be part of a list of sources is refused as it comes, not kept until its end.
func TestSourcesKeepNothing(t *testing.T) {
	const size = 8 << 20
	for _, begin := range []string{`[["`, `[["a",0,1`, `[[`, `[["a\`} {
		for _, more := range []string{"a", "0", " ", `\u0061`} {
			body := strings.NewReader(begin + strings.Repeat(more, size/len(more)))
			_, err := borgstore.ReadSources(body, 1<<30)
			if read := body.Size() - int64(body.Len()); err == nil || read > 256<<10 {
				t.Errorf("%s and many %q: got %v after %d bytes", begin, more, err, read)
			}
		}
	}
	spaced := "[" + strings.Repeat(`["a" , 0 , 1 ] ,`+"\r\n\t", 20_000) + `["a",0,1]]`
	if sources, err := borgstore.ReadSources(strings.NewReader(spaced), int64(len(spaced))); err != nil || len(sources) != 20_001 {
		t.Errorf("white space: got %d sources, %v", len(sources), err)
	}
}
