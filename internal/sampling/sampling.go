// Package sampling lets a test that has very many cases try some of them: others in each run, spread evenly over all. What each run
// leaves out, many runs try; and all are tried in one run with PACKHOUSE_EXHAUSTIVE.
//
// It is for cases that differ in a number: which call of the file system fails, which page is damaged. What differs in kind has to be
// tried in every run.
package sampling

import (
	"hash/fnv"
	"iter"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Variables of the environment.
const (
	Exhaustive   = "PACKHOUSE_EXHAUSTIVE" // not empty: every case is tried
	SeedVariable = "PACKHOUSE_SEED"       // the seed, to try those of another run again; empty: it is drawn
)

// Seed is from which a test draws what it tries. It is in the test's log, which is shown if the test fails.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed, err := strconv.ParseUint(os.Getenv(SeedVariable), 10, 64)
	if err != nil {
		seed = rand.Uint64()
	}
	t.Logf("%s=%d", SeedVariable, seed)
	return seed
}

// All tells that every case is to be tried.
func All() bool { return os.Getenv(Exhaustive) != "" }

// Share takes one of every so many cases.
type Share struct {
	of     int
	random *rand.Rand
	next   int // number of the case in its group of so many
	taken  int // the one of the group that is taken
}

// NewShare takes one, at random, of each group of so many cases that follow each other; or all of them, if every case is to be tried.
// The same seed takes the same cases of the test of one name.
func NewShare(t testing.TB, of int) *Share {
	t.Helper()
	if All() {
		of = 1
	}
	name := fnv.New64a()
	_, _ = name.Write([]byte(t.Name()))
	return &Share{of: of, random: rand.New(rand.NewPCG(Seed(t), name.Sum64()))}
}

// Takes tells whether the next case is to be tried.
func (s *Share) Takes() bool {
	if s.next == 0 {
		s.taken = s.random.IntN(s.of)
	}
	takes := s.next == s.taken
	s.next = (s.next + 1) % s.of
	return takes
}

// Seeds are n seeds for cases drawn at random, or all of them, if every case is to be tried.
func Seeds(t testing.TB, n, all int) iter.Seq[uint64] {
	t.Helper()
	first := Seed(t)
	if All() {
		n = all
	}
	return func(yield func(uint64) bool) {
		for i := range uint64(n) {
			if !yield(first + i) {
				return
			}
		}
	}
}
