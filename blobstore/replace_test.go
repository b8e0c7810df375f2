package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"testing"
	"testing/iotest"

	"packhouse/blobstore"
)

// TestReplace gives a blob that is damaged or missing a new file, of either format; a reader that has the old one open goes on with that.
// Other bytes than those of the blob are refused, and nothing is left of them.
func TestReplace(t *testing.T) {
	ctx := context.Background()
	content := random(1, 300_000)
	label := []byte("label")
	for name, trailed := range map[string]bool{"format 1": true, "format 2": false} {
		t.Run(name, func(t *testing.T) {
			s, dir := newStore(t)
			ref := mustPut(t, s, string(content), string(label))
			mustSettle(t, s, ref)
			if trailed {
				if err := errors.Join(os.Remove(blobPath(dir, ref)), os.Remove(sumsPath(dir, ref))); err != nil {
					t.Fatal(err)
				}
				ref = blobstore.TrailedRefOf(goldenName)
				if err := os.WriteFile(blobPath(dir, ref), blobstore.AppendTrailer(bytes.Clone(content), label, infoOf(content)), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			check := blobstore.Check{Want: infoOf(content), Label: func() ([]byte, error) { return label, nil }}
			for _, damage := range []func() error{
				func() error { return os.Truncate(blobPath(dir, ref), 1000) },
				func() error { return os.Remove(blobPath(dir, ref)) },
			} {
				before, err := s.Open(ref, infoOf(content))
				if err != nil {
					t.Fatal(err)
				}
				if err := damage(); err != nil {
					t.Fatal(err)
				}
				if _, err := s.Verify(ctx, ref, check); err == nil {
					t.Fatal("the damaged blob is sound")
				}
				other := append([]byte("other"), content[5:]...)
				for _, wrong := range [][]byte{other, content[1:], append(bytes.Clone(content), 0), nil} {
					if _, err := s.Replace(ctx, ref, infoOf(content), label, bytes.NewReader(wrong)); !errors.Is(err, blobstore.ErrCorrupt) {
						t.Errorf("%d other bytes: got %v, want ErrCorrupt", len(wrong), err)
					}
				}
				file, err := s.Replace(ctx, ref, infoOf(content), label, bytes.NewReader(content))
				if err != nil {
					t.Fatal(err)
				}
				if err := file.Commit(); err != nil {
					t.Fatal(err)
				}
				file.Discard()
				if _, err := s.Verify(ctx, ref, check); err != nil {
					t.Errorf("verify: %v", err)
				}
				wantContent(t, s, ref, content)
				if got, info, err := s.Label(ref); err != nil || !bytes.Equal(got, label) || info != infoOf(content) {
					t.Errorf("label: got %q, %+v, %v", got, info, err)
				}
				if err := before.Close(); err != nil {
					t.Error(err)
				}
			}
			wantFiles(t, dir, []blobstore.Ref{ref}, nil)
		})
	}
}

// cancelReader ends a context with its first read.
type cancelReader struct {
	io.Reader
	cancel func()
}

func (r cancelReader) Read(p []byte) (int, error) {
	r.cancel()
	return r.Reader.Read(p)
}

// TestReplaceEnds with its context, and with the error of what it reads, and leaves nothing.
func TestReplaceEnds(t *testing.T) {
	content := random(1, 600_000)
	s, dir := newStore(t)
	ref := mustPut(t, s, string(content), "")
	mustSettle(t, s, ref)
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := s.Replace(ctx, ref, infoOf(content), nil, cancelReader{bytes.NewReader(content), cancel}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	stop := errors.New("stop")
	from := io.MultiReader(bytes.NewReader(content[:1000]), iotest.ErrReader(stop))
	if _, err := s.Replace(context.Background(), ref, infoOf(content), nil, from); !errors.Is(err, stop) {
		t.Errorf("got %v, want the error of the reader", err)
	}
	wantFiles(t, dir, []blobstore.Ref{ref}, nil)
}
