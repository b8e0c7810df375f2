package bench

import (
	"math"
	"time"
)

// perOctave is the number of buckets between a time and its double: each is 4.4 % wide.
const perOctave = 16

// buckets covers one microsecond to more than nine hours; what is shorter or longer goes to the first or the last.
const buckets = 35*perOctave + 1

// Histogram counts times in buckets of equal width on a logarithmic scale. Bucket i holds times from
// 2^(i/16) to 2^((i+1)/16) microseconds. The zero value is empty; it is not safe for concurrent use.
type Histogram struct {
	First  int     `json:"first"`            // number of the bucket of Counts[0]
	Counts []int64 `json:"counts,omitempty"` // without empty buckets at either end
}

// BucketStart returns the lower bound of bucket i, in milliseconds.
func BucketStart(i int) float64 { return math.Exp2(float64(i)/perOctave) / 1000 }

// Add counts one time.
func (h *Histogram) Add(d time.Duration) {
	i := 0
	if us := float64(d) / float64(time.Microsecond); us > 1 {
		i = min(int(math.Log2(us)*perOctave), buckets-1)
	}
	h.grow(i, i)
	h.Counts[i-h.First]++
}

// Merge adds the counts of another histogram.
func (h *Histogram) Merge(other Histogram) {
	if len(other.Counts) == 0 {
		return
	}
	h.grow(other.First, other.First+len(other.Counts)-1)
	for i, n := range other.Counts {
		h.Counts[other.First+i-h.First] += n
	}
}

// grow makes space for the buckets from first to last.
func (h *Histogram) grow(first, last int) {
	if len(h.Counts) == 0 {
		h.First, h.Counts = first, make([]int64, last-first+1)
		return
	}
	if n := h.First - first; n > 0 {
		h.First, h.Counts = first, append(make([]int64, n, n+len(h.Counts)), h.Counts...)
	}
	if n := last + 1 - h.First - len(h.Counts); n > 0 {
		h.Counts = append(h.Counts, make([]int64, n)...)
	}
}

// Total returns the number of counted times.
func (h Histogram) Total() int64 {
	total := int64(0)
	for _, n := range h.Counts {
		total += n
	}
	return total
}

// Quantile returns the time that the fraction q (0 to 1) of all times did not exceed, in milliseconds: the middle of its bucket. An
// empty histogram returns 0.
func (h Histogram) Quantile(q float64) float64 {
	rank := int64(math.Ceil(q * float64(h.Total())))
	for i, n := range h.Counts {
		if rank -= n; n > 0 && rank <= 0 {
			return math.Sqrt(BucketStart(h.First+i) * BucketStart(h.First+i+1))
		}
	}
	return 0
}
