package jsonstream_test

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"unicode/utf8"

	"packhouse/internal/jsonstream"
)

// thing is what readThings reads.
type thing struct {
	name  string
	size  uint64
	price string
	yes   bool
	tags  []string
}

var thingFields = jsonstream.Fields{Names: []string{"name", "size", "price", "yes", "tags"}, Required: 2}

// readThings reads an array of objects, and uses each method.
func readThings(r *jsonstream.Reader) (things []thing, err error) {
	err = r.Array(func(i int) error {
		if i != len(things) {
			return fmt.Errorf("element %d is called %d", len(things), i)
		}
		t := thing{}
		err := r.Object(thingFields, func(name string) (err error) {
			if null, err := r.Null(); null || err != nil {
				return err
			}
			switch name {
			case "name":
				t.name, err = r.String()
			case "size":
				t.size, err = r.Uint()
			case "price":
				var b []byte
				b, err = r.Number()
				t.price = string(b)
			case "yes":
				t.yes, err = r.Bool()
			case "tags":
				err = r.Array(func(int) error {
					tag, err := r.Show()
					t.tags = append(t.tags, tag)
					return err
				})
			default:
				err = r.Skip()
			}
			return err
		})
		things = append(things, t)
		return err
	})
	if err == nil {
		err = r.End()
	}
	return things, err
}

// slowly is a reader of a text that comes in pieces of n bytes.
func slowly(text string, n int) *jsonstream.Reader {
	return jsonstream.New(&pieces{text, n})
}

type pieces struct {
	text string
	n    int
}

func (p *pieces) Read(b []byte) (int, error) {
	n := copy(b, p.text[:min(p.n, len(p.text))])
	if p.text = p.text[n:]; n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

func TestReader(t *testing.T) {
	text := ` [ {"name" : "a\u00e9\n", "size":18446744073709551615,"price":-1.5e+3,"yes":true,"tags":["x",5,null,false],"more":{"a":[[],{}, 1.0]}} ,
		{"size":0,"n\u0061me":"é","yes":false,"tags":[],"price":0},{"name":null,"size":null}]` + "\r\n"
	want := []thing{{"aé\n", math.MaxUint64, "-1.5e+3", true, []string{"x", "5", "null", "false"}}, {name: "é", price: "0"}, {}}
	for n := 1; n < 40; n++ {
		got, err := readThings(slowly(text, n))
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("pieces of %d: got %+v, %v", n, got, err)
		}
	}
}

// Errors say what is wrong and where, however the text comes.
func TestErrors(t *testing.T) {
	deep := strings.Repeat("[", 100)
	for _, tt := range []struct {
		text    string
		want    string
		problem jsonstream.Problem
	}{
		{``, "unexpected end at byte 0", jsonstream.Ended},
		{`[{"name":"a"`, "unexpected end at byte 12", jsonstream.Ended},
		{`[{"name":"a\`, "unexpected end at byte 12", jsonstream.Ended},
		{`[{"size":1`, "unexpected end at byte 10", jsonstream.Ended},
		{`[{"price":1`, "unexpected end at byte 11", jsonstream.Ended},
		{`{}`, "expected an array at byte 1", 0},
		{`[[]]`, "expected an object at byte 2", 0},
		{`[{]`, "expected a string at byte 3", 0},
		{`[{"name" 1}]`, "expected ':' at byte 10", 0},
		{`[{"name":1}]`, "expected a string at byte 10", 0},
		{`[{"name":"a" "size":1}]`, "expected ',' or '}' at byte 14", 0},
		{`[{"name":"a","size":1}}`, "expected ',' or ']' at byte 23", 0},
		{`[{"name":"a","size":1},]`, "expected an object at byte 24", 0},
		{`[{"name":"a","size":1,}]`, "expected a string at byte 23", 0},
		{`[{"name":"a","size":1}] ]`, "trailing characters at byte 24", 0},
		{`[{"size":-1}]`, "expected an unsigned integer at byte 11", 0},
		{`[{"size":01}]`, "expected an unsigned integer at byte 11", 0},
		{`[{"size":1.0}]`, "expected an unsigned integer at byte 12", 0},
		{`[{"size":18446744073709551616}]`, "expected an unsigned integer at byte 29", 0},
		{`[{"size":"1"}]`, "expected an unsigned integer at byte 9", 0},
		{`[{"price":01}]`, "invalid number at byte 12", 0},
		{`[{"price":-}]`, "invalid number at byte 11", 0},
		{`[{"price":1.}]`, "invalid number at byte 12", 0},
		{`[{"price":x}]`, "invalid number at byte 10", 0},
		{`[{"price":` + strings.Repeat("1", 1025) + `}]`, "number is too long at byte 1035", 0},
		{`[{"yes":1}]`, "expected true or false at byte 9", 0},
		{`[{"yes":trie}]`, "invalid literal at byte 11", 0},
		{`[{"yes":nul}]`, "invalid literal at byte 12", 0},
		{`[{"tags":[a]}]`, "expected a value at byte 10", 0},
		{`[{"x":}]`, "expected a value at byte 6", 0},
		{`[{"x":` + deep + `}]`, "nested too deeply at byte 70", 0},
		{"[{\"name\":\"a\nb\"}]", "control character in a string at byte 12", 0},
		{"[{\"name\":\"\xff\"}]", "string is not UTF-8 at byte 12", 0},
		{"[{\"name\":\"\\n\xff\"}]", "string is not UTF-8 at byte 14", 0},
		{`[{"name":"\x"}]`, "invalid escape in a string at byte 13", 0},
		{`[{"name":"` + strings.Repeat("a", 64<<10) + `"}]`, "string is too long at byte 65547", 0},
		{`[{"size":1,"name":"a","size":1}]`, "duplicate field `size` at byte 29", jsonstream.Duplicate},
		{`[{"size":1,"s\u0069ze":1}]`, "duplicate field `size` at byte 23", jsonstream.Duplicate},
		{`[{"name":"a"}]`, "missing field `size` at byte 13", jsonstream.Missing},
		{`[{"Name":"a","size":1}]`, "missing field `name` at byte 22", jsonstream.Missing},
	} {
		for _, n := range []int{1, 7, 1 << 20} {
			_, err := readThings(slowly(tt.text, n))
			wrong, ok := errors.AsType[*jsonstream.Error](err)
			if !ok || wrong.Error() != tt.want || wrong.Problem != tt.problem || errors.Is(err, io.ErrUnexpectedEOF) != (tt.problem == jsonstream.Ended) {
				t.Errorf("%.60q in pieces of %d: got %v, want %s", tt.text, n, err, tt.want)
			}
			if member := wrong.Member != ""; ok && member != (tt.problem == jsonstream.Duplicate || tt.problem == jsonstream.Missing) {
				t.Errorf("%.60q: the member is %q", tt.text, wrong.Member)
			}
		}
	}
}

// The longest string that is taken, and names that mean nothing, may occur as often as they like.
func TestTaken(t *testing.T) {
	long := strings.Repeat("a", 64<<10-1)
	for _, n := range []int{1000, 1 << 20} {
		things, err := readThings(slowly(`[{"x":1,"x":2,"name":"`+long+`","size":1}]`, n))
		if err != nil || len(things) != 1 || things[0].name != long {
			t.Errorf("pieces of %d: got %d things, %v", n, len(things), err)
		}
	}
}

// An error of the source is returned as it is, and a source that gives nothing does not keep the reader busy.
func TestSourceErrors(t *testing.T) {
	fault := errors.New("cut off")
	text := `[{"name":"a","size":123,"tags":["x",1.5,null,true]}] `
	for n := range text {
		_, err := readThings(jsonstream.New(io.MultiReader(strings.NewReader(text[:n]), iotest.ErrReader(fault))))
		if err != fault {
			t.Errorf("cut after %q: got %v", text[:n], err)
		}
	}
	if _, err := readThings(jsonstream.New(silent{})); err != io.ErrNoProgress {
		t.Errorf("a source that gives nothing: got %v", err)
	}
}

type silent struct{}

func (silent) Read([]byte) (int, error) { return 0, nil }

// What a text can make the reader keep and read is bounded: it is refused as it comes.
func TestEndlessTexts(t *testing.T) {
	for _, tt := range []struct{ first, again, want string }{
		{`[{"name":"`, "x", "string is too long"},
		{`[{"name":"`, `\n`, "string is too long"},
		{`[{"`, "x", "string is too long"},
		{`[{"price":1`, "0", "number is too long"},
		{`[{"x":1`, "0", "number is too long"},
		{`[`, " ", "too much white space"},
		{`[] `, "\n", "too much white space"},
		{`[{"x":`, "[", "nested too deeply"},
		{`[{"x":`, `{"":`, "nested too deeply"},
	} {
		text := strings.NewReader(tt.first + strings.Repeat(tt.again, 1<<20))
		allocated := testing.AllocsPerRun(1, func() {
			if _, err := text.Seek(0, io.SeekStart); err != nil {
				t.Fatal(err)
			}
			_, err := readThings(jsonstream.New(text))
			if read := text.Size() - int64(text.Len()); err == nil || !strings.HasPrefix(err.Error(), tt.want) || read > 256<<10 {
				t.Errorf("%s and many %q: got %v after %d bytes", tt.first, tt.again, err, read)
			}
		})
		if allocated > 1000 {
			t.Errorf("%s and many %q: %.0f allocations", tt.first, tt.again, allocated)
		}
	}
}

// A number may be the whole text, like any other value.
func TestNumberAlone(t *testing.T) {
	for _, tt := range []struct {
		text         string
		number, uint string // error, or ""
	}{
		{"0", "", ""}, {" 15", "", ""}, {"12 ", "", ""},
		{"-1.5e3", "", "unexpected end at byte 6"}, {"-", "unexpected end at byte 1", "unexpected end at byte 1"}, {"01", "unexpected end at byte 2", "unexpected end at byte 2"},
	} {
		for n := 1; n < 4; n++ {
			r := slowly(tt.text, n)
			number, err := r.Number()
			if text := fmt.Sprint(cmp.Or(err, r.End())); (text == "<nil>") != (tt.number == "") || tt.number != "" && text != tt.number || tt.number == "" && string(number) != strings.TrimSpace(tt.text) {
				t.Errorf("%q as a number: got %s, %s", tt.text, number, text)
			}
			r = slowly(tt.text, n)
			whole, err := r.Uint()
			if text := fmt.Sprint(cmp.Or(err, r.End())); (text == "<nil>") != (tt.uint == "") || tt.uint != "" && text != tt.uint || tt.uint == "" && fmt.Sprint(whole) != strings.TrimSpace(tt.text) {
				t.Errorf("%q as an unsigned integer: got %d, %s", tt.text, whole, text)
			}
		}
	}
}

func TestKinds(t *testing.T) {
	r := jsonstream.New(strings.NewReader(`[null,true,false,1,-1,"",[],{},x`))
	var got []jsonstream.Kind
	err := r.Array(func(int) error {
		kind, err := r.Kind()
		if err != nil {
			return err
		}
		got = append(got, kind)
		return r.Skip()
	})
	want := []jsonstream.Kind{jsonstream.Null, jsonstream.Bool, jsonstream.Bool, jsonstream.Number, jsonstream.Number, jsonstream.String, jsonstream.Array, jsonstream.Object, jsonstream.None}
	if err == nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

// FuzzSkip: passing over a value agrees with encoding/json about what is JSON, however the text comes.
func FuzzSkip(f *testing.F) {
	for _, seed := range []string{`{"a":[1,2.5e3,true,null,"x\u00e9"]}`, `[]`, `[1,]`, `{"a"}`, `"\ud800"`, `[01]`, `[-]`, `-1`, `2`, "[1 2]", `{"":{}}`, "[\"\xff\"]"} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		read := func(r *jsonstream.Reader) error {
			if err := r.Skip(); err != nil {
				return err
			}
			return r.End()
		}
		err := read(jsonstream.New(bytes.NewReader(text)))
		if slow := read(slowly(string(text), int(n)+1)); fmt.Sprint(slow) != fmt.Sprint(err) {
			t.Fatalf("%q in pieces of %d: %v, else %v", text, n, slow, err)
		}
		want := json.Valid(text)
		if err == nil && !want {
			t.Fatalf("accepted %q", text)
		}
		if err != nil && want && utf8.Valid(text) && !strings.Contains(err.Error(), "too ") && len(text) < 1000 {
			t.Fatalf("refused %q: %v", text, err)
		}
	})
}

// FuzzValues: what is read from a text that is taken is what encoding/json reads from it.
func FuzzValues(f *testing.F) {
	f.Add([]byte(`[{"name":"a","size":1,"price":-0.5,"yes":true,"tags":["x",1e3,null,true],"x":{}}]`), uint8(3))
	f.Add([]byte(`[{"size":18446744073709551615,"name":"\ud83d\ude00\ud800"},{"name":null,"size":0}]`), uint8(0))
	f.Fuzz(func(t *testing.T, text []byte, n uint8) {
		got, err := readThings(slowly(string(text), int(n)+1))
		if err != nil {
			return
		}
		var want []map[string]any
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&want); err != nil || len(want) != len(got) {
			t.Fatalf("read %d things of %q, which has %d: %v", len(got), text, len(want), err)
		}
		for i, w := range want {
			g := got[i]
			name, _ := w["name"].(string)
			size, _ := w["size"].(json.Number)
			price, _ := w["price"].(json.Number)
			yes, _ := w["yes"].(bool)
			tags, _ := w["tags"].([]any)
			if size == "" {
				size = "0"
			}
			if g.name != name || fmt.Sprint(g.size) != string(size) || g.price != string(price) || g.yes != yes || len(g.tags) != len(tags) {
				t.Fatalf("%q: got %+v, want %v", text, g, w)
			}
		}
	})
}

// BenchmarkReader: the cost of a text's values, without what is made of them.
func BenchmarkReader(b *testing.B) {
	text := "[" + strings.Repeat(`{"name":"packs/ab/abcdefghijklmnopqrstuvwxyz","size":123456789,"yes":true},`, 100_000) + `{"name":"a","size":1}]`
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	for b.Loop() {
		r := jsonstream.New(strings.NewReader(text))
		err := r.Array(func(int) error {
			return r.Object(thingFields, func(name string) (err error) {
				switch name {
				case "size":
					_, err = r.Uint()
				default:
					err = r.Skip()
				}
				return err
			})
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}
