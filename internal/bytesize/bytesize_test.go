package bytesize_test

import (
	"math"
	"testing"

	"packhouse/internal/bytesize"
)

func TestText(t *testing.T) {
	for _, test := range []struct {
		n    int64
		want string
	}{
		{0, "0 B"}, {1, "1 B"}, {1000, "1000 B"}, {1023, "1023 B"}, {1024, "1 KiB"}, {1536, "1.5 KiB"}, {1000 << 10, "1000 KiB"}, {8 << 10, "8 KiB"}, {10 << 20, "10 MiB"},
		{10<<20 + 52429, "10.1 MiB"}, {25_232_932_864, "23.5 GiB"}, {3 << 40, "3 TiB"}, {5 << 50, "5 PiB"}, {math.MaxInt64, "8 EiB"}, {-1536, "-1.5 KiB"}, {math.MinInt64, "-8 EiB"},
	} {
		if got := bytesize.Text(test.n); got != test.want {
			t.Errorf("Text(%d): got %q, want %q", test.n, got, test.want)
		}
	}
}

func TestParse(t *testing.T) {
	for _, test := range []struct {
		text string
		want int64 // -1: an error
	}{
		{"0", 0}, {"1", 1}, {"500M", 500 << 20}, {"10G", 10 << 30}, {"10g", 10 << 30}, {"1.5K", 1536}, {"2 GiB", 2 << 30},
		{"1KB", 1024}, {"3T", 3 << 40}, {"1P", 1 << 50}, {"7B", 7},
		{"", -1}, {"G", -1}, {"1.5", -1}, {"1.G", -1}, {".5G", -1}, {"-1", -1}, {"+1", -1}, {"1e3", -1}, {"10X", -1}, {"1 2", -1},
		{"0x10", -1}, {"9999999999T", -1}, {"99999999999999999999", -1}, {"5i", -1}, {"5i ", -1}, {"5iB", -1},
	} {
		got, err := bytesize.Parse(test.text)
		if err != nil {
			got = -1
		}
		if got != test.want {
			t.Errorf("Parse(%q): got %d (%v), want %d", test.text, got, err, test.want)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{"500M", "1.5G", "9223372036854775807", "8191P", "1KiB"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if n, err := bytesize.Parse(text); err == nil && n < 0 {
			t.Errorf("Parse(%q): got %d without error", text, n)
		}
	})
}
