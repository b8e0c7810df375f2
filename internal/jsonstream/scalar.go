package jsonstream

import (
	"encoding/json"
	"errors"
	"math"
	"unicode/utf8"
)

// String reads a string.
func (r *Reader) String() (string, error) {
	b, err := r.quoted()
	return string(b), err
}

// quoted reads a string. What it returns is valid until the next read.
func (r *Reader) quoted() ([]byte, error) {
	switch c, err := r.token(); {
	case err != nil:
		return nil, err
	case c != '"':
		return nil, r.Fail("expected a string")
	}
	for i, c := range r.ahead { // len(space) is maxString
		switch {
		case c == '"':
			text := r.ahead[:i]
			r.take(i + 1)
			if !utf8.Valid(text) {
				return nil, r.Fail("string is not UTF-8")
			}
			return text, nil
		case c == '\\' || c < 0x20:
			return r.quotedRest()
		}
	}
	return r.quotedRest()
}

// quotedRest reads a string behind its opening quote, byte by byte: one with escapes, or one that is not whole in space.
func (r *Reader) quotedRest() ([]byte, error) {
	r.text = append(r.text[:0], '"')
	escaped := false
	for {
		c, err := r.next()
		if err != nil {
			return nil, err
		}
		switch {
		case len(r.text) > maxString:
			return nil, r.Fail("string is too long")
		case c < 0x20:
			return nil, r.Fail("control character in a string")
		case c == '"':
			return r.unquote(escaped)
		case c == '\\':
			escaped = true
			r.text = append(r.text, c)
			if c, err = r.next(); err != nil {
				return nil, err
			}
		}
		r.text = append(r.text, c)
	}
}

// unquote makes a string of r.text, which lacks the closing quote.
func (r *Reader) unquote(escaped bool) ([]byte, error) {
	if !utf8.Valid(r.text) {
		return nil, r.Fail("string is not UTF-8")
	}
	if !escaped {
		return r.text[1:], nil
	}
	r.text = append(r.text, '"')
	var text string
	if err := json.Unmarshal(r.text, &text); err != nil {
		return nil, r.Fail("invalid escape in a string")
	}
	return []byte(text), nil
}

// isNumber tells whether c can be part of a number.
func isNumber(c byte) bool {
	return c >= '0' && c <= '9' || c == '-' || c == '+' || c == '.' || c == 'e' || c == 'E'
}

// Uint reads an unsigned integer of 64 bits.
func (r *Reader) Uint() (uint64, error) {
	if _, err := r.peek(); err != nil {
		return 0, err
	}
	n, digits, bad := uint64(0), 0, false
	for {
		for i, c := range r.ahead {
			if !isNumber(c) {
				r.take(i)
				if digits == 0 || bad {
					return 0, r.Fail("expected an unsigned integer")
				}
				return n, nil
			}
			d := uint64(c - '0')
			bad = bad || c < '0' || c > '9' || digits > 0 && n == 0 || n > (math.MaxUint64-d)/10
			n = n*10 + d
			digits++
		}
		r.take(len(r.ahead))
		if ended, err := r.endsNumber(digits > 0 && !bad); ended || err != nil {
			return n, err
		}
	}
}

// Number reads a number and returns it as it is spelled. What it returns is valid until the next read.
func (r *Reader) Number() ([]byte, error) {
	if _, err := r.peek(); err != nil {
		return nil, err
	}
	r.text = r.text[:0]
	for {
		for i, c := range r.ahead {
			if isNumber(c) {
				continue
			}
			text := r.ahead[:i]
			if len(r.text) > 0 {
				r.text = append(r.text, text...)
				text = r.text
			}
			r.take(i)
			return text, r.checkNumber(text)
		}
		r.text = append(r.text, r.ahead...)
		r.take(len(r.ahead))
		if len(r.text) > maxNumber {
			return nil, r.Fail("number is too long")
		}
		if ended, err := r.endsNumber(r.checkNumber(r.text) == nil); ended || err != nil {
			return r.text, err
		}
	}
}

// endsNumber reads more of a number of which nothing is ahead, and tells whether it is what the text ends with: whole is true if it can be.
func (r *Reader) endsNumber(whole bool) (bool, error) {
	err := r.more()
	if wrong, ok := errors.AsType[*Error](err); whole && ok && wrong.Problem == Ended {
		return true, nil
	}
	return false, err
}

func (r *Reader) checkNumber(text []byte) error {
	switch {
	case len(text) > maxNumber:
		return r.Fail("number is too long")
	case isPlain(text) || json.Valid(text):
		return nil
	}
	return r.Fail("invalid number")
}

// isPlain tells whether text is an integer, which it tells faster than json.Valid.
func isPlain(text []byte) bool {
	if len(text) > 1 && text[0] == '-' {
		text = text[1:]
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) == 1 || len(text) > 1 && text[0] != '0'
}
