package vger

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"unicode/utf8"
)

// jsonStream reads one JSON text value by value, so that a plan of any length needs no more
// memory than its longest string. Unlike encoding/json it takes member names as they are
// spelled, and only unsigned integers where numbers belong.
//
// Every method returns the first error there was: a *syntaxError for what is no JSON or not of the
// expected type, else an error of the reader. After an error the stream is of no more use.
type jsonStream struct {
	r      io.Reader
	ahead  []byte // read, not taken yet; the byte taken last stands in front of it
	offset int64  // bytes taken so far
	space  []byte // what ahead is a part of
	buffer []byte // of the string being read
}

// syntaxError says what is wrong with a text, and where.
type syntaxError struct {
	offset int64
	text   string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("%s at byte %d", e.text, e.offset) }

const (
	maxString = 64 << 10 // bytes of one string
	maxDepth  = 64       // levels of values that are passed over
)

func newJSONStream(r io.Reader) *jsonStream {
	return &jsonStream{r: r, space: make([]byte, 64<<10)}
}

func (s *jsonStream) fail(format string, args ...any) error {
	return &syntaxError{offset: s.offset, text: fmt.Sprintf(format, args...)}
}

// fill reads more. It returns io.EOF at the end of the text.
func (s *jsonStream) fill() error {
	for {
		n, err := s.r.Read(s.space[1:])
		if n > 0 {
			s.ahead = s.space[1 : 1+n]
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// next takes one byte.
func (s *jsonStream) next() (byte, error) {
	if len(s.ahead) == 0 {
		if err := s.fill(); err == io.EOF {
			return 0, s.fail("unexpected end")
		} else if err != nil {
			return 0, err
		}
	}
	c := s.ahead[0]
	s.ahead = s.ahead[1:]
	s.offset++
	return c, nil
}

// token takes the next byte that is no white space.
func (s *jsonStream) token() (byte, error) {
	for {
		c, err := s.next()
		if err != nil || c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			return c, err
		}
	}
}

// back gives c, the byte taken last, back.
func (s *jsonStream) back(c byte) {
	s.offset--
	// There is always space for it: fill leaves a byte in front, and taking one makes more.
	at := cap(s.space) - cap(s.ahead) - 1
	s.space[at] = c
	s.ahead = s.space[at : at+1+len(s.ahead)]
}

// end makes sure that nothing follows.
func (s *jsonStream) end() error {
	for {
		for len(s.ahead) == 0 {
			if err := s.fill(); err == io.EOF {
				return nil
			} else if err != nil {
				return err
			}
		}
		if c, err := s.next(); err != nil {
			return err
		} else if c != ' ' && c != '\t' && c != '\n' && c != '\r' {
			s.offset--
			return s.fail("trailing characters")
		}
	}
}

// object reads an object: member is called behind each name and must read the value.
func (s *jsonStream) object(member func(name string) error) error {
	return s.elements('{', '}', "an object", func() error {
		name, err := s.string()
		if err != nil {
			return err
		}
		switch c, err := s.token(); {
		case err != nil:
			return err
		case c != ':':
			return s.fail("expected ':'")
		}
		return member(name)
	})
}

// array reads an array: element is called before each element and must read it.
func (s *jsonStream) array(element func() error) error {
	return s.elements('[', ']', "an array", element)
}

// elements reads what stands between two brackets, separated by commas.
func (s *jsonStream) elements(opening, closing byte, what string, element func() error) error {
	switch c, err := s.token(); {
	case err != nil:
		return err
	case c != opening:
		return s.fail("expected %s", what)
	}
	c, err := s.token()
	switch {
	case err != nil:
		return err
	case c == closing:
		return nil
	}
	s.back(c)
	for {
		if err := element(); err != nil {
			return err
		}
		switch c, err := s.token(); {
		case err != nil:
			return err
		case c == closing:
			return nil
		case c != ',':
			return s.fail("expected ',' or '%c'", closing)
		}
	}
}

// string reads a string.
func (s *jsonStream) string() (string, error) {
	switch c, err := s.token(); {
	case err != nil:
		return "", err
	case c != '"':
		return "", s.fail("expected a string")
	}
	s.buffer = append(s.buffer[:0], '"')
	escaped := false
	for {
		c, err := s.next()
		if err != nil {
			return "", err
		}
		switch {
		case len(s.buffer) > maxString:
			return "", s.fail("string is too long")
		case c < 0x20:
			return "", s.fail("control character in a string")
		case c == '"':
			return s.unquote(escaped)
		case c == '\\':
			escaped = true
			s.buffer = append(s.buffer, c)
			if c, err = s.next(); err != nil {
				return "", err
			}
		}
		s.buffer = append(s.buffer, c)
	}
}

// unquote makes a string of the buffer, which lacks the closing quote.
func (s *jsonStream) unquote(escaped bool) (string, error) {
	if !utf8.Valid(s.buffer) {
		return "", s.fail("string is not UTF-8")
	}
	if !escaped {
		return interned(s.buffer[1:]), nil
	}
	s.buffer = append(s.buffer, '"')
	var text string
	if err := json.Unmarshal(s.buffer, &text); err != nil {
		return "", s.fail("invalid escape in a string")
	}
	return text, nil
}

// interned returns b as a string. Names that a plan repeats for each blob are allocated only once.
func interned(b []byte) string {
	switch string(b) {
	case "offset":
		return "offset"
	case "length":
		return "length"
	}
	return string(b)
}

// uint reads an unsigned integer of 64 bits.
func (s *jsonStream) uint() (uint64, error) {
	c, err := s.token()
	n, digits, bad := uint64(0), 0, false
	for ; err == nil && isNumber(c); c, err = s.next() {
		d := uint64(c - '0')
		bad = bad || c < '0' || c > '9' || digits > 0 && n == 0 || n > (math.MaxUint64-d)/10
		n = n*10 + d
		digits++
	}
	if err != nil {
		return 0, err // a number does not end a text that has a use for it
	}
	s.back(c)
	if digits == 0 || bad {
		return 0, s.fail("expected an unsigned integer")
	}
	return n, nil
}

// isNumber tells whether c can be part of a JSON number.
func isNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// bool reads true or false.
func (s *jsonStream) bool() (bool, error) {
	switch c, err := s.token(); {
	case err != nil:
		return false, err
	case c == 't':
		return true, s.literal("rue")
	case c == 'f':
		return false, s.literal("alse")
	}
	return false, s.fail("expected true or false")
}

// literal takes the rest of a fixed word.
func (s *jsonStream) literal(rest string) error {
	for i := 0; i < len(rest); i++ {
		switch c, err := s.next(); {
		case err != nil:
			return err
		case c != rest[i]:
			return s.fail("invalid literal")
		}
	}
	return nil
}

// skip passes over one value.
func (s *jsonStream) skip() error { return s.skipBelow(maxDepth) }

func (s *jsonStream) skipBelow(depth int) error {
	if depth == 0 {
		return s.fail("nested too deeply")
	}
	c, err := s.token()
	if err != nil {
		return err
	}
	switch {
	case c == 't':
		return s.literal("rue")
	case c == 'f':
		return s.literal("alse")
	case c == 'n':
		return s.literal("ull")
	case c == '-' || c >= '0' && c <= '9':
		return s.skipNumber(c)
	}
	s.back(c)
	switch c {
	case '"':
		_, err := s.string()
		return err
	case '[':
		return s.array(func() error { return s.skipBelow(depth - 1) })
	case '{':
		return s.object(func(string) error { return s.skipBelow(depth - 1) })
	}
	return s.fail("expected a value")
}

// skipNumber passes over a number that begins with c. It must not be the whole text.
func (s *jsonStream) skipNumber(c byte) error {
	var err error
	number := make([]byte, 0, 32)
	for err == nil && isNumber(c) && len(number) < 1<<10 {
		number = append(number, c)
		c, err = s.next()
	}
	if err != nil {
		return err
	}
	if !json.Valid(number) {
		return s.fail("invalid number")
	}
	s.back(c)
	return nil
}
