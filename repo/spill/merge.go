package spill

import (
	"bufio"
	"container/heap"
	"encoding/binary"
	"io"
)

// A source is rows in order: of a run, or of a map with its keys.
type source struct {
	in   *bufio.Reader // nil: keys
	keys []string
	rows map[string][]byte

	age   int // counts up from the oldest
	key   string
	value []byte
}

// next goes on to the next row; more is false at the end. Each row has memory of its own.
func (s *source) next() (more bool, err error) {
	if s.in == nil {
		if len(s.keys) == 0 {
			return false, nil
		}
		s.key, s.keys = s.keys[0], s.keys[1:]
		s.value = s.rows[s.key]
		return true, nil
	}
	key, err := s.field()
	if err == io.EOF {
		return false, nil
	}
	if err == nil {
		s.key = string(key)
		s.value, err = s.field()
	}
	if err == io.EOF {
		err = errDamaged
	}
	if err != nil && err != errDamaged {
		err = failed(err)
	}
	return err == nil, err
}

// field reads a length and so many bytes. io.EOF: there is no other.
func (s *source) field() ([]byte, error) {
	n, err := binary.ReadUvarint(s.in)
	if err != nil {
		return nil, err
	}
	if n > maxField {
		return nil, errDamaged
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(s.in, b); err == io.EOF || err == io.ErrUnexpectedEOF {
		return nil, errDamaged
	} else if err != nil {
		return nil, err
	}
	return b, nil
}

// A merger goes through several sources, the older first where they have the same key. It is a heap of those that have a row.
type merger struct {
	sources []*source
	merge   func(older, newer []byte) []byte
}

func (m *merger) Len() int      { return len(m.sources) }
func (m *merger) Swap(i, j int) { m.sources[i], m.sources[j] = m.sources[j], m.sources[i] }
func (m *merger) Push(any)      { panic("a merger gets no sources while it merges") }
func (m *merger) Pop() any {
	m.sources = m.sources[:len(m.sources)-1]
	return nil
}
func (m *merger) Less(i, j int) bool {
	a, b := m.sources[i], m.sources[j]
	return a.key < b.key || a.key == b.key && a.age < b.age
}

// each calls fn with the merged rows.
func (m *merger) each(fn func(key string, value []byte) error) error {
	all := m.sources
	m.sources = m.sources[:0:0]
	for age, s := range all {
		s.age = age
		more, err := s.next()
		if err != nil {
			return err
		}
		if more {
			m.sources = append(m.sources, s)
		}
	}
	heap.Init(m)
	for len(m.sources) > 0 {
		key, value := m.sources[0].key, m.sources[0].value
		if err := m.advance(); err != nil {
			return err
		}
		for len(m.sources) > 0 && m.sources[0].key == key {
			value = m.merge(value, m.sources[0].value)
			if err := m.advance(); err != nil {
				return err
			}
		}
		if err := fn(key, value); err != nil {
			return err
		}
	}
	return nil
}

// advance takes the first source to its next row.
func (m *merger) advance() error {
	more, err := m.sources[0].next()
	switch {
	case err != nil:
		return err
	case more:
		heap.Fix(m, 0)
	default:
		heap.Pop(m)
	}
	return nil
}
