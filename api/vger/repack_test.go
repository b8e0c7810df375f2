package vger_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"packhouse/compact"
	"packhouse/repo"
)

type completed struct {
	SourcePack string  `json:"source_pack"`
	NewPack    *string `json:"new_pack"`
	NewOffsets []int64 `json:"new_offsets"`
	Deleted    bool    `json:"deleted"`
}

// operation is one entry of a plan; blobs are pairs of offset and length.
func operation(source string, deleteAfter bool, blobs ...int) string {
	var list []string
	for i := 0; i < len(blobs); i += 2 {
		list = append(list, fmt.Sprintf(`{"offset": %d, "length": %d}`, blobs[i], blobs[i+1]))
	}
	return fmt.Sprintf(`{"source_pack": %q, "keep_blobs": [%s], "delete_after": %v}`, source, strings.Join(list, ", "), deleteAfter)
}

func plan(operations ...string) string {
	return `{"operations": [` + strings.Join(operations, ",\n  ") + `]}`
}

func (s *server) repack(text string) []completed {
	s.t.Helper()
	r := s.want(200, s.do("POST", "/r?repack", text))
	var got struct{ Completed []completed }
	decode(s.t, r, &got)
	if strings.Contains(r.body, `"completed":null`) || strings.Contains(r.body, `"new_offsets":null`) {
		s.t.Errorf("null where an array belongs: %s", r.body)
	}
	return got.Completed
}

// TestRepackVectors: the contract's section 15, and 5.3 and 5.4.
func TestRepackVectors(t *testing.T) {
	t.Parallel()
	s2, s3 := packKey(b2(packS)), packKey(b3(packS))
	reversed := makePack("\xbe\xefB", "\xde\xad")
	for _, c := range []struct {
		name, source, hash string
		operation          string
		want               completed
		content            string
		left               []string // packs
	}{
		{"second blob", s2, "", operation(s2, true, 19, 3), completed{s2, ptr(packKey(b2(packB))), []int64{13}, true}, packB, []string{packKey(b2(packB))}},
		{"kept source", s2, `"hash":"blake2b"`, operation(s2, false, 19, 3), completed{s2, ptr(packKey(b2(packB))), []int64{13}, false}, packB, []string{s2, packKey(b2(packB))}},
		{"BLAKE3", s3, `"hash":"blake3","protocol_version":2`, operation(s3, true, 19, 3), completed{s3, ptr(packKey(b3(packB))), []int64{13}, true}, packB, []string{packKey(b3(packB))}},
		{"everything", s2, `"protocol_version":1`, operation(s2, true, 13, 2, 19, 3), completed{s2, ptr(s2), []int64{13, 19}, false}, packS, []string{s2}},
		{"other order", s2, `"protocol_version":0,"unknown":{"a":[1.5,null]}`, operation(s2, true, 19, 3, 13, 2), completed{s2, ptr(packKey(b2(reversed))), []int64{13, 20}, true}, reversed, []string{packKey(b2(reversed))}},
		{"twice", s2, "", operation(s2, true, 13, 2, 13, 2), completed{s2, ptr(packKey(b2(makePack("\xde\xad", "\xde\xad")))), []int64{13, 19}, true}, makePack("\xde\xad", "\xde\xad"), []string{packKey(b2(makePack("\xde\xad", "\xde\xad")))}},
		{"delete only", s2, "", operation(s2, true), completed{s2, nil, []int64{}, true}, "", []string{}},
		{"nothing", s2, "", operation(s2, false), completed{s2, nil, []int64{}, false}, "", []string{s2}},
		{"slashes", s2, "", operation("/"+s2+"/", true, 19, 3), completed{"/" + s2 + "/", ptr(packKey(b2(packB))), []int64{13}, true}, packB, []string{packKey(b2(packB))}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t, nil)
			s.put("/r/index", "1")
			s.put("/r/locks/l.json", "{}")
			s.put("/r/"+c.source, packS, map[bool]string{true: "X-Content-BLAKE3", false: "X-Content-BLAKE2b"}[c.source == s3], c.source[9:])
			text := plan(c.operation)
			if c.hash != "" {
				text = text[:len(text)-1] + "," + c.hash + "}"
			}
			s.want(200, s.do("GET", "/r/index", ""))
			var first []completed
			for range 2 { // a lost answer is asked for again
				got := s.repack(text)
				if len(got) != 1 || !equal(got[0], c.want) {
					t.Fatalf("got %+v, want %+v", got, c.want)
				}
				if first == nil {
					first = got
				}
			}
			both := sorted(append([]string{c.source}, c.left...))
			if c.want.NewPack == nil {
				both = sorted(c.left) // nothing takes its place: it goes at once
			}
			if left := s.keys("/r/packs/?list"); !slices.Equal(left, slices.Compact(both)) {
				t.Errorf("after the plan: got %q, want %q", left, both)
			}
			s.put("/r/index", "2")
			if left := s.keys("/r/packs/?list"); !slices.Equal(left, sorted(c.left)) {
				t.Errorf("after the index: got %q, want %q", left, c.left)
			}
			if r := s.do("GET", "/r/"+c.source, ""); r.status != 200 || r.body != packS {
				t.Errorf("the source is not kept: %d %q", r.status, r.body)
			}
			if c.want.NewPack != nil {
				if r := s.do("GET", "/r/"+*c.want.NewPack, ""); r.body != c.content {
					t.Errorf("new pack: got %q, want %q", r.body, c.content)
				}
			}
		})
	}
}

func ptr(s string) *string { return &s }

func sorted(s []string) []string {
	s = slices.Clone(s)
	slices.Sort(s)
	return s
}

func equal(a, b completed) bool {
	if (a.NewPack == nil) != (b.NewPack == nil) || a.NewPack != nil && *a.NewPack != *b.NewPack {
		return false
	}
	return a.SourcePack == b.SourcePack && a.Deleted == b.Deleted && slices.Equal(a.NewOffsets, b.NewOffsets)
}

// TestRepackPlans: several operations are one transaction, an empty plan is one too.
func TestRepackPlans(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	if s.want(404, s.do("POST", "/r?repack", plan())).body != "repo 'r' not found" {
		t.Error("missing repository")
	}
	s.want(201, s.do("POST", "/r?init", ""))
	if got := s.repack(plan()); got == nil || len(got) != 0 {
		t.Errorf("empty plan: got %+v", got)
	}
	a, b := s.putPack("/r", packA), s.putPack("/r", packB)
	missing := packKey(strings.Repeat("0", 64))
	got := s.repack(plan(operation(missing, true), operation(a, true, 13, 2), operation(b, true, 13, 3)))
	if len(got) != 3 || !got[0].Deleted || got[1].Deleted || got[2].Deleted || *got[1].NewPack != a || *got[2].NewPack != b {
		t.Errorf("got %+v", got)
	}
	if left := s.keys("/r/packs/?list"); !slices.Equal(left, sorted([]string{a, b})) {
		t.Errorf("left: %q", left)
	}
	// One operation that fails leaves everything as it was.
	whole := s.putPack("/r", packS)
	before := s.keys("/r/packs/?list")
	s.want(409, s.do("POST", "/r?repack", plan(operation(whole, true, 13, 2, 19, 3), operation(a, true), operation(b, true, 13, 4))))
	if left := s.keys("/r/packs/?list"); !slices.Equal(left, before) {
		t.Errorf("a failed plan left %q, want %q", left, before)
	}
}

// TestRepackRefusals walks the validation order of contract 5.2 and the permanent failures of 5.3.
func TestRepackRefusals(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *setup) {
		c.dialect.Limits.Operations, c.dialect.Limits.KeepBlobs, c.dialect.Limits.Output = 3, 4, 1000
		c.set.Settings = func(name string) repo.Settings {
			if name == "full" {
				return repo.Settings{Quota: 30}
			}
			return repo.Settings{Quota: -1}
		}
	})
	key := s.putPack("/r", packS)
	s.put("/v3/config", configOf(3, "none"))
	s.put("/full/index", "12345678")
	s.putPack("/full", packS)
	many := operation(key, false, 13, 2, 13, 2, 13, 2, 13, 2, 13, 2)
	o := operation(key, false)
	for _, c := range []struct {
		name, target, body string
		status             int
		text               string
	}{
		{"no JSON", "/r", "{", 400, "invalid repack plan: unexpected end"},
		{"no operations", "/r", "{}", 400, "invalid repack plan: missing field `operations`"},
		{"operations no array", "/r", `{"operations":{}}`, 400, "invalid repack plan: expected an array"},
		{"wrong spelling", "/r", `{"Operations":[]}`, 400, "invalid repack plan: missing field `operations`"},
		{"no source", "/r", `{"operations":[{"keep_blobs":[],"delete_after":true}]}`, 400, "missing field `source_pack`"},
		{"no blobs", "/r", `{"operations":[{"source_pack":"x","delete_after":true}]}`, 400, "missing field `keep_blobs`"},
		{"no delete_after", "/r", `{"operations":[{"source_pack":"x","keep_blobs":[]}]}`, 400, "missing field `delete_after`"},
		{"delete_after no bool", "/r", `{"operations":[{"source_pack":"x","keep_blobs":[],"delete_after":1}]}`, 400, "expected true or false"},
		{"no offset", "/r", `{"operations":[{"source_pack":"x","keep_blobs":[{"length":1}],"delete_after":true}]}`, 400, "missing field `offset`"},
		{"negative", "/r", strings.Replace(plan(operation(key, false, 13, 2)), "13", "-13", 1), 400, "expected an unsigned integer"},
		{"fraction", "/r", strings.Replace(plan(operation(key, false, 13, 2)), "13", "13.0", 1), 400, "expected an unsigned integer"},
		{"beyond 64 bits", "/r", strings.Replace(plan(operation(key, false, 13, 2)), "13", "18446744073709551616", 1), 400, "expected an unsigned integer"},
		{"trailing", "/r", plan() + "x", 400, "trailing characters"},
		{"operations twice", "/r", `{"operations":[` + o + `],"operations":[]}`, 400, "invalid repack plan: duplicate field `operations`"},
		{"source twice", "/r", plan(strings.Replace(o, "{", `{"source_pack":"x",`, 1)), 400, "duplicate field `source_pack`"},
		{"blobs twice", "/r", plan(strings.Replace(o, "{", `{"keep_blobs":[],`, 1)), 400, "duplicate field `keep_blobs`"},
		{"offset twice", "/r", strings.Replace(plan(operation(key, false, 13, 2)), `"offset"`, `"offset":1,"offset"`, 1), 400, "duplicate field `offset`"},
		{"hash twice", "/r", `{"operations":[],"hash":"blake2b","hash":"blake2b"}`, 400, "duplicate field `hash`"},
		{"version twice", "/r", `{"protocol_version":0,"operations":[],"protocol_version":1}`, 400, "duplicate field `protocol_version`"},
		{"hash", "/r", `{"operations":[],"hash":"blake9"}`, 400, "invalid repack plan: unknown variant `blake9`"},
		{"hash no string", "/r", `{"operations":[],"hash":2}`, 400, "invalid repack plan"},
		{"version", "/r", `{"operations":[],"protocol_version":3}`, 400, "protocol version 3 not supported; server supports <= 2"},
		{"version too large", "/r", `{"operations":[],"protocol_version":4294967296}`, 400, "invalid repack plan"},
		{"pairing", "/r", `{"operations":[],"hash":"blake3","protocol_version":1}`, 400, "hash blake3 requires protocol version >= 2, but the request declared 1"},
		{"version before pairing", "/r", `{"operations":[],"hash":"blake3","protocol_version":9}`, 400, "protocol version 9"},
		{"version before count", "/r", `{"operations":[` + strings.Join([]string{o, o, o, o}, ",") + `],"protocol_version":3}`, 400, "protocol version 3"},
		{"count", "/r", plan(o, o, o, o, o), 400, "too many repack operations: 5 (max 3)"},
		{"count before key", "/r", plan(operation("x", false), o, o, o), 400, "too many repack operations: 4 (max 3)"},
		{"key", "/r", plan(o, operation("packs/ab/cd", false)), 400, "invalid source_pack at operation 1: packs/ab/cd"},
		{"key of an object", "/r", plan(operation("config", true)), 400, "invalid source_pack at operation 0: config"},
		{"key in capitals", "/r", plan(operation(strings.ToUpper(key), true)), 400, "invalid source_pack at operation 0: PACKS"},
		{"too many blobs", "/r", plan(many), 400, "too many keep_blobs at operation 0: 5 (max 4)"},
		{"blobs before blob", "/r", plan(operation(key, false, 13, 0, 13, 2, 13, 2, 13, 2, 13, 2)), 400, "too many keep_blobs at operation 0: 5 (max 4)"},
		{"zero length", "/r", plan(o, operation(key, false, 13, 2, 19, 0)), 400, "blob length must be > 0 at operation 1 blob 1"},
		{"long", "/r", strings.Replace(plan(operation(key, false, 13, 2)), `"length": 2`, `"length": 4294967296`, 1), 400, "blob length exceeds pack format max at operation 0 blob 0"},
		{"overflow", "/r", strings.Replace(plan(operation(key, false, 13, 2)), "13", "18446744073709551615", 1), 400, "blob range overflow at operation 0 blob 0"},
		{"first error counts", "/r", plan(operation(key, false, 13, 0), operation("x", false)), 400, "blob length must be > 0 at operation 0 blob 0"},
		{"output", "/r", plan(operation(key, false, 13, 988), o), 400, "repack output too large: 1001 bytes (max 1000)"},
		{"output of two", "/r", plan(operation(key, false, 13, 500), operation(key, false, 13, 475)), 400, "repack output too large: 1001 bytes (max 1000)"},
		{"output just fits", "/r", plan(operation(key, false, 13, 987)), 409, "repack failed at operation 0"},
		{"missing source", "/r", plan(o, operation(packKey(strings.Repeat("0", 64)), true, 13, 2)), 409, "repack failed at operation 1: " + packKey(strings.Repeat("0", 64))},
		{"wrong length", "/r", plan(operation(key, true, 13, 3)), 409, "repack failed at operation 0"},
		{"no space for a prefix", "/r", plan(operation(key, true, 2, 1)), 409, "repack failed at operation 0"},
		{"beyond the end", "/r", plan(operation(key, true, 19, 4)), 409, "repack failed at operation 0"},
		{"beyond any file", "/r", strings.Replace(plan(operation(key, true, 13, 2)), "13", "9223372036854775807", 1), 409, "is beyond the end"},
		{"hash of another format", "/v3", plan(), 409, "hash blake2b contradicts the repository: packs of format 3 are named by blake3"},
		{"quota", "/full", plan(operation(key, false, 13, 2)), 413, "quota exceeded: used 30, limit 30, repack output 15: 15 bytes short"},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := s.do("POST", c.target+"?repack", c.body)
			if r.status != c.status || !strings.Contains(r.body, c.text) {
				t.Errorf("got %d %q, want %d %q", r.status, r.body, c.status, c.text)
			}
			if len(r.body) > 512 {
				t.Errorf("clients show 512 bytes, this has %d: %s", len(r.body), r.body)
			}
		})
	}
	if left := s.keys("/r?list"); !slices.Equal(left, []string{key}) {
		t.Errorf("left: %q", left)
	}
}

// TestRepackSlowly: a plan that takes long begins its answer early, with white space, and stays one JSON text.
func TestRepackSlowly(t *testing.T) {
	t.Parallel()
	engine := compact.New(compact.Options{Rate: 2 << 20})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t, func(c *setup) {
		c.dialect.KeepAlive = 5 * time.Millisecond
		c.dialect.Engine = engine
	})
	big := strings.Repeat("x", 3<<20)
	key := s.putPack("/r", makePack(big, "y"))
	r, err := s.http.Post(s.base+"/r?repack", "application/json", strings.NewReader(plan(operation(key, true, 13, len(big)))))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	var got struct{ Completed []completed }
	if err := json.Unmarshal(text, &got); err != nil || r.StatusCode != 200 {
		t.Fatalf("status %d: %v: %q", r.StatusCode, err, text)
	}
	if text[0] != ' ' || r.ContentLength >= 0 {
		t.Errorf("the answer did not begin early: %q, length %d", text, r.ContentLength)
	}
	if len(got.Completed) != 1 || *got.Completed[0].NewPack != packKey(b2(makePack(big))) {
		t.Errorf("got %+v", got)
	}

	// One that fails late is cut off: no client may take white space for an answer.
	key = s.putPack("/r", makePack(big, "z"))
	long := plan(operation(key, true, 13, len(big)), operation(key, true, 13+len(big)+4, 2))
	r, err = s.http.Post(s.base+"/r?repack", "application/json", strings.NewReader(long))
	if err == nil {
		defer r.Body.Close()
		if text, err := io.ReadAll(r.Body); err == nil && r.StatusCode == 200 {
			t.Errorf("a failed plan was answered with %q", text)
		}
	}
}

// TestRepackLostConnection: the client goes away, the work goes on, the same plan gets the same result.
func TestRepackLostConnection(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	key := s.putPack("/r", packS)
	text := plan(operation(key, true, 19, 3))
	ctx, cancel := context.WithCancel(t.Context())
	request, err := http.NewRequestWithContext(ctx, "POST", s.base+"/r?repack", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(time.Millisecond, cancel)
	if r, err := s.http.Do(request); err == nil {
		r.Body.Close()
	}
	got := s.repack(text)
	if len(got) != 1 || !got[0].Deleted || *got[0].NewPack != packKey(b2(packB)) {
		t.Errorf("got %+v", got)
	}
	if left := s.keys("/r/packs/?list"); !slices.Equal(left, sorted([]string{key, packKey(b2(packB))})) {
		t.Errorf("left: got %q, want both sides", left)
	}
	if again := s.repack(text); len(again) != 1 || !equal(again[0], got[0]) {
		t.Errorf("again: got %+v, want %+v", again, got)
	}
}

// TestRepackCancelled: a plan that was cancelled on the server is refused, and its client is told why, now and when it
// asks again.
func TestRepackCancelled(t *testing.T) {
	t.Parallel()
	engine := compact.New(compact.Options{Rate: 1 << 20})
	t.Cleanup(func() {
		if err := engine.Close(); err != nil {
			t.Error(err)
		}
	})
	s := newServer(t, func(c *setup) { c.dialect.Engine = engine })
	big := strings.Repeat("x", 8<<20)
	key := s.putPack("/r", makePack(big))
	text := plan(operation(key, true, 13, len(big)))
	answered := make(chan reply, 1)
	go func() {
		r, err := s.try("POST", "/r?repack", strings.NewReader(text), int64(len(text)))
		if err != nil {
			t.Error(err)
		}
		answered <- r
	}()
	r := s.repository("r").Repository()
	for {
		jobs, err := engine.Jobs(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		if len(jobs) > 0 {
			if _, err := engine.Cancel(t.Context(), r, jobs[0].ID); err != nil {
				t.Fatal(err)
			}
			break
		}
		select {
		case got := <-answered:
			t.Fatalf("answered before it was cancelled: %d %s", got.status, got.body)
		case <-time.After(time.Millisecond):
		}
	}
	for _, got := range []reply{<-answered, s.do("POST", "/r?repack", text)} {
		if got.status != 403 || got.body != "repack failed: the job was cancelled on the server" {
			t.Errorf("got %d %q, want 403 and the reason", got.status, got.body)
		}
	}
	s.want(200, s.do("HEAD", "/r/"+key, ""))
}
