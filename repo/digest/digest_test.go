package digest_test

import (
	"errors"
	"fmt"
	"testing"

	"packhouse/repo/digest"
)

// Vectors of borgstore-rest 11 and vger-rest 15.
func TestVectors(t *testing.T) {
	for _, test := range []struct{ name, input, want string }{
		{"md5", "abc", "900150983cd24fb0d6963f7d28e17f72"},
		{"sha1", "abc", "a9993e364706816aba3e25717850c26c9cd0d89d"},
		{"md5-sha1", "abc", "900150983cd24fb0d6963f7d28e17f72a9993e364706816aba3e25717850c26c9cd0d89d"},
		{"sha256", "abc", "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
		{"sha512_256", "abc", "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23"},
		{"sha3_256", "abc", "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"},
		{"blake2s", "abc", "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"},
		{"ripemd160", "abc", "8eb208f7e05d987a9b044a8e98c6b087f15a0bfc"},
		{"sm3", "abc", "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"},
		{"blake3", "hash me", "e02b7e4520e277d4ef287f09c74fec4dd1df095b8b41a4d61dd4ed1589c4a281"},
		{"blake3", "", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"},
		{"blake2b-256", "", "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"},
		{"blake2b-256", "VGERPACK\x01", "b620a729ff30b444d367dda07e7799d9f387225d74b2c9b6a2e2675bdcd7c6ff"},
	} {
		a, err := digest.Lookup(test.name)
		if err != nil {
			t.Error(err)
			continue
		}
		h := a.New()
		h.Write([]byte(test.input))
		if got := fmt.Sprintf("%x", h.Sum(nil)); got != test.want {
			t.Errorf("%s of %q: got %s, want %s", test.name, test.input, got, test.want)
		}
	}
}

// TestLengths: the hex lengths of borgstore-rest 3.8.
func TestLengths(t *testing.T) {
	want := map[string]int{
		"md5": 32, "sha1": 40, "md5-sha1": 72, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128, "sha512_224": 56,
		"sha512_256": 64, "sha3_224": 56, "sha3_256": 64, "sha3_384": 96, "sha3_512": 128, "blake2b": 128, "blake2s": 64,
		"ripemd160": 40, "sm3": 64, "blake3": 64, "blake2b-256": 64,
	}
	for _, name := range digest.Names() {
		a, err := digest.Lookup(name)
		if err != nil {
			t.Fatal(err)
		}
		h := a.New()
		h.Write([]byte("x"))
		first := h.Sum(nil)
		h.Reset()
		h.Write([]byte("x"))
		if n := want[name]; 2*a.Size != n || 2*len(first) != n || string(h.Sum(nil)) != string(first) {
			t.Errorf("%s: size %d, sum %x then %x; want %d hex digits", name, a.Size, first, h.Sum(nil), n)
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("not offered: %v", want)
	}
}

func TestUnknown(t *testing.T) {
	for _, name := range []string{"", "bogus", "shake_128", "SHA256", "BLAKE3"} {
		if _, err := digest.Lookup(name); !errors.Is(err, digest.ErrUnsupported) {
			t.Errorf("Lookup(%q): got %v, want ErrUnsupported", name, err)
		}
	}
}
