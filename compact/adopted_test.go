package compact_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/compact"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/adopt"
)

// adoptedFixture has a repository that was made of a directory of borg with n packs of 1000 bytes, one of which is not what its
// name says.
func adoptedFixture(t *testing.T, n int) (p *fixture, wrong string) {
	t.Helper()
	top := fastDir(t)
	source, data := filepath.Join(top, "source"), filepath.Join(top, "data")
	if err := errors.Join(os.MkdirAll(filepath.Join(source, "config"), 0o700), os.Mkdir(data, 0o700), os.Mkdir(filepath.Join(source, "packs"), 0o700)); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		body := strings.Repeat(string(rune('a'+i)), 1000)
		name := fmt.Sprintf("packs/%x", sha256.Sum256([]byte(body)))
		if i == n/2 {
			wrong, body = name, body[:999]+"!"
		}
		if err := os.WriteFile(filepath.Join(source, name), []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := adopt.Run(t.Context(), adopt.Options{Source: source, Into: data, Name: "r"}); err != nil {
		t.Fatal(err)
	}
	return newFixtureAt(t, data, nil), wrong
}

// TestScrubOfAdopted: a scrub of a share reads first what was adopted and nobody has read; one of which the bytes are not what its name
// says is damaged, and stays so.
func TestScrubOfAdopted(t *testing.T) {
	p, wrong := adoptedFixture(t, 8)
	for i := range 8 {
		p.put(fmt.Sprintf("a%d", i), make([]byte, 1000)) // before packs/ in the order of keys
	}
	if u := p.repo.Usage(); u.UnverifiedItems != 8 {
		t.Fatalf("usage: %+v", u)
	}
	for _, most := range []int64{5, 1, 1} { // four are read, of which one may be damaged, and then the others
		p.scrub(0.25)
		if u := p.repo.Usage(); u.UnverifiedItems < 1 || u.UnverifiedItems > most {
			t.Errorf("got %d unverified items, want at most %d", u.UnverifiedItems, most)
		}
	}
	// What was read in between goes round as before.
	if cursor, err := p.repo.Meta("scrub.after"); err != nil || string(cursor) == "" {
		t.Errorf("cursor: %q, %v", cursor, err)
	}
	entry, err := p.repo.Entry(wrong)
	if err != nil || entry.Item.Flags != index.FlagDamaged|index.FlagUnverified {
		t.Errorf("got %+v, %v, want a damaged item", entry, err)
	}
	if _, err := p.get(wrong); !errors.Is(err, repo.ErrDamaged) {
		t.Errorf("get: got %v, want ErrDamaged", err)
	}
	if job := p.scrub(0); job.Bad != 1 || job.Damaged[0] != wrong {
		t.Errorf("job: %+v", job)
	}
}

// TestPlanOfAdopted: what a plan copies of an adopted item was held against its name before, whole items and parts of them, also where reads
// are not checked.
func TestPlanOfAdopted(t *testing.T) {
	for _, unchecked := range []bool{false, true} {
		for _, length := range []int64{1000, 10} {
			t.Run(fmt.Sprintf("unchecked=%v/%d", unchecked, length), func(t *testing.T) {
				p, wrong := adoptedFixture(t, 4)
				p.close()
				p.so.Unchecked = unchecked
				p.open()
				var keys []string
				err := p.repo.Items(t.Context(), "", func(e index.Entry) error {
					keys = append(keys, e.Key)
					return nil
				})
				if err != nil || len(keys) != 4 {
					t.Fatalf("items: %q, %v", keys, err)
				}
				for i, key := range keys {
					target := fmt.Sprint("new", i)
					_, err := p.run(compact.Operation{Ranges: []compact.Range{{Key: key, Length: length}}, Target: target})
					if bad := key == wrong; bad != errors.Is(err, repo.ErrCorrupt) || !bad && err != nil {
						t.Errorf("%s: got %v", key, err)
					}
					if got, err := p.get(target); key != wrong && (err != nil || int64(len(got)) != length) {
						t.Errorf("%s: got %d bytes, %v", target, len(got), err)
					}
				}
				if u := p.repo.Usage(); u.UnverifiedItems != 1 || u.DamagedItems != 1 {
					t.Errorf("usage: %+v", u)
				}
			})
		}
	}
}
