package repo_test

import (
	"crypto/sha256"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
)

// TestMendAdopted: who may only add items mends an adopted one that is damaged with the bytes that its name says, and no others.
func TestMendAdopted(t *testing.T) {
	dir := t.TempDir()
	s := newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r := create(t, s, "r")
	good, bad := strings.Repeat("g", 100_000), strings.Repeat("b", 100_000)
	sum := sha256.Sum256([]byte(good))
	id := strings.Repeat("\x00", 16)
	if err := os.WriteFile(filepath.Join(repo.Dir(r), "blobs", "00", strings.Repeat("0", 32)), []byte(bad), 0o400); err != nil {
		t.Fatal(err)
	}
	item := index.Item{Ref: "\x03" + id, Size: 100_000, Flags: index.FlagUnverified, Algorithm: digest.SHA256, Sum: sum[:]}
	if _, err := repo.IndexOf(r).Apply(ctx, index.Put{Key: "packs/x", Item: item, Limit: -1, Now: r.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = newSet(t, func(o *datadir.Options) { o.Dir = dir })
	r, err := s.Get(ctx, "r")
	if err != nil {
		t.Fatal(err)
	}
	entry, err := r.Entry("packs/x")
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Verify(ctx, entry, nil); !errors.Is(err, repo.ErrDamaged) {
		t.Fatalf("verify: %v", err)
	}
	a := r.As(repo.Principal{Permissions: permissions(t, `{"": "lrw"}`)})
	store := func(body string) error {
		sum := sha256.Sum256([]byte(body))
		algorithm, err := digest.Lookup(digest.SHA256)
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Put(ctx, repo.PutRequest{
			Key: "packs/x", Body: strings.NewReader(body), Size: int64(len(body)), Expect: []repo.Expectation{{Algorithm: algorithm, Sum: sum[:]}},
		})
		return err
	}
	if err := store(strings.Repeat("o", 100_000)); !errors.Is(err, repo.ErrDenied) {
		t.Errorf("other bytes: got %v, want ErrDenied", err)
	}
	if err := store(good); err != nil {
		t.Errorf("the right bytes: %v", err)
	}
	wantContent(t, a, "packs/x", good)
}
