package blobstore_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"testing"

	"github.com/zeebo/blake3"

	"packhouse/blobstore"
	"packhouse/journal"
)

// payloads is a log that has blobs in memory, by ref.
type payloads map[string][]byte

func (p payloads) Payload(ref string, unchecked bool, _ []byte) ([]byte, error) {
	b, there := p[ref]
	switch {
	case !there:
		return nil, blobstore.ErrNotFound
	case len(b) > 0 && b[0] == 'x' && !unchecked: // damaged
		return nil, blobstore.ErrCorrupt
	}
	return b, nil
}

func (p payloads) Has(ref string) (bool, error) {
	_, there := p[ref]
	return there, nil
}

func (payloads) Look() error { return nil }

// TestSmall: up to the threshold a blob stays in memory, whatever was said of its size; beyond it, or when it is committed all the same, it
// is a file.
func TestSmall(t *testing.T) {
	const small = 100
	dir := t.TempDir()
	if err := blobstore.Init(nil, dir); err != nil {
		t.Fatal(err)
	}
	s, err := blobstore.Open(blobstore.Options{Dir: dir, Log: payloads{}, Small: small})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, announced := range []int64{-1, 0, small, small + 1} {
		for _, size := range []int{0, 1, small, small + 1, 10 * small} {
			content := bytes.Repeat([]byte("a"), size)
			w, err := s.Create(context.Background(), announced)
			if err != nil {
				t.Fatal(err)
			}
			for part := range bytes.SplitSeq(bytes.Repeat([]byte("a"), size), nil) { // byte by byte
				if _, err := w.Write(part); err != nil {
					t.Fatal(err)
				}
			}
			blob, info, ok := w.Small()
			if want := announced <= small && size <= small; ok != want {
				t.Fatalf("%d bytes, %d announced: in memory %v, want %v", size, announced, ok, want)
			}
			if ok {
				if !bytes.Equal(blob, content) || blob == nil || info.Size != int64(size) || info.BLAKE3 != blake3.Sum256(content) {
					t.Errorf("%d bytes: got %q, %+v", size, blob, info)
				}
				if _, err := w.Write([]byte("b")); err == nil {
					t.Error("a writer that was ended takes bytes")
				}
				wantFiles(t, dir, nil, nil)
				continue
			}
			ref, info, err := w.Commit(context.Background(), nil)
			if err != nil || info.Size != int64(size) {
				t.Fatalf("%d bytes: got %+v, %v", size, info, err)
			}
			if err := errors.Join(s.Settle(ref), s.Remove(ref)); err != nil {
				t.Fatal(err)
			}
		}
	}
	w, err := s.Create(context.Background(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte("f")); err != nil {
		t.Fatal(err)
	}
	ref, _, err := w.Commit(context.Background(), nil) // who does not ask for Small gets a file
	if err != nil {
		t.Fatal(err)
	}
	wantFiles(t, dir, []blobstore.Ref{ref}, []blobstore.Ref{ref})
	for range 2 {
		if w, err = s.Create(context.Background(), 1); err != nil {
			t.Fatal(err)
		}
		w.Abort()
	}
	wantFiles(t, dir, []blobstore.Ref{ref}, []blobstore.Ref{ref})
}

// TestBlobsInTheLog: what a ref to the log leads to is read from there, checked unless it is to be salvaged, and no file is touched.
func TestBlobsInTheLog(t *testing.T) {
	dir := t.TempDir()
	if err := blobstore.Init(nil, dir); err != nil {
		t.Fatal(err)
	}
	ref := func(offset int64) blobstore.Ref {
		return blobstore.Ref(journal.Place{Segment: 1 << 20, Offset: offset, Length: 5}.Ref())
	}
	sound, damaged, none := ref(1), ref(2), ref(3)
	s, err := blobstore.Open(blobstore.Options{Dir: dir, Log: payloads{string(sound): []byte("sound"), string(damaged): []byte("xxxxx")}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, size := range []int64{-1, 5} {
		b, err := s.Open(sound, sized(size))
		if err != nil {
			t.Fatal(err)
		}
		section, err := b.Section(1, 3)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(section); err != nil || string(got) != "oun" {
			t.Errorf("section: got %q, %v", got, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if _, err := s.Open(damaged, sized(size)); !errors.Is(err, blobstore.ErrCorrupt) {
			t.Errorf("damaged: got %v", err)
		}
	}
	if _, err := s.Open(sound, sized(4)); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("of another length: got %v", err)
	}
	if b, err := s.OpenAsIs(damaged, 5); err != nil || b.Size() != 5 {
		t.Errorf("damaged, as it lies: got %v", err)
	}
	if _, err := s.Open(none, sized(5)); !errors.Is(err, blobstore.ErrNotFound) {
		t.Errorf("none: got %v", err)
	}
	names, err := s.Names(context.Background(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for ref, want := range map[blobstore.Ref]bool{sound: true, damaged: true, none: false} {
		if has, err := s.Has(ref); err != nil || has != want || names.Has(ref) != want {
			t.Errorf("has %x: got %v, %v, %v; want %v", string(ref), has, names.Has(ref), err, want)
		}
	}
	if info, err := s.Verify(context.Background(), sound, asStored); err != nil || info.Size != 5 || info.BLAKE3 != blake3.Sum256([]byte("sound")) {
		t.Errorf("verify: got %+v, %v", info, err)
	}
	if _, err := s.Verify(context.Background(), damaged, asStored); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("verify what is damaged: got %v", err)
	}
	if err := errors.Join(s.Settle(sound), s.RemoveAll([]blobstore.Ref{sound, none})); err != nil {
		t.Errorf("what the index alone can let go of: %v", err)
	}
}

// intoBuffers is a log that reads into the buffers that it is given, and keeps them in mind.
type intoBuffers struct {
	payloads
	given [][]byte
}

func (l *intoBuffers) Payload(ref string, _ bool, buffer []byte) ([]byte, error) {
	l.given = append(l.given, buffer)
	n := journal.BufferSize(int64(len(l.payloads[ref])))
	if int64(cap(buffer)) < n {
		return bytes.Clone(l.payloads[ref]), nil
	}
	buffer = buffer[:n]
	copy(buffer[n-int64(len(l.payloads[ref])):], l.payloads[ref])
	return buffer[n-int64(len(l.payloads[ref])):], nil
}

// TestBuffersOfSmall: blobs of all sizes that the log has are read into buffers, which no two open blobs share, and which a
// blob that is closed, even twice, lets go of.
func TestBuffersOfSmall(t *testing.T) {
	dir := t.TempDir()
	if err := blobstore.Init(nil, dir); err != nil {
		t.Fatal(err)
	}
	log := &intoBuffers{payloads: make(payloads)}
	s, err := blobstore.Open(blobstore.Options{Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for i, size := range []int64{0, 1, 1 << 10, 1<<10 + 1, 2 << 10, 8 << 10, 8<<10 + 1, 64<<10 + 1, 128 << 10, 128<<10 + 1} {
		ref := blobstore.Ref(journal.Place{Segment: 1 << 20, Offset: int64(i), Length: size}.Ref())
		content := bytes.Repeat([]byte{byte('a' + i)}, int(size))
		log.payloads[string(ref)] = content
		log.given = nil
		for range 3 {
			first, err := s.Open(ref, sized(size))
			if err != nil {
				t.Fatal(err)
			}
			// Both, as whoever closes a blob twice must not have it given to two.
			if err := errors.Join(first.Close(), first.Close()); err != nil {
				t.Error(err)
			}
			if _, err := first.Section(0, size); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("section of a closed blob: got %v", err)
			}
			if _, err := first.ReadAt(make([]byte, 1), 0); size > 0 && !errors.Is(err, fs.ErrClosed) {
				t.Errorf("read of a closed blob: got %v", err)
			}
			log.given = nil
			var open []*blobstore.Blob
			for range 3 {
				b, err := s.Open(ref, sized(size))
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, b)
			}
			for i, b := range log.given {
				if want := size <= 128<<10; (int64(len(b)) >= journal.BufferSize(size)) != want || int64(len(b)) > 2*journal.BufferSize(max(size, 1<<10)) {
					t.Errorf("a buffer of %d bytes for a blob of %d", len(b), size)
				}
				for _, other := range log.given[:i] {
					if len(b) > 0 && len(other) > 0 && &b[0] == &other[0] {
						t.Fatalf("two open blobs of %d bytes have one buffer", size)
					}
				}
			}
			for _, b := range open {
				section, err := b.Section(0, size)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(section); err != nil || !bytes.Equal(got, content) {
					t.Errorf("%d bytes: got %d, %v", size, len(got), err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
		}
	}
}

// TestSmallNeedsALog: without one there is nowhere to put small blobs.
func TestSmallNeedsALog(t *testing.T) {
	dir := t.TempDir()
	if err := blobstore.Init(nil, dir); err != nil {
		t.Fatal(err)
	}
	for _, o := range []blobstore.Options{{Dir: dir, Small: 1}, {Dir: dir, Log: payloads{}, Small: -1}} {
		if _, err := blobstore.Open(o); err == nil {
			t.Errorf("opened with %+v", o)
		}
	}
}
