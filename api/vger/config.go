package vger

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"strings"
	"sync"

	"packhouse/repo"
)

// repositoryConfig is what the server understands of a repository's "config": an unencrypted msgpack
// array whose first element is the format version. The zero value stands for a
// repository without one, or with one that does not read.
type repositoryConfig struct {
	format    uint64 // 1, 2, 3; 0: unknown
	plaintext bool   // encryption "none": no key object belongs to it
}

// hash is the algorithm that names the format's packs for life, "" when the format is unknown.
func (c repositoryConfig) hash() string {
	switch c.format {
	case 1, 2:
		return "blake2b"
	case 3:
		return "blake3"
	}
	return ""
}

// maxConfig is how much of a config is looked at, in bytes; real ones have about a hundred.
const maxConfig = 4 << 10

// configs remembers the last config of each repository by its blob.
type configs struct {
	mu     sync.Mutex // held for a map access only
	latest map[string]knownConfig
}

type knownConfig struct {
	ref    string
	config repositoryConfig
}

// of returns the config of a repository. It is read with the server's own eyes: policy
// must not depend on what the principal may read.
func (c *configs) of(ctx context.Context, r *repo.Repository) (repositoryConfig, error) {
	entry, err := r.Entry("config")
	if errors.Is(err, repo.ErrNotFound) || err == nil && entry.Dir {
		return repositoryConfig{}, nil
	}
	if err != nil {
		return repositoryConfig{}, err
	}
	c.mu.Lock()
	last, ok := c.latest[r.ID()]
	c.mu.Unlock()
	if ok && last.ref == entry.Item.Ref {
		return last.config, nil
	}
	o, err := r.As(repo.Principal{}).Open(ctx, "config")
	if err != nil {
		return repositoryConfig{}, err
	}
	defer o.Close()
	text, err := io.ReadAll(io.NewSectionReader(o, 0, min(o.Size(), maxConfig)))
	if err != nil {
		return repositoryConfig{}, err
	}
	config := parseConfig(text)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.latest == nil {
		c.latest = make(map[string]knownConfig)
	}
	c.latest[r.ID()] = knownConfig{o.Item.Ref, config}
	return config, nil
}

// parseConfig reads [version, id, chunker parameters, encryption mode, …] as far as it can.
func parseConfig(b []byte) repositoryConfig {
	m := msgpack{b}
	n, ok := m.array()
	if !ok || n == 0 {
		return repositoryConfig{}
	}
	var c repositoryConfig
	if c.format, ok = m.uint(); !ok {
		return repositoryConfig{}
	}
	if n >= 4 && m.skip(8) && m.skip(8) {
		mode, ok := m.text()
		c.plaintext = ok && strings.EqualFold(mode, "none")
	}
	return c
}

// msgpack reads the few forms of the format that a config has, from the front.
type msgpack struct{ rest []byte }

// take returns the next n bytes.
func (m *msgpack) take(n uint64) ([]byte, bool) {
	if uint64(len(m.rest)) < n {
		return nil, false
	}
	b := m.rest[:n]
	m.rest = m.rest[n:]
	return b, true
}

// number reads a big-endian unsigned integer of width bytes.
func (m *msgpack) number(width int) (uint64, bool) {
	b, ok := m.take(uint64(width))
	if !ok {
		return 0, false
	}
	var wide [8]byte
	copy(wide[8-width:], b)
	return binary.BigEndian.Uint64(wide[:]), true
}

func (m *msgpack) head() (byte, bool) {
	b, ok := m.take(1)
	if !ok {
		return 0, false
	}
	return b[0], true
}

// array reads the head of an array: how many elements follow.
func (m *msgpack) array() (uint64, bool) {
	switch b, ok := m.head(); {
	case !ok:
		return 0, false
	case b&0xf0 == 0x90:
		return uint64(b & 0x0f), true
	case b == 0xdc:
		return m.number(2)
	case b == 0xdd:
		return m.number(4)
	}
	return 0, false
}

// uint reads an integer that is not negative.
func (m *msgpack) uint() (uint64, bool) {
	b, ok := m.head()
	switch {
	case !ok:
		return 0, false
	case b < 0x80:
		return uint64(b), true
	case b >= 0xcc && b <= 0xcf: // unsigned, 1 to 8 bytes
		return m.number(1 << (b - 0xcc))
	case b >= 0xd0 && b <= 0xd3: // signed, 1 to 8 bytes
		width := 1 << (b - 0xd0)
		n, ok := m.number(width)
		return n, ok && n>>(8*width-1) == 0
	}
	return 0, false
}

// text reads a string.
func (m *msgpack) text() (string, bool) {
	b, ok := m.head()
	if !ok {
		return "", false
	}
	var n uint64
	switch {
	case b&0xe0 == 0xa0:
		n = uint64(b & 0x1f)
	case b >= 0xd9 && b <= 0xdb:
		n, ok = m.number(1 << (b - 0xd9))
	default:
		ok = false
	}
	if !ok {
		return "", false
	}
	s, ok := m.take(n)
	return string(s), ok
}

// skip passes over one value, nested at most depth levels.
func (m *msgpack) skip(depth int) bool {
	b, ok := m.head()
	if !ok || depth == 0 {
		return false
	}
	var bytes, values uint64
	switch {
	case b < 0x80, b >= 0xe0, b == 0xc0, b == 0xc2, b == 0xc3: // small integers, nil, booleans
	case b&0xf0 == 0x80: // map
		values = 2 * uint64(b&0x0f)
	case b&0xf0 == 0x90: // array
		values = uint64(b & 0x0f)
	case b&0xe0 == 0xa0: // string
		bytes = uint64(b & 0x1f)
	case b >= 0xc4 && b <= 0xc6: // bytes
		bytes, ok = m.number(1 << (b - 0xc4))
	case b >= 0xc7 && b <= 0xc9: // extension
		bytes, ok = m.number(1 << (b - 0xc7))
		bytes++
	case b == 0xca: // float
		bytes = 4
	case b == 0xcb:
		bytes = 8
	case b >= 0xcc && b <= 0xcf:
		bytes = 1 << (b - 0xcc)
	case b >= 0xd0 && b <= 0xd3:
		bytes = 1 << (b - 0xd0)
	case b >= 0xd4 && b <= 0xd8: // extension of 1 to 16 bytes
		bytes = 1 + 1<<(b-0xd4)
	case b >= 0xd9 && b <= 0xdb:
		bytes, ok = m.number(1 << (b - 0xd9))
	case b == 0xdc, b == 0xdd:
		values, ok = m.number(2 << (b - 0xdc))
	case b == 0xde, b == 0xdf:
		values, ok = m.number(2 << (b - 0xde))
		values *= 2
	default:
		ok = false
	}
	if !ok {
		return false
	}
	if _, ok := m.take(bytes); !ok {
		return false
	}
	for ; values > 0; values-- {
		if !m.skip(depth - 1) {
			return false
		}
	}
	return true
}
