package borgstore

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"packhouse/compact"
	"packhouse/internal/jsonstream"
	"packhouse/repo"
)

// maxSources is how many ranges one request may name: it bounds the memory they take.
const maxSources = 200_000

// readSources reads the body of defrag and gather: a JSON array of [name, offset, size]. It keeps
// nothing but the ranges, and stops at the first fault. Ranges of no bytes lie at the start of their
// object, wherever the client put them. More than limit bytes are ErrTooLarge.
func readSources(body io.Reader, limit int64) ([]compact.Range, error) {
	bounded := &io.LimitedReader{R: body, N: limit + 1}
	p := &sourceParser{text: jsonstream.New(bounded)}
	sources, err := p.parse()
	switch {
	case err == nil && bounded.N > 0:
		return sources, nil
	case bounded.N <= 0:
		return nil, &namedError{fmt.Sprintf("the list of sources is longer than %d bytes", limit), repo.ErrTooLarge}
	}
	return nil, err
}

type sourceParser struct {
	text    *jsonstream.Reader
	sources []compact.Range
	fault   error // of a source; others are of the text
}

// What there is to read, for errors.
const (
	aList   = "a JSON array of [name, offset, size]"
	aSource = "[name, offset, size]"
)

func (p *sourceParser) parse() ([]compact.Range, error) {
	err := p.follows(jsonstream.Array, "the body must be "+aList+": expected "+aList)
	if err == nil {
		err = p.text.Array(p.add)
	}
	switch {
	case p.fault != nil:
		return nil, p.fault
	case err != nil:
		return nil, refuse(err)
	}
	if err := p.text.End(); errors.As(err, new(*jsonstream.Error)) {
		return nil, badRequest("there is text after the array of sources")
	} else if err != nil {
		return nil, refuse(err)
	}
	return p.sources, nil
}

// add reads source i.
func (p *sourceParser) add(i int) error {
	if i == maxSources {
		p.fault = &namedError{fmt.Sprintf("more than %d sources", maxSources), repo.ErrTooLarge}
		return p.fault
	}
	source, err := p.source()
	if refused, ok := errors.AsType[*statusError](err); ok {
		refused.text = fmt.Sprintf("source %d: %s", i+1, refused.text)
	}
	p.sources, p.fault = append(p.sources, source), err
	return err
}

// source reads one source.
func (p *sourceParser) source() (source compact.Range, err error) {
	name, err := p.triple(&source)
	if err != nil {
		return source, refuse(err)
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

// triple reads [name, offset, size].
func (p *sourceParser) triple(source *compact.Range) (name string, err error) {
	if err := p.follows(jsonstream.Array, "the body must be "+aList+": expected "+aSource); err != nil {
		return "", err
	}
	missing := [...]string{"the name must be a string", "the offset must be a whole number", "the size must be a whole number"}
	read := 0
	err = p.text.Array(func(i int) (err error) {
		switch i {
		case 0:
			if err = p.follows(jsonstream.String, missing[i]); err == nil {
				name, err = p.text.String()
			}
		case 1:
			source.Offset, err = p.integer("offset", missing[i])
		case 2:
			source.Length, err = p.integer("size", missing[i])
			if err == nil && source.Length < 0 {
				err = badRequest("the size must not be negative, but is %d", source.Length)
			}
		default:
			err = badRequest("the body must be %s: expected %s and no more", aList, aSource)
		}
		read++
		return err
	})
	if err == nil && read < len(missing) {
		err = badRequest("%s", missing[read])
	}
	return name, err
}

// follows makes sure that a value of a kind comes next. otherwise is the answer to another one.
func (p *sourceParser) follows(want jsonstream.Kind, otherwise string) error {
	kind, err := p.text.Kind()
	if err != nil || kind == want {
		return err
	}
	if _, err := p.text.Show(); err != nil { // it is none
		return err
	}
	return badRequest("%s", otherwise)
}

func (p *sourceParser) integer(what, otherwise string) (int64, error) {
	if err := p.follows(jsonstream.Number, otherwise); err != nil {
		return 0, err
	}
	number, err := p.text.Number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(number), 10, 64)
	if err != nil {
		return 0, badRequest("the %s must be a whole number of at most 63 bits, but is %s", what, printable(string(number)))
	}
	return n, nil
}

// refuse makes an answer of an error of the text, or of reading it.
func refuse(err error) error {
	wrong, ok := errors.AsType[*jsonstream.Error](err)
	switch {
	case errors.As(err, new(*statusError)):
		return err
	case errors.Is(err, io.ErrUnexpectedEOF):
		return badRequest("the body is not a complete JSON array of [name, offset, size]")
	case ok:
		return badRequest("the body is not JSON: %s", wrong)
	}
	return fmt.Errorf("%w: %w", repo.ErrIncomplete, err)
}
