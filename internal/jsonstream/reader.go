package jsonstream

import (
	"fmt"
	"io"
)

const (
	maxString = 64 << 10 // bytes: each string is shorter, as it is spelled
	maxNumber = 1 << 10  // bytes of one number
	maxSpace  = 64 << 10 // bytes of white space in one place
	maxDepth  = 64       // levels of a value that is passed over
)

// Reader reads one text. Each method takes the white space in front of a value and the value, and returns the first error there was: an
// *Error, or one of the source. After an error the reader is of no more use. It is not safe for concurrent use.
type Reader struct {
	source io.Reader
	space  []byte // the bytes read last
	ahead  []byte // the end of them, which is not taken yet
	offset int64  // bytes taken so far
	text   []byte // of a string or number that is not whole in space
}

// New returns a reader of a text. It reads 64 KiB at a time, and so further than the text's end if the source does not end there.
func New(source io.Reader) *Reader { return &Reader{source: source, space: make([]byte, 64<<10)} }

// fill reads more when nothing is ahead. It returns io.EOF at the end of the text.
func (r *Reader) fill() error {
	for range 100 {
		n, err := r.source.Read(r.space)
		if n > 0 {
			r.ahead = r.space[:n]
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// more is fill where the text must not end.
func (r *Reader) more() error {
	err := r.fill()
	if err == io.EOF {
		return &Error{Problem: Ended, Offset: r.offset, Text: "unexpected end"}
	}
	return err
}

// take takes n bytes of those ahead.
func (r *Reader) take(n int) {
	r.ahead = r.ahead[n:]
	r.offset += int64(n)
}

// next takes one byte.
func (r *Reader) next() (byte, error) {
	if len(r.ahead) == 0 {
		if err := r.more(); err != nil {
			return 0, err
		}
	}
	c := r.ahead[0]
	r.take(1)
	return c, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\n' || c == '\r' }

// peek takes white space and returns the byte behind it, which is ahead then.
func (r *Reader) peek() (byte, error) {
	for space := 0; ; {
		for i, c := range r.ahead {
			if !isSpace(c) {
				r.take(i)
				return c, nil
			}
		}
		space += len(r.ahead)
		r.take(len(r.ahead))
		if space > maxSpace {
			return 0, r.Fail("too much white space")
		}
		if err := r.more(); err != nil {
			return 0, err
		}
	}
}

// token takes white space and the byte behind it.
func (r *Reader) token() (byte, error) {
	c, err := r.peek()
	if err == nil {
		r.take(1)
	}
	return c, err
}

// Kind is a kind of values.
type Kind int

const (
	None Kind = iota // no value begins here
	Null
	Bool
	Number
	String
	Array
	Object
)

// Kind returns the kind of the value that comes next, of which it has looked at the first byte only.
func (r *Reader) Kind() (Kind, error) {
	switch c, err := r.peek(); {
	case err != nil:
		return None, err
	case c == 'n':
		return Null, nil
	case c == 't' || c == 'f':
		return Bool, nil
	case c == '-' || c >= '0' && c <= '9':
		return Number, nil
	case c == '"':
		return String, nil
	case c == '[':
		return Array, nil
	case c == '{':
		return Object, nil
	}
	return None, nil
}

// Null takes null if that comes next, and tells whether it did.
func (r *Reader) Null() (bool, error) {
	switch c, err := r.peek(); {
	case err != nil || c != 'n':
		return false, err
	}
	return true, r.literal("null")
}

// Fields are the members of an object that mean something, at most 64; the first few of them are required.
type Fields struct {
	Names    []string
	Required int
}

// Object reads an object: member is called behind each name and must read the value. Names of other members than the fields are not kept.
func (r *Reader) Object(fields Fields, member func(name string) error) error {
	seen := uint64(0)
	err := r.elements('{', '}', "an object", func(int) error {
		name, field, err := r.name(fields.Names)
		if err != nil {
			return err
		}
		if field >= 0 {
			if bit := uint64(1) << field; seen&bit != 0 {
				return r.wrong(Duplicate, name)
			}
			seen |= 1 << field
		}
		return member(name)
	})
	if err != nil {
		return err
	}
	for i, name := range fields.Names[:fields.Required] {
		if seen&(1<<i) == 0 {
			return r.wrong(Missing, name)
		}
	}
	return nil
}

func (r *Reader) wrong(problem Problem, member string) error {
	what := "duplicate"
	if problem == Missing {
		what = "missing"
	}
	return &Error{Problem: problem, Offset: r.offset, Text: fmt.Sprintf("%s field `%s`", what, member), Member: member}
}

// name takes the name of a member and the colon. field is its place among names, or -1; a name that is among them is not allocated.
func (r *Reader) name(names []string) (name string, field int, err error) {
	b, err := r.quoted()
	if err != nil {
		return "", 0, err
	}
	field = -1
	for i, known := range names {
		if known == string(b) {
			name, field = known, i
			break
		}
	}
	if field < 0 {
		name = string(b)
	}
	switch c, err := r.token(); {
	case err != nil:
		return "", 0, err
	case c != ':':
		return "", 0, r.Fail("expected ':'")
	}
	return name, field, nil
}

// Array reads an array: element is called before element i and must read it.
func (r *Reader) Array(element func(i int) error) error {
	return r.elements('[', ']', "an array", element)
}

// elements reads what stands between two brackets, separated by commas.
func (r *Reader) elements(opening, closing byte, what string, element func(i int) error) error {
	switch c, err := r.token(); {
	case err != nil:
		return err
	case c != opening:
		return r.Fail("expected %s", what)
	}
	switch c, err := r.peek(); {
	case err != nil:
		return err
	case c == closing:
		r.take(1)
		return nil
	}
	for i := 0; ; i++ {
		if err := element(i); err != nil {
			return err
		}
		switch c, err := r.token(); {
		case err != nil:
			return err
		case c == closing:
			return nil
		case c != ',':
			return r.Fail("expected ',' or '%c'", closing)
		}
	}
}

// Bool reads true or false.
func (r *Reader) Bool() (bool, error) {
	switch c, err := r.peek(); {
	case err != nil:
		return false, err
	case c == 't':
		return true, r.literal("true")
	case c == 'f':
		return false, r.literal("false")
	}
	r.take(1)
	return false, r.Fail("expected true or false")
}

// literal takes a word.
func (r *Reader) literal(word string) error {
	for i := range len(word) {
		switch c, err := r.next(); {
		case err != nil:
			return err
		case c != word[i]:
			return r.Fail("invalid literal")
		}
	}
	return nil
}

// Skip passes over one value.
func (r *Reader) Skip() error { return r.skipBelow(maxDepth) }

func (r *Reader) skipBelow(depth int) error {
	if depth == 0 {
		return r.Fail("nested too deeply")
	}
	kind, err := r.Kind()
	if err != nil {
		return err
	}
	switch kind {
	case Null:
		_, err = r.Null()
	case Bool:
		_, err = r.Bool()
	case Number:
		_, err = r.Number()
	case String:
		_, err = r.quoted()
	case Array:
		err = r.Array(func(int) error { return r.skipBelow(depth - 1) })
	case Object:
		err = r.Object(Fields{}, func(string) error { return r.skipBelow(depth - 1) })
	default:
		err = r.Fail("expected a value")
	}
	return err
}

// Show reads the beginning of the value that comes next, and returns it as an error may show it: a bracket, or a value that is no list.
func (r *Reader) Show() (string, error) {
	kind, err := r.Kind()
	if err != nil {
		return "", err
	}
	switch kind {
	case Null:
		_, err := r.Null()
		return "null", err
	case Bool:
		yes, err := r.Bool()
		return fmt.Sprint(yes), err
	case Number:
		text, err := r.Number()
		return string(text), err
	case String:
		return r.String()
	case Array:
		return "[", nil
	case Object:
		return "{", nil
	}
	return "", r.Fail("expected a value")
}

// End makes sure that nothing follows but white space.
func (r *Reader) End() error {
	for space := 0; ; {
		for i, c := range r.ahead {
			if !isSpace(c) {
				r.take(i)
				return r.Fail("trailing characters")
			}
		}
		space += len(r.ahead)
		r.take(len(r.ahead))
		if space > maxSpace {
			return r.Fail("too much white space")
		}
		if err := r.fill(); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
