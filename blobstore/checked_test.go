package blobstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

const (
	block  = blobstore.BlockSize
	window = blobstore.WindowSize
)

// checkedSizes are of payloads with no, one, some and many blocks, the last of them whole and not.
var checkedSizes = []int{0, 1, block - 1, block, block + 1, window, window + 1, 3*window + block + 17}

// flip changes a bit of a file.
func flip(t *testing.T, path string, off int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, off); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1 << (off % 8)
	if _, err := file.WriteAt(b, off); err != nil {
		t.Fatal(err)
	}
}

// readers are the ways to read n bytes of a blob from off. Each returns what it got before an error.
var readers = map[string]func(b *blobstore.Blob, off, n int64) ([]byte, error){
	"ReadAt": func(b *blobstore.Blob, off, n int64) ([]byte, error) {
		p := make([]byte, n)
		got, err := b.ReadAt(p, off)
		if int64(got) == n {
			err = nil
		}
		return p[:got], err
	},
	"small ReadAt": func(b *blobstore.Blob, off, n int64) ([]byte, error) {
		var all []byte
		for int64(len(all)) < n {
			p := make([]byte, min(10_000, n-int64(len(all))))
			got, err := b.ReadAt(p, off+int64(len(all)))
			all = append(all, p[:got]...)
			if got < len(p) {
				return all, err
			}
		}
		return all, nil
	},
	"Read": func(b *blobstore.Blob, off, n int64) ([]byte, error) {
		section, err := b.Section(off, n)
		if err != nil {
			return nil, err
		}
		return io.ReadAll(struct{ io.Reader }{section})
	},
	"WriteTo": func(b *blobstore.Blob, off, n int64) ([]byte, error) {
		section, err := b.Section(off, n)
		if err != nil {
			return nil, err
		}
		var all bytes.Buffer
		_, err = io.Copy(&all, section)
		return all.Bytes(), err
	},
}

// ranges are of a payload of that many bytes.
func ranges(size int64) (list [][2]int64) {
	for _, at := range []int64{0, 1, block - 1, block, block + 1, window - 1, window, window + 5, size - block, size - 1, size} {
		for _, n := range []int64{0, 1, 100, block, block + 1, window, window + block, size} {
			if at >= 0 && at <= size && n <= size-at {
				list = append(list, [2]int64{at, n})
			}
		}
	}
	return list
}

// TestCheckedReads: every range of a sound blob, by every way to read.
func TestCheckedReads(t *testing.T) {
	s, _ := newStore(t)
	for _, size := range checkedSizes {
		content := random(uint64(size), size)
		ref := mustPut(t, s, string(content), "")
		b, err := s.Open(ref, infoOf(content))
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range ranges(int64(size)) {
			for way, read := range readers {
				if got, err := read(b, r[0], r[1]); err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
					t.Fatalf("size %d, %s of %d from %d: got %d bytes, %v", size, way, r[1], r[0], len(got), err)
				}
			}
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestWrongByte flips a bit at each end of each block: whatever is read by whichever way, no byte of the bad block comes, those
// before it may, and ranges that do not touch it come whole.
func TestWrongByte(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	for _, size := range checkedSizes[1:] {
		content := random(uint64(size), size)
		ref := mustPut(t, s, string(content), "")
		last := int64(size-1) / block * block
		for _, at := range []int64{0, min(block, int64(size)) - 1, last, int64(size) - 1} {
			flip(t, blobPath(dir, ref), at)
			first := at / block * block
			for _, r := range ranges(int64(size)) {
				for way, read := range readers {
					b, err := s.Open(ref, infoOf(content))
					if err != nil {
						t.Fatal(err)
					}
					got, err := read(b, r[0], r[1])
					touched := r[1] > 0 && r[0] < first+block && r[0]+r[1] > first
					if errors.Is(err, blobstore.ErrCorrupt) != touched || !touched && err != nil {
						t.Errorf("size %d, bit of %d, %s of %d from %d: got %v", size, at, way, r[1], r[0], err)
					}
					if !bytes.HasPrefix(content[r[0]:r[0]+r[1]], got) || touched && int64(len(got)) > max(0, first-r[0]) {
						t.Errorf("size %d, bit of %d, %s of %d from %d: got %d bytes with wrong ones", size, at, way, r[1], r[0], len(got))
					}
					if err := b.Close(); err != nil {
						t.Error(err)
					}
				}
			}
			if _, err := s.Verify(context.Background(), ref, blobstore.Check{Want: infoOf(content)}); !errors.Is(err, blobstore.ErrCorrupt) {
				t.Errorf("size %d, bit of %d: verify: got %v, want ErrCorrupt", size, at, err)
			}
			flip(t, blobPath(dir, ref), at)
		}
		wantContent(t, s, ref, content)
	}
}

// TestWrongByteMeanwhile: a bit that flips while a blob is being sent ends the stream before the block that it is in.
func TestWrongByteMeanwhile(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	content := random(1, 4*window)
	ref := mustPut(t, s, string(content), "")
	b, err := s.Open(ref, infoOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	section, err := b.Section(0, b.Size())
	if err != nil {
		t.Fatal(err)
	}
	head := make([]byte, 1000)
	if _, err := io.ReadFull(section, head); err != nil {
		t.Fatal(err)
	}
	flip(t, blobPath(dir, ref), 2*window+3)
	rest, err := io.ReadAll(section)
	if !errors.Is(err, blobstore.ErrCorrupt) || !bytes.Equal(append(head, rest...), content[:2*window]) {
		t.Errorf("got %d bytes, %v; want %d, ErrCorrupt", len(head)+len(rest), err, 2*window)
	}
}

// TestUncheckedUntilScrubbed: of a file of format 1 without checksums, a whole read never gives all of it when a byte is wrong; after a
// scrub ranges are checked too.
func TestUncheckedUntilScrubbed(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	for _, size := range checkedSizes[1:] {
		content := random(uint64(size), size)
		ref := blobstore.TrailedRefOf(fmt.Sprintf("%030x00", size))
		if err := os.WriteFile(blobPath(dir, ref), blobstore.AppendTrailer(bytes.Clone(content), []byte("label"), infoOf(content)), 0o600); err != nil {
			t.Fatal(err)
		}
		wantContent(t, s, ref, content)
		for _, at := range []int64{0, int64(size) - 1} {
			flip(t, blobPath(dir, ref), at)
			for _, way := range []string{"Read", "WriteTo"} {
				b, err := s.Open(ref, infoOf(content))
				if err != nil {
					t.Fatal(err)
				}
				got, err := readers[way](b, 0, int64(size))
				if !errors.Is(err, blobstore.ErrCorrupt) || len(got) > max(0, size-1)/window*window {
					t.Errorf("size %d, bit of %d, %s: got %d bytes, %v; want ErrCorrupt before the last window", size, at, way, len(got), err)
				}
				if err := b.Close(); err != nil {
					t.Error(err)
				}
			}
			flip(t, blobPath(dir, ref), at)
		}
		label := func() ([]byte, error) { return []byte("a newer label"), nil }
		if found, err := s.Verify(context.Background(), ref, blobstore.Check{Want: infoOf(content), Label: label}); err != nil || !found.Made {
			t.Fatalf("scrub: got %v, %v", found.Made, err)
		}
		if label, _, err := s.Label(ref); err != nil || string(label) != "a newer label" {
			t.Errorf("label: got %q, %v", label, err)
		}
		flip(t, blobPath(dir, ref), int64(size)-1)
		b, err := s.Open(ref, infoOf(content))
		if err != nil {
			t.Fatal(err)
		}
		if n, err := b.ReadAt(make([]byte, 1), int64(size)-1); n > 0 || !errors.Is(err, blobstore.ErrCorrupt) {
			t.Errorf("size %d: after the scrub: got %d bytes, %v; want ErrCorrupt", size, n, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestDamageBesideThePayload flips a bit of every byte of what belongs to a blob and is not its payload: the blob is read as
// before, and the checksums are made anew, by a scrub and by a read that needs them.
func TestDamageBesideThePayload(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	content := random(7, block+100)
	label := func() ([]byte, error) { return []byte("label"), nil }
	trailed := blobstore.TrailedRefOf(goldenName)
	if err := os.WriteFile(blobPath(dir, trailed), blobstore.AppendTrailer(bytes.Clone(content), []byte("label"), infoOf(content)), 0o600); err != nil {
		t.Fatal(err)
	}
	scrub := blobstore.Check{Want: infoOf(content), Label: label}
	whole := func(name string, ref blobstore.Ref) {
		t.Helper()
		b, err := s.Open(ref, infoOf(content))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		defer b.Close()
		b.OnDoubt(func() ([]byte, error) {
			found, err := s.Verify(context.Background(), ref, scrub)
			return found.Sums, err
		})
		for _, r := range [][2]int64{{0, 10}, {block, 10}, {0, b.Size()}} {
			if got, err := readers["WriteTo"](b, r[0], r[1]); err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
				t.Errorf("%s: %d from %d: got %d bytes, %v", name, r[1], r[0], len(got), err)
			}
		}
	}
	for off := int64(len(content)); off < int64(len(content)+len("label")+blobstore.FixedSize); off++ {
		flip(t, blobPath(dir, trailed), off)
		whole(fmt.Sprintf("trailer, bit of %d", off), trailed)
		if _, err := s.Verify(context.Background(), trailed, blobstore.Check{Want: infoOf(content)}); err != nil {
			t.Errorf("trailer, bit of %d: verify: %v", off, err)
		}
		flip(t, blobPath(dir, trailed), off)
	}
	if _, err := s.Verify(context.Background(), trailed, scrub); err != nil {
		t.Fatal(err)
	}
	for name, ref := range map[string]blobstore.Ref{"format 1": trailed, "format 2": mustPut(t, s, string(content), "label")} {
		good, err := os.ReadFile(sumsPath(dir, ref))
		if err != nil {
			t.Fatal(err)
		}
		for off := range good {
			for _, byScrub := range []bool{false, true} {
				name := fmt.Sprintf("%s, bit of %d of the checksums, scrub %v", name, off, byScrub)
				flip(t, sumsPath(dir, ref), int64(off))
				if byScrub {
					if found, err := s.Verify(context.Background(), ref, scrub); err != nil || !found.Made {
						t.Errorf("%s: verify: got %v, %v", name, found.Made, err)
					}
				}
				whole(name, ref)
				if made, err := os.ReadFile(sumsPath(dir, ref)); err != nil || !bytes.Equal(made, good) {
					t.Fatalf("%s: the checksums were not made anew: %q, %v", name, made, err)
				}
			}
		}
		if err := os.Remove(sumsPath(dir, ref)); err != nil {
			t.Fatal(err)
		}
		whole(name+", without checksums", ref)
	}
}

// TestForeignSums: checksums of another blob, whole and of one group, do not speak for or against a blob.
func TestForeignSums(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	content, other := random(1, 2*block), random(2, 2*block)
	ref := mustPut(t, s, string(content), "")
	sums, err := os.ReadFile(sumsPath(dir, mustPut(t, s, string(other), "")))
	if err != nil {
		t.Fatal(err)
	}
	own, err := os.ReadFile(sumsPath(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	group := len(own) - 3*4
	for name, bad := range map[string][]byte{"whole": sums, "group": append(bytes.Clone(own[:group]), sums[group:]...)} {
		if err := os.WriteFile(sumsPath(dir, ref), bad, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := s.Open(ref, infoOf(content))
		if err != nil {
			t.Fatal(err)
		}
		asked := 0
		b.OnDoubt(func() ([]byte, error) {
			asked++
			found, err := s.Verify(context.Background(), ref, blobstore.Check{Want: infoOf(content)})
			return found.Sums, err
		})
		if got, err := readers["ReadAt"](b, 5, block); err != nil || !bytes.Equal(got, content[5:5+block]) || asked != 1 {
			t.Errorf("%s: got %d bytes, %v, asked %d times; want all, once", name, len(got), err, asked)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestSizeContradicts: a size that the caller has recorded and the blob has not is damage, before a byte is read.
func TestSizeContradicts(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	content := random(1, 50)
	trailed := blobstore.TrailedRefOf(goldenName)
	if err := os.WriteFile(blobPath(dir, trailed), blobstore.AppendTrailer(bytes.Clone(content), []byte("label"), infoOf(content)), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, ref := range map[string]blobstore.Ref{"format 1": trailed, "format 2": mustPut(t, s, string(content), "label")} {
		for range 2 { // the second time with checksums beside the file of format 1
			for _, size := range []int64{0, 18, 49, 51, 115} {
				if _, err := s.Open(ref, blobstore.Info{Size: size, BLAKE3: infoOf(content).BLAKE3}); !errors.Is(err, blobstore.ErrCorrupt) {
					t.Errorf("%s, size %d: got %v, want ErrCorrupt", name, size, err)
				}
				want := blobstore.Check{Want: blobstore.Info{Size: size, BLAKE3: infoOf(content).BLAKE3}}
				if _, err := s.Verify(context.Background(), ref, want); !errors.Is(err, blobstore.ErrCorrupt) {
					t.Errorf("%s, size %d: verify: got %v, want ErrCorrupt", name, size, err)
				}
			}
			label := func() ([]byte, error) { return nil, nil }
			if _, err := s.Verify(context.Background(), ref, blobstore.Check{Want: infoOf(content), Label: label}); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestForeignFile: a file that is a blob as it is, of which only the size is known, is read as it lies until a scrub has made checksums.
func TestForeignFile(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	content := random(1, window+10)
	ref := blobstore.RefOf(goldenName)
	if err := os.WriteFile(blobPath(dir, ref), content, 0o400); err != nil {
		t.Fatal(err)
	}
	want := sized(int64(len(content)))
	if _, err := s.Open(ref, sized(5)); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("another size: got %v, want ErrCorrupt", err)
	}
	read := func(off, n int64) ([]byte, error) {
		b, err := s.Open(ref, want)
		if err != nil {
			return nil, err
		}
		defer b.Close()
		return readers["WriteTo"](b, off, n)
	}
	for _, r := range [][2]int64{{0, want.Size}, {3, block}} {
		if got, err := read(r[0], r[1]); err != nil || !bytes.Equal(got, content[r[0]:r[0]+r[1]]) {
			t.Errorf("%d from %d: got %d bytes, %v", r[1], r[0], len(got), err)
		}
	}
	found, err := s.Verify(context.Background(), ref, blobstore.Check{Want: want, Label: func() ([]byte, error) { return []byte("label"), nil }})
	if err != nil || found.Info != infoOf(content) || !found.Made {
		t.Fatalf("scrub: got %v, %v", found, err)
	}
	if label, info, err := s.Label(ref); err != nil || string(label) != "label" || info != infoOf(content) {
		t.Errorf("label: got %q, %v, %v", label, info, err)
	}
	if err := os.Chmod(blobPath(dir, ref), 0o600); err != nil {
		t.Fatal(err)
	}
	flip(t, blobPath(dir, ref), 5)
	if got, err := read(3, block); len(got) > 0 || !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("wrong byte: got %d bytes, %v; want ErrCorrupt", len(got), err)
	}
	if _, err := s.Verify(context.Background(), ref, blobstore.Check{Want: want}); !errors.Is(err, blobstore.ErrCorrupt) {
		t.Errorf("wrong byte: verify: got %v, want ErrCorrupt by the first scrub's BLAKE3", err)
	}
}

// TestNewerFormats are refused as such, by everything that reads, and nothing is written.
func TestNewerFormats(t *testing.T) {
	s, dir := newStore(t)
	content := []byte("content")
	ref, trailed := mustPut(t, s, string(content), "label"), blobstore.TrailedRefOf(goldenName)
	sums, err := os.ReadFile(sumsPath(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	newerSums := func(off int, value byte) []byte {
		b := bytes.Clone(sums)
		b[off] = value
		header := int(binary.LittleEndian.Uint32(b[12:])) - 4
		binary.LittleEndian.PutUint32(b[header:], crc(b[:header]))
		return b
	}
	trailer := blobstore.AppendTrailer(bytes.Clone(content), nil, infoOf(content))
	trailer[len(trailer)-16] = 2
	binary.LittleEndian.PutUint32(trailer[len(trailer)-12:], crc(trailer[len(content):len(trailer)-12]))
	tests := map[string]struct {
		ref        blobstore.Ref
		path       string
		was, bytes []byte
	}{
		"format of the checksums": {ref, sumsPath(dir, ref), sums, newerSums(8, 2)},
		"flags of the checksums":  {ref, sumsPath(dir, ref), sums, newerSums(10, 2)},
		"format of the trailer":   {trailed, blobPath(dir, trailed), nil, trailer},
	}
	for name, test := range tests {
		if err := os.WriteFile(test.path, test.bytes, 0o600); err != nil {
			t.Fatal(err)
		}
		_, openErr := s.Open(test.ref, infoOf(content))
		_, _, labelErr := s.Label(test.ref)
		check := blobstore.Check{Want: infoOf(content), Label: func() ([]byte, error) { return nil, nil }}
		_, verifyErr := s.Verify(context.Background(), test.ref, check)
		var walkErr error
		err := s.Walk(context.Background(), func(found blobstore.Ref, _ []byte, _ blobstore.Info, err error) error {
			if found[1:] == test.ref[1:] {
				walkErr = err
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		for call, err := range map[string]error{"open": openErr, "label": labelErr, "verify": verifyErr, "walk": walkErr} {
			if !errors.Is(err, blobstore.ErrNewer) || errors.Is(err, blobstore.ErrCorrupt) {
				t.Errorf("%s: %s: got %v, want ErrNewer", name, call, err)
			}
		}
		if left, err := os.ReadFile(test.path); err != nil || !bytes.Equal(left, test.bytes) {
			t.Errorf("%s: the file was changed: %v", name, err)
		}
		if test.was == nil {
			err = os.Remove(test.path)
		} else {
			err = os.WriteFile(test.path, test.was, 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// TestReadError: that the disk gives no bytes says nothing of them.
func TestReadError(t *testing.T) {
	dir := newDir(t)
	f := vfstest.NewFailing(vfs.OS())
	s := open(t, dir, f)
	content := random(1, 3*window)
	ref := mustPut(t, s, string(content), "")
	f.FailRead(blobPath(dir, ref), window+5, 1, syscall.EIO)
	for way, read := range readers {
		b, err := s.Open(ref, infoOf(content))
		if err != nil {
			t.Fatal(err)
		}
		b.OnDoubt(func() ([]byte, error) {
			t.Errorf("%s: a read error raises doubts of the bytes", way)
			return nil, nil
		})
		got, err := read(b, 0, b.Size())
		if !errors.Is(err, syscall.EIO) || errors.Is(err, blobstore.ErrCorrupt) || !bytes.HasPrefix(content[:window+5], got) {
			t.Errorf("%s: got %d bytes, %v; want EIO alone", way, len(got), err)
		}
		if strings.Contains(fmt.Sprint(err), dir) {
			t.Errorf("%s: %q names a path", way, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}
	f.Reset()
	f.FailRead(sumsPath(dir, ref), 0, 1, syscall.EIO)
	if found, err := s.Verify(context.Background(), ref, blobstore.Check{
		Want: infoOf(content), Label: func() ([]byte, error) { return nil, nil },
	}); err != nil || !found.Made {
		t.Errorf("checksums that cannot be read: got %v, %v; want them made anew", found.Made, err)
	}
}

// TestReplaceSumsInterrupted stops a scrub that makes checksums at every call, and takes the power: the blob is sound, and a sweep leaves
// no more than belongs to it.
func TestReplaceSumsInterrupted(t *testing.T) {
	dir := newDir(t)
	content := random(1, 100)
	ref := mustPut(t, open(t, dir, nil), string(content), "label")
	mustSettle(t, open(t, dir, nil), ref)
	check := blobstore.Check{Want: infoOf(content), Label: func() ([]byte, error) { return []byte("label"), nil }}
	for n := 1; ; n++ {
		for _, when := range []vfstest.When{vfstest.Before, vfstest.After} {
			if err := os.Remove(sumsPath(dir, ref)); err != nil {
				t.Fatal(err)
			}
			l := vfstest.NewLossy(t, dir)
			f := vfstest.NewFailing(l)
			f.StopAt(n, when, syscall.EIO)
			found, err := open(t, dir, f).Verify(context.Background(), ref, check)
			if err := l.Crash(nil); err != nil {
				t.Fatal(err)
			}
			if !f.Hit() {
				if err != nil || !found.Made || n < 4 {
					t.Errorf("call %d: got %v, %v", n, found.Made, err)
				}
				return
			}
			if len(found.Sums) == 0 || err == nil {
				t.Errorf("call %d, %v: got %d bytes of checksums, %v; want them, and an error", n, when, len(found.Sums), err)
			}
			s := open(t, dir, nil)
			if _, err := s.Sweep(context.Background(), in(ref)); err != nil {
				t.Error(err)
			}
			if _, err := s.Verify(context.Background(), ref, check); err != nil {
				t.Errorf("call %d, %v: verify: %v", n, when, err)
			}
			wantContent(t, s, ref, content)
			wantFiles(t, dir, []blobstore.Ref{ref}, nil)
		}
	}
}

// TestSumsOfARemovedBlob: checksums that are made while a blob is removed do not stay behind.
func TestSumsOfARemovedBlob(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	content := random(1, 100)
	ref := mustPut(t, s, string(content), "")
	if err := os.Remove(sumsPath(dir, ref)); err != nil {
		t.Fatal(err)
	}
	_, err := s.Verify(context.Background(), ref, blobstore.Check{Want: infoOf(content), Label: func() ([]byte, error) {
		return nil, s.Remove(ref)
	}})
	if err != nil {
		t.Error(err)
	}
	wantFiles(t, dir, nil, nil)
}

// TestWalkInterrupted: an upload that was interrupted behind the names in the shard, whose bytes are not all there, is no blob
// for a rebuild.
func TestWalkInterrupted(t *testing.T) {
	dir := newDir(t)
	s := open(t, dir, nil)
	sound, torn := mustPut(t, s, "sound", "sound"), mustPut(t, s, "torn content", "torn")
	if err := os.WriteFile(blobPath(dir, torn), make([]byte, len("torn content")), 0o600); err != nil {
		t.Fatal(err)
	}
	seen := make(map[blobstore.Ref]error)
	err := s.Walk(context.Background(), func(ref blobstore.Ref, _ []byte, _ blobstore.Info, err error) error {
		seen[ref] = err
		return nil
	})
	if err != nil || seen[sound] != nil || !errors.Is(seen[torn], blobstore.ErrCorrupt) {
		t.Errorf("got %v, %v; want the torn one alone to be ErrCorrupt", seen, err)
	}
}

// TestManyGroups: the checksums of a large blob come from several groups, and are not all in memory.
func TestManyGroups(t *testing.T) {
	s, _ := newStore(t)
	content := bytes.Repeat(random(1, 1<<20), 70)
	ref := mustPut(t, s, string(content), strings.Repeat("l", blobstore.MaxLabel))
	b, err := s.Open(ref, infoOf(content))
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	for _, off := range []int64{69 << 20, 3, 64<<20 - 1, 64 << 20, 64<<20 - 50, int64(len(content)) - 100} {
		if got, err := readers["ReadAt"](b, off, 100); err != nil || !bytes.Equal(got, content[off:off+100]) {
			t.Errorf("at %d: got %d bytes, %v", off, len(got), err)
		}
	}
}

// TestSumsLayout spells out the file of checksums as doc.go does.
func TestSumsLayout(t *testing.T) {
	payload := random(1, 2*block+5)
	info := infoOf(payload)
	for _, trailed := range []bool{false, true} {
		got := blobstore.AppendSums(nil, info, trailed, []byte("abc"), payload)
		want := []byte("PHSUMS\r\n\x01\x00\x00\x00\x43\x00\x00\x00\x05\x00\x02\x00\x00\x00\x00\x00")
		if trailed {
			want[10] = 1
		}
		want = append(want, info.BLAKE3[:]...)
		want = append(want, "\x00\x00\x01\x00abc"...)
		want = binary.LittleEndian.AppendUint32(want, crc(want))
		sums := make([]byte, 0, 12)
		for part := range slices.Chunk(payload, block) {
			sums = binary.LittleEndian.AppendUint32(sums, crc(part))
		}
		want = append(want, sums...)
		want = binary.LittleEndian.AppendUint32(want, crc(slices.Concat(info.BLAKE3[:], []byte{0, 0, 0, 0}, sums)))
		if !bytes.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// FuzzParseSums: what parses is what is written.
func FuzzParseSums(f *testing.F) {
	for _, size := range []int{0, 1, block, block + 1} {
		payload := random(1, size)
		f.Add(blobstore.AppendSums(nil, infoOf(payload), size == 1, []byte("label"), payload))
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		info, trailed, label, sums, err := blobstore.ParseSums(file)
		if err != nil {
			if !errors.Is(err, blobstore.ErrSums) && !errors.Is(err, blobstore.ErrNewer) {
				t.Errorf("got %v", err)
			}
			return
		}
		again := blobstore.AppendSums(nil, info, trailed, label, nil)
		if !bytes.HasPrefix(file, again) || len(sums) > len(file) {
			t.Errorf("parsed %q, whose header encodes to %q", file, again)
		}
	})
}
