// Package bytesize writes numbers of bytes for people, and reads what they write. Units are binary: a KiB has 1024 bytes.
package bytesize

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// Text writes a number of bytes, of at least 1 KiB with one decimal if it is not 0: "512 B", "1.5 MiB", "10 GiB".
func Text(n int64) string {
	sign := ""
	if n < 0 {
		sign = "-"
	}
	text := sign + units.CustomSize("%.1f %s", math.Abs(float64(n)), 1024, []string{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"})
	return strings.Replace(text, ".0 ", " ", 1)
}

// Parse reads a number of bytes: digits, with a fraction and one of the suffixes K, M, G, T or P if wanted, which may be in small letters
// and end with B or iB: 1K, 1KB and 1KiB are 1024. "500M", "1.5G", "1048576".
//
// The parser of go-units takes more than what can be meant (1.5 bytes, 1e3, 0x1p3K), and too large a number becomes a negative one.
func Parse(text string) (int64, error) {
	bad := fmt.Errorf("%q is not a size; write bytes or a number with K, M, G or T, such as 500M or 10G", text)
	number, binary := strings.CutSuffix(strings.TrimSuffix(strings.ToUpper(strings.TrimSpace(text)), "B"), "I")
	shift := 0
	if number != "" {
		if i := strings.IndexByte("KMGTP", number[len(number)-1]); i >= 0 {
			shift, number = 10*(i+1), strings.TrimSpace(number[:len(number)-1])
		} else if binary {
			return 0, bad
		}
	}
	whole, fraction, dotted := strings.Cut(number, ".")
	if whole == "" || dotted && (fraction == "" || shift == 0) || strings.Trim(whole+fraction, "0123456789") != "" {
		return 0, bad
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is too large a size", text)
	}
	n <<= shift
	if dotted {
		part, err := strconv.ParseFloat("0."+fraction, 64)
		if err != nil {
			return 0, bad
		}
		if extra := int64(part * float64(int64(1)<<shift)); n <= math.MaxInt64-extra {
			n += extra
		}
	}
	return n, nil
}
