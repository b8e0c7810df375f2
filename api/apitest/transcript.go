package apitest

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
)

// header is one header line; order and spelling matter.
type header struct{ name, value string }

// exchange is one request and what is expected of its answer.
type exchange struct {
	line      int // in the file, for messages
	reconnect bool
	method    string
	target    string
	headers   []header // common ones included
	body      string
	hasBody   bool // a ">>" line is there

	status  int
	wants   []header // value "*": any
	forbids []string
	wantB   string         // exact body
	hasWant bool           // some line of wantB was read
	wantRE  *regexp.Regexp // or its form
	other   string         // the status of the reference where its answer differs: a number, noAnswer or notSent
	why     string         // it does
	answer  [2]int         // lines of the file that hold the expectation: [first, after)
}

// parse reads a transcript; lines are the file's, for -update.
func parse(path string) (exchanges []*exchange, lines []string, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, nil, err
	}
	lines = strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	p := &parser{}
	for i, line := range lines {
		if err := p.line(i, line); err != nil {
			return nil, nil, fmt.Errorf("%s:%d: %w", path, i+1, err)
		}
	}
	return p.exchanges, lines, nil
}

type parser struct {
	common    []header
	reconnect bool
	exchanges []*exchange
	open      bool // the last exchange has no status yet
}

func (p *parser) line(i int, line string) error {
	mark, rest, _ := strings.Cut(line, " ")
	var last *exchange
	if n := len(p.exchanges); n > 0 {
		last = p.exchanges[n-1]
	}
	switch mark {
	case "", "#":
		return nil
	case "@":
		return p.at(rest)
	case ">":
		if last != nil && p.open {
			name, value, ok := strings.Cut(rest, ":")
			if !ok {
				return fmt.Errorf("%q is no header", rest)
			}
			last.headers = append(without(last.headers, name), header{name, strings.TrimSpace(value)})
			return nil
		}
		method, target, ok := strings.Cut(rest, " ")
		if !ok {
			return fmt.Errorf("%q is no request", rest)
		}
		p.exchanges = append(p.exchanges, &exchange{
			line: i + 1, method: method, target: target, reconnect: p.reconnect, headers: append([]header(nil), p.common...),
		})
		p.open, p.reconnect = true, false
		return nil
	}
	if last == nil {
		return fmt.Errorf("%q before the first request", mark)
	}
	switch {
	case strings.HasPrefix(mark, ">>"):
		part, err := bodyPart(mark[2:], rest)
		if last.hasBody && mark == ">>" {
			part = "\n" + part
		}
		last.body, last.hasBody = last.body+part, true
		return err
	case mark == "<" && p.open:
		status, err := strconv.Atoi(rest)
		last.status, last.answer, p.open = status, [2]int{i, i + 1}, false
		return err
	case strings.HasPrefix(mark, "<") && !p.open:
		last.answer[1] = i + 1
		return last.expect(mark, rest)
	}
	return fmt.Errorf("unknown line %q", line)
}

func (p *parser) at(rest string) error {
	if rest == "reconnect" {
		p.reconnect = true
		return nil
	}
	name, value, ok := strings.Cut(rest, ":")
	if !ok {
		return fmt.Errorf("%q is no header", rest)
	}
	p.common = without(p.common, name)
	if value = strings.TrimSpace(value); value != "" {
		p.common = append(p.common, header{name, value})
	}
	return nil
}

// expect reads a line about the answer behind its status.
func (x *exchange) expect(mark, rest string) (err error) {
	switch mark {
	case "<":
		if name, ok := strings.CutPrefix(rest, "!"); ok {
			x.forbids = append(x.forbids, name)
			return nil
		}
		name, value, ok := strings.Cut(rest, ":")
		if !ok {
			return fmt.Errorf("%q is no header", rest)
		}
		x.wants = append(x.wants, header{name, strings.TrimSpace(value)})
		return nil
	case "<<~":
		x.wantRE, err = regexp.Compile(rest)
		return err
	case "<ref":
		x.other, x.why, _ = strings.Cut(rest, " ")
		if _, err := strconv.Atoi(x.other); err != nil && x.other != noAnswer && x.other != notSent {
			return fmt.Errorf("%q is no status", x.other)
		}
		return nil
	}
	part, err := bodyPart(strings.TrimPrefix(mark, "<<"), rest)
	if x.hasWant && mark == "<<" {
		part = "\n" + part
	}
	x.wantB, x.hasWant = x.wantB+part, true
	return err
}

// bodyPart is the text of one body line, by its form.
func bodyPart(form, rest string) (string, error) {
	switch form {
	case "":
		return rest, nil
	case "=":
		return strconv.Unquote(rest)
	case "*":
		count, text, _ := strings.Cut(rest, " ")
		n, err := strconv.Atoi(count)
		return strings.Repeat(text, max(n, 0)), err
	}
	return "", fmt.Errorf("unknown form of body %q", form)
}

func without(headers []header, name string) []header {
	kept := make([]header, 0, len(headers)+1)
	for _, h := range headers {
		if !strings.EqualFold(h.name, name) {
			kept = append(kept, h)
		}
	}
	return kept
}
