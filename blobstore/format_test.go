package blobstore_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/blobstore"
)

var update = flag.Bool("update", false, "rewrite the golden files")

const (
	goldenPayload = "the payload of a golden blob\n"
	goldenLabel   = `{"key":"packs/00/0011"}`
	goldenName    = "0199f3a1b2c4000102030405060708ff"
)

// TestGolden1 reads a file of format 1, as every later version must, and makes the checksums beside it that a scrub makes.
func TestGolden1(t *testing.T) {
	want := golden(t, "format1.blob", blobstore.AppendTrailer([]byte(goldenPayload), []byte(goldenLabel), infoOf([]byte(goldenPayload))))
	s, dir := newStore(t)
	ref := blobstore.TrailedRefOf(goldenName)
	if err := os.WriteFile(blobPath(dir, ref), want, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // without checksums, and with them
		wantContent(t, s, ref, []byte(goldenPayload))
		label, info, err := s.Label(ref)
		if err != nil || string(label) != goldenLabel || info != infoOf([]byte(goldenPayload)) {
			t.Errorf("label: got %q, %v, %v", label, info, err)
		}
		found, err := s.Verify(context.Background(), ref, blobstore.Check{
			Want: infoOf([]byte(goldenPayload)), Label: func() ([]byte, error) { return []byte(goldenLabel), nil },
		})
		if err != nil || found.Info != infoOf([]byte(goldenPayload)) {
			t.Errorf("verify: got %v, %v", found, err)
		}
	}
	made, err := os.ReadFile(sumsPath(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	if want := golden(t, "format1.sums", made); !bytes.Equal(made, want) {
		t.Errorf("checksums: got %q, want %q", made, want)
	}
}

// TestGolden2 reads the files of a blob of format 2, as every later version must, and writes the same.
func TestGolden2(t *testing.T) {
	payload := bytes.Repeat([]byte(goldenPayload), 3000) // two blocks
	s, dir := newStore(t)
	ref := mustPut(t, s, string(payload), goldenLabel)
	made, err := os.ReadFile(sumsPath(dir, ref))
	if err != nil {
		t.Fatal(err)
	}
	want := golden(t, "format2.sums", made)
	if !bytes.Equal(made, want) {
		t.Errorf("checksums: got %q, want %q", made, want)
	}
	ref = blobstore.RefOf(goldenName)
	for path, content := range map[string][]byte{blobPath(dir, ref): payload, sumsPath(dir, ref): want} {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	wantContent(t, s, ref, payload)
	label, info, err := s.Label(ref)
	if err != nil || string(label) != goldenLabel || info != infoOf(payload) {
		t.Errorf("label: got %q, %v, %v", label, info, err)
	}
}

// golden reads a file of testdata; with -update it is made first.
func golden(t *testing.T, name string, made []byte) []byte {
	t.Helper()
	name = filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(name, made, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return want
}

// TestTrailerLayout spells out the trailer as doc.go does.
func TestTrailerLayout(t *testing.T) {
	info := blobstore.Info{Size: 0x0102030405, BLAKE3: [32]byte{0xaa, 31: 0xbb}}
	got := blobstore.AppendTrailer(nil, []byte("abc"), info)
	want := append([]byte("abc\x03\x00\x00\x00\x05\x04\x03\x02\x01\x00\x00\x00"), info.BLAKE3[:]...)
	want = append(want, 1, 0, 0, 0)
	want = binary.LittleEndian.AppendUint32(want, crc32.Checksum(want, crc32.MakeTable(crc32.Castagnoli)))
	want = append(want, "PHBLOB\r\n"...)
	if !bytes.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestParseTrailer(t *testing.T) {
	payload := []byte("payload")
	whole := func(label string) []byte {
		return blobstore.AppendTrailer(bytes.Clone(payload), []byte(label), infoOf(payload))
	}
	// at changes one byte of the fixed part, and puts the checksum right again.
	at := func(offset int, value byte) []byte {
		b := whole("label")
		fixed := b[len(b)-blobstore.FixedSize:]
		fixed[offset] = value
		sum := crc32.Checksum(b[len(payload):len(b)-12], crc32.MakeTable(crc32.Castagnoli))
		binary.LittleEndian.PutUint32(fixed[48:], sum)
		return b
	}
	tests := []struct {
		name string
		file []byte
		text string // in the error; empty: it parses
	}{
		{"good", whole("label"), ""},
		{"no label", whole(""), ""},
		{"longest label", whole(strings.Repeat("l", blobstore.MaxLabel)), ""},
		{"label too long", whole(strings.Repeat("l", blobstore.MaxLabel+1)), "label of 4097 bytes"},
		{"empty", nil, "0 bytes"},
		{"too short", whole("")[len(payload)+1:], "59 bytes"},
		{"cut at the end", whole("label")[:60], "magic"},
		{"cut at the front", whole("label")[1:], "payload of 6 bytes, recorded 7"},
		{"another byte at the end", append(whole("label"), 0), "magic"},
		{"label longer than the file", at(1, 1), "label of 261 bytes"},
		{"wrong label length", at(0, 4), "crc32c"},
		{"wrong size", at(4, 8), "payload of 7 bytes, recorded 8"},
		{"huge size", at(11, 0xff), "recorded 1837468647967"},
		{"format 2", at(44, 2), "newer version: trailer of format 2, known is 1"},
		{"flags", at(46, 1), "newer version: trailer with unknown flags 0x1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			tail := test.file[max(0, len(test.file)-blobstore.MaxTrailer):]
			_, info, err := blobstore.ParseTrailer(tail, int64(len(test.file)))
			if test.text == "" {
				if err != nil || info != infoOf(payload) {
					t.Errorf("got %v, %v; want %v", info, err, infoOf(payload))
				}
				return
			}
			newer := strings.HasPrefix(test.text, "newer")
			if errors.Is(err, blobstore.ErrCorrupt) == newer || errors.Is(err, blobstore.ErrNewer) != newer || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want ErrCorrupt or ErrNewer with %q", err, test.text)
			}
		})
	}
}

// FuzzParseTrailer: what parses is what was made in format 1, and nothing is copied.
func FuzzParseTrailer(f *testing.F) {
	for _, label := range []string{"", "label", strings.Repeat("l", blobstore.MaxLabel)} {
		f.Add(blobstore.AppendTrailer([]byte("payload"), []byte(label), infoOf([]byte("payload"))))
	}
	golden, err := os.ReadFile(filepath.Join("testdata", "format1.blob"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(golden)
	f.Add(golden[:len(golden)-1])
	f.Add(golden[10:])
	f.Fuzz(func(t *testing.T, file []byte) {
		tail := file[max(0, len(file)-blobstore.MaxTrailer):]
		label, info, err := blobstore.ParseTrailer(tail, int64(len(file)))
		if err != nil {
			if !errors.Is(err, blobstore.ErrCorrupt) && !errors.Is(err, blobstore.ErrNewer) || label != nil || info != (blobstore.Info{}) {
				t.Errorf("got %q, %v, %v; want ErrCorrupt alone", label, info, err)
			}
			return
		}
		trailer := blobstore.AppendTrailer(nil, label, info)
		if !bytes.Equal(file[info.Size:], trailer) {
			t.Errorf("parsed %q, which encodes to %q", file, trailer)
		}
		if len(label) > 0 && &label[0] != &file[info.Size] {
			t.Error("the label is a copy")
		}
	})
}

func crc(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }
