package borgstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"

	"packhouse/compact"
	"packhouse/repo"
)

// maxSources is how many ranges one request may name: it bounds the memory they take.
const maxSources = 200_000

// readSources reads the body of defrag and gather: a JSON array of [name, offset, size]. It keeps
// nothing but the ranges, and stops at the first fault. Ranges of no bytes lie at the start of their
// object, wherever the client put them. More than limit bytes are ErrTooLarge.
func readSources(body io.Reader, limit int64) ([]compact.Range, error) {
	bounded := &io.LimitedReader{R: body, N: limit + 1}
	short := &shortTokens{r: bounded}
	short.decoder = json.NewDecoder(short)
	short.decoder.UseNumber()
	p := &sourceParser{decoder: short.decoder}
	sources, err := p.parse()
	switch {
	case err == nil && bounded.N > 0:
		return sources, nil
	case bounded.N <= 0:
		return nil, &namedError{fmt.Sprintf("the list of sources is longer than %d bytes", limit), repo.ErrTooLarge}
	}
	return nil, err
}

// maxToken is how many bytes the decoder may have to look at before it finds the end of what it reads: a
// name has a hundred characters, a number twenty. It keeps them all.
const maxToken = 16 << 10

// shortTokens is what a decoder reads from.
type shortTokens struct {
	r       io.Reader
	n       int64 // bytes given to decoder
	decoder *json.Decoder
}

func (s *shortTokens) Read(p []byte) (int, error) {
	if s.n-s.decoder.InputOffset() > maxToken {
		return 0, badRequest("the body is not a JSON array of [name, offset, size]: %d bytes without the end of a name or number", maxToken)
	}
	n, err := s.r.Read(p)
	s.n += int64(n)
	return n, err
}

type sourceParser struct{ decoder *json.Decoder }

func (p *sourceParser) parse() ([]compact.Range, error) {
	if err := p.delimiter('[', "a JSON array of [name, offset, size]"); err != nil {
		return nil, err
	}
	var sources []compact.Range
	for p.decoder.More() {
		if len(sources) == maxSources {
			return nil, &namedError{fmt.Sprintf("more than %d sources", maxSources), repo.ErrTooLarge}
		}
		source, err := p.source()
		if err != nil {
			var refused *statusError
			if errors.As(err, &refused) {
				refused.text = fmt.Sprintf("source %d: %s", len(sources)+1, refused.text)
			}
			return nil, err
		}
		sources = append(sources, source)
	}
	if err := p.delimiter(']', "the end of the array"); err != nil {
		return nil, err
	}
	if _, err := p.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, badRequest("there is text after the array of sources")
	}
	return sources, nil
}

// source reads one [name, offset, size].
func (p *sourceParser) source() (source compact.Range, err error) {
	if err := p.delimiter('[', "[name, offset, size]"); err != nil {
		return source, err
	}
	token, err := p.token()
	if err != nil {
		return source, err
	}
	name, ok := token.(string)
	if !ok {
		return source, badRequest("the name must be a string")
	}
	if source.Offset, err = p.integer("offset"); err != nil {
		return source, err
	}
	if source.Length, err = p.integer("size"); err != nil {
		return source, err
	}
	if source.Length < 0 {
		return source, badRequest("the size must not be negative, but is %d", source.Length)
	}
	if err := p.delimiter(']', "[name, offset, size] and no more"); err != nil {
		return source, err
	}
	if source.Key, err = cleanName(name); err != nil {
		return source, err
	}
	if source.Key == "" {
		return source, badRequest("the name must not be empty")
	}
	if source.Length == 0 {
		source.Offset = 0
	}
	return source, nil
}

func (p *sourceParser) token() (json.Token, error) {
	token, err := p.decoder.Token()
	var syntax *json.SyntaxError
	var refused *statusError
	switch {
	case err == nil:
		return token, nil
	case errors.As(err, &refused):
		return nil, refused
	case errors.As(err, &syntax):
		return nil, badRequest("the body is not JSON: %s", printable(err.Error()))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return nil, badRequest("the body is not a complete JSON array of [name, offset, size]")
	}
	return nil, fmt.Errorf("%w: %w", repo.ErrIncomplete, err)
}

func (p *sourceParser) delimiter(want json.Delim, expected string) error {
	token, err := p.token()
	if err != nil {
		return err
	}
	if token != want {
		return badRequest("the body must be a JSON array of [name, offset, size]: expected %s", expected)
	}
	return nil
}

func (p *sourceParser) integer(what string) (int64, error) {
	token, err := p.token()
	if err != nil {
		return 0, err
	}
	number, ok := token.(json.Number)
	if !ok {
		return 0, badRequest("the %s must be a whole number", what)
	}
	n, err := strconv.ParseInt(number.String(), 10, 64)
	if err != nil {
		return 0, badRequest("the %s must be a whole number of at most 63 bits, but is %s", what, printable(number.String()))
	}
	return n, nil
}
