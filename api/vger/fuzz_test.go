package vger

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"unicode/utf8"

	"packhouse/api"
	"packhouse/internal/jsonstream"
	"packhouse/repo/keys"
)

// FuzzKey: every key that is accepted is one the repository takes, has one spelling, and hides nothing from policy.
func FuzzKey(f *testing.F) {
	for _, seed := range []string{
		"", "/", "config", "/r//packs/ab/", "packs/12/12e32af13fe308ccb9d5ba91e72a2197a67990851c4c0d615c240314aa3a1887",
		"snapshots/.tmp.x", "a/../b", "locks/%2e", "pending_index/a", "\x00", "keys/é", "index.gen/",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		for _, k := range []key{parseKey(raw), parsePath(raw)} {
			if again := parseKey("//" + k.text + "/"); again.shape != k.shape || again.text != k.text || again.temporary != k.temporary {
				// A path that does not decode keeps its raw text, and that may be a key of its own.
				if k.shape != invalidKey {
					t.Fatalf("%q: %+v and %+v", raw, k, again)
				}
			}
			if k.shape == invalidKey || k.shape == rootKey {
				continue
			}
			if err := keys.Check(k.text); err != nil || !utf8.ValidString(k.text) {
				t.Fatalf("%q: accepted %q: %v", raw, k.text, err)
			}
			if isPack := strings.HasPrefix(k.text, "packs/") && strings.Count(k.text, "/") == 2; isPack != (k.shape == pack) {
				t.Fatalf("%q: shape %d of %q", raw, k.shape, k.text)
			}
			if k.shape == pack && (k.text != strings.ToLower(k.text) || len(k.packName()) != 64) {
				t.Fatalf("%q: pack %q", raw, k.text)
			}
			var decoded string
			if err := json.Unmarshal(api.AppendString(nil, k.text), &decoded); err != nil || decoded != k.text {
				t.Fatalf("%q does not survive a list: %q, %v", k.text, decoded, err)
			}
		}
	})
}

// FuzzRange: what is accepted is the window that was written, cut at the item's end.
func FuzzRange(f *testing.F) {
	for _, seed := range []string{"bytes=0-1", "bytes=5-", "bytes=-5", "bytes=0-18446744073709551615", "bytes=1-0", "bytes=0-1,2-3", "items=0-1", "bytes=00-01"} {
		f.Add(seed, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		r, err := parseRange(header)
		if err != nil {
			return
		}
		if r.end < r.start || !strings.HasPrefix(header, "bytes=") {
			t.Fatalf("%q: accepted as %+v", header, r)
		}
		offset, length, err := r.within(max(size, 0))
		if err != nil {
			if r.start < uint64(max(size, 0)) {
				t.Fatalf("%q of %d bytes: %v", header, size, err)
			}
			return
		}
		if offset < 0 || length <= 0 || offset+length > size || uint64(offset) != r.start || uint64(length)-1 > r.end-r.start {
			t.Fatalf("%q of %d bytes: %d, %d", header, size, offset, length)
		}
	})
}

// FuzzRepackPlan: a plan that is accepted means what encoding/json says it means, and reading it costs no more than its text.
func FuzzRepackPlan(f *testing.F) {
	key := "packs/12/12e32af13fe308ccb9d5ba91e72a2197a67990851c4c0d615c240314aa3a1887"
	for _, seed := range []string{
		`{"operations":[]}`,
		`{"operations":[{"source_pack":"` + key + `","keep_blobs":[{"offset":13,"length":2},{"offset":19,"length":3}],"delete_after":true}],"hash":"blake2b","protocol_version":1}`,
		`{"hash":"blake3","protocol_version":2,"operations":[{"delete_after":false,"keep_blobs":[],"source_pack":"/` + key + `/"}]}`,
		`{"operations":[{"source_pack":"x","keep_blobs":[{"offset":18446744073709551615,"length":1}],"delete_after":true}]}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		p := &repackPlan{limits: Limits{}.withDefaults()}
		if err := p.read(jsonstream.New(bytes.NewReader(text))); err != nil {
			return
		}
		if !json.Valid(text) {
			t.Fatalf("accepted %q", text)
		}
		if len(p.packed) > len(text) {
			t.Fatalf("%d bytes of text became %d", len(text), len(p.packed))
		}
		if _, err := p.validate(); err != nil {
			return
		}
		r, count, output := p.reader(), 0, int64(0)
		for {
			size, blobs := int64(9), 0
			o, ok := r.next(func(b blob) {
				if checkBlob(b) != nil {
					t.Fatalf("%q: blob %+v", text, b)
				}
				size += 4 + int64(b.length)
				blobs++
			})
			if !ok {
				break
			}
			if _, ok := packKey(o.source); !ok || blobs != o.count {
				t.Fatalf("%q: operation %+v with %d blobs", text, o, blobs)
			}
			if count++; blobs > 0 {
				output += size
			}
		}
		if count != p.count || output != p.output {
			t.Fatalf("%q: %d operations of %d bytes, want %d of %d", text, count, output, p.count, p.output)
		}
	})
}

// FuzzVerifyPlan: no plan makes the reader keep more packs than allowed.
func FuzzVerifyPlan(f *testing.F) {
	f.Add([]byte(`{"packs":[{"pack_key":"packs/12/12e32af13fe308ccb9d5ba91e72a2197a67990851c4c0d615c240314aa3a1887","expected_size":1,"expected_blobs":[{"offset":13,"length":2}]}]}`))
	f.Add([]byte(`{"packs":[{},{},{},{},{}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		l := Limits{VerifyPacks: 3}.withDefaults()
		p := &verifyPlan{limits: l}
		if err := p.read(jsonstream.New(bytes.NewReader(text))); err != nil {
			return
		}
		if !json.Valid(text) || len(p.packs) > l.VerifyPacks {
			t.Fatalf("%q: %d packs", text, len(p.packs))
		}
		if _, err := p.validate(); err != nil {
			return
		}
		for _, pack := range p.packs {
			if len(pack.name()) != 64 {
				t.Fatalf("%q: name %q", text, pack.name())
			}
		}
	})
}

// FuzzHolder: a lock request is accepted or refused with a 4xx; what is accepted is stored and shown as it came.
func FuzzHolder(f *testing.F) {
	for _, seed := range []string{`{"hostname":"a","pid":1}`, `{"hostname":null}`, `[]`, `{`, `{"pid":-1,"hostname":""}`, `{"hostname":"@","pid":18446744073709551615}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		h, err := parseHolder(body)
		var refused *statusError
		if err != nil {
			if !errors.As(err, &refused) || refused.code != 400 && refused.code != 422 || (refused.code == 400) == json.Valid(body) {
				t.Fatalf("%q: %v", body, err)
			}
			return
		}
		text, err := json.Marshal(h)
		var again holder
		if err != nil || json.Unmarshal(text, &again) != nil || again != h || len(text) > 4<<12 {
			t.Fatalf("%q: %+v became %s", body, h, text)
		}
		if id := h.id(); id != fmt.Sprintf("%d@%s", h.PID, h.Hostname) {
			t.Fatalf("%q: id %q", body, id)
		}
	})
}

// FuzzConfig: no config makes the reader fail or claim a format that is not its first element.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("\x97\x02\xc4\x20iiiiiiiiiiiiiiiiiiiiiiiiiiiiiiii\x93\x01\x02\x03\xa4none\xcd\x01\x00\x01\x02"))
	f.Add([]byte("\x94\xcc\x03\xc0\x81\xa1a\x90\xa4None"))
	f.Add([]byte("\xdd\xff\xff\xff\xff\x01\xdf\xff\xff\xff\xff"))
	f.Add([]byte("\x91\xd3\x80\x00\x00\x00\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c := parseConfig(text)
		if c.format == 0 && c.plaintext && !bytes.Contains(text, []byte{0}) {
			t.Fatalf("%q: %+v", text, c)
		}
		if c.format > 0 && c.format < 128 && !bytes.Contains(text, []byte{byte(c.format)}) {
			t.Fatalf("%q: format %d", text, c.format)
		}
	})
}

// FuzzFraming: bytes in pieces of any size are judged like bytes in one, and like a reader that has them all.
func FuzzFraming(f *testing.F) {
	f.Add([]byte("VGERPACK\x01\x02\x00\x00\x00\xde\xad\x03\x00\x00\x00\xbe\xefB"), uint8(3), uint16(13), uint16(2))
	f.Add([]byte("VGERPACK\x02"), uint8(1), uint16(0), uint16(0))
	f.Fuzz(func(t *testing.T, text []byte, step uint8, offset, length uint16) {
		expected := blob{uint64(offset), uint64(length)}
		pieces := newFraming([]blob{expected})
		for rest := text; len(rest) > 0; {
			n := min(int(step)+1, len(rest))
			if _, err := pieces.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		header, whole, found := inspectPack(text, expected)
		if pieces.headerValid() != header || pieces.blobsValid() != (whole && found) {
			t.Fatalf("%q, expected %+v: got %v %v, want %v %v %v", text, expected, pieces.headerValid(), pieces.blobsValid(), header, whole, found)
		}
	})
}

// inspectPack is framing in the plainest way.
func inspectPack(text []byte, expected blob) (header, whole, found bool) {
	if len(text) < 9 || string(text[:9]) != packHeader {
		return false, false, false
	}
	position := 9
	for position+4 <= len(text) {
		n := int(binary.LittleEndian.Uint32(text[position:]))
		position += 4
		if (blob{uint64(position), uint64(n)}) == expected {
			found = true
		}
		if n > math.MaxInt32 || position+n > len(text) {
			return true, false, found
		}
		position += n
	}
	return true, position == len(text), found
}
