package bench

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The modes of a run.
const (
	Quick   = "quick"   // a look, under two minutes on two cores
	Default = "default" // under fifteen minutes
	Long    = "long"    // hours: ten million items, an hour of mixed load, all workloads on all peers
)

// Suite returns the workloads of a mode; those that share a store follow each other. scale is a factor for the number of items and
// requests and for times; it is 1 except in tests.
func Suite(mode string, scale float64) []Workload {
	s := scaled(scale)
	switch mode {
	case Quick:
		return s.quick()
	case Long:
		return s.all(sizes{put: 3 * time.Second, get: 2 * time.Second, ranges: []int{1, 8, 64}, mixed: time.Hour / 3, compact: 1 << 30,
			items: []int{10_000, 100_000, 1_000_000, 10_000_000}, huge: s >= 1, peers: true})
	default:
		return s.all(sizes{put: 500 * time.Millisecond, get: 250 * time.Millisecond, ranges: []int{8}, mixed: 25 * time.Second, compact: 192 << 20,
			items: []int{10_000, 100_000, 1_000_000}})
	}
}

// scaled is a Suite with a factor.
type scaled float64

func (s scaled) n(n int) int { return max(1, int(float64(n)*float64(s))) }

func (s scaled) time(d time.Duration) time.Duration {
	return max(time.Millisecond, time.Duration(float64(d)*float64(s)))
}

func (s scaled) bytes(n int64) int64 { return max(1<<20, int64(float64(n)*float64(s))) }

// read is how many items gets read in turn: so many that their bytes do not stay in a cache of the processor.
func (s scaled) read(size int64) int {
	n := int(min(1000, max(4, 128<<20/size)))
	return min(n, s.n(n))
}

// sizes are what differs between the modes.
type sizes struct {
	put, get time.Duration // of a sample
	ranges   []int         // connections of gets by range
	mixed    time.Duration
	compact  int64
	items    []int // of stores with many
	huge     bool  // items of 512 MiB
	peers    bool  // also do what takes them long
}

// connectionsOf are the numbers of connections for items of a size: large ones fill the disk or the network with few.
func connectionsOf(size int64) []int {
	switch {
	case size >= 256<<20:
		return []int{1}
	case size >= 16<<20:
		return []int{1, 4}
	default:
		return []int{1, 8, 64}
	}
}

func (s scaled) all(z sizes) []Workload {
	var all []Workload
	bodies := []int64{200, 8 << 10, 128 << 10, 1 << 20, 32 << 20}
	if z.huge {
		bodies = append(bodies, 512<<20)
	}
	for _, size := range bodies {
		all = append(all, s.single(size, z)...)
	}
	all = append(all, Compactions{Bytes: s.bytes(z.compact), PackBytes: min(16<<20, s.bytes(z.compact)), OwnOnly: false},
		Mixed{Size: 8 << 10, Items: s.n(2000), Large: s.n(16), LargeSize: s.bytes(32 << 20), Connections: 8, Time: s.time(z.mixed), OwnOnly: !z.peers})
	for i, items := range z.items {
		own := !z.peers && items > 100_000
		n := s.n(items)
		all = append(all, Lists{Items: n, OwnOnly: own})
		if i == 1 && !z.peers {
			continue // a point in the middle says no more of the growth
		}
		all = append(all, s.growth(n, z)...)
	}
	return all
}

// single is what is done with items of one size.
func (s scaled) single(size int64, z sizes) []Workload {
	var all []Workload
	put, get := s.time(z.put), s.time(z.get)
	for _, n := range connectionsOf(size) {
		all = append(all, Puts{Size: size, Connections: n, Time: put})
	}
	for _, n := range connectionsOf(size) {
		all = append(all, Gets{Size: size, N: s.read(size), Connections: n, Time: get})
	}
	ranges := z.ranges
	if size >= 16<<20 {
		ranges = connectionsOf(size)[len(connectionsOf(size))-1:]
	}
	for _, n := range ranges {
		all = append(all, Gets{Size: size, N: s.read(size), Part: min(64<<10, size/4), Connections: n, Time: get})
	}
	switch size {
	case 8 << 10:
		if z.peers {
			all = append(all, Deletes{Size: size, N: s.n(1000), Connections: 1}, Deletes{Size: size, N: s.n(1000), Connections: 64})
		}
		all = append(all, Deletes{Size: size, N: s.n(1000), Connections: 8}, Deletes{Size: size, N: s.n(3000), Batch: s.n(1000), Connections: 1})
	case 32 << 20:
		all = append(all, Puts{Size: size, Connections: 1, Time: put, TLS: true}, Gets{Size: size, N: s.read(size), Connections: 1, Time: get, TLS: true})
	}
	return all
}

// growth is what may depend on the number of items.
func (s scaled) growth(items int, z sizes) []Workload {
	own := !z.peers
	all := []Workload{
		Puts{Size: 200, Connections: 8, Time: s.time(z.put), Items: items, Curve: "growth-put", OwnOnly: own},
		Gets{Size: 200, N: s.read(200), Connections: 8, Time: s.time(z.get), Items: items, Curve: "growth-get", OwnOnly: own},
	}
	if items >= s.n(1_000_000) {
		all = append(all, Opens{Items: items, N: s.read(200), OwnOnly: own}, Opens{Items: items, N: s.read(200), Kill: true, OwnOnly: own})
	}
	return all
}

func (s scaled) quick() []Workload {
	short := s.time(200 * time.Millisecond)
	return []Workload{
		Puts{Size: 8 << 10, Connections: 1, Time: short}, Puts{Size: 8 << 10, Connections: 8, Time: short}, Puts{Size: 8 << 10, Connections: 64, Time: short},
		Gets{Size: 8 << 10, N: s.read(8 << 10), Connections: 1, Time: short}, Gets{Size: 8 << 10, N: s.read(8 << 10), Connections: 64, Time: short},
		Deletes{Size: 8 << 10, N: s.n(300), Connections: 8},
		Puts{Size: 32 << 20, Connections: 1, Time: short}, Gets{Size: 32 << 20, N: s.read(32 << 20), Connections: 1, Time: short},
		Compactions{Bytes: s.bytes(48 << 20), PackBytes: s.bytes(16 << 20), OwnOnly: true},
		Mixed{Size: 8 << 10, Items: s.n(500), Large: s.n(4), LargeSize: s.bytes(32 << 20), Connections: 8, Time: s.time(4 * time.Second), OwnOnly: true},
		Lists{Items: s.n(20_000)},
	}
}

// Select returns the workloads that match one of the names: the name of a workload, the part of it before "@", or a kind. Without
// names it returns all. A name that matches none is an error.
func Select(all []Workload, only []string) ([]Workload, error) {
	if len(only) == 0 {
		return all, nil
	}
	meant := make(map[string]bool)
	var kept []Workload
	for _, w := range all {
		a := w.About()
		short, _, _ := strings.Cut(a.Name, "@")
		if slices.ContainsFunc(only, func(name string) bool {
			hit := name == a.Name || name == short || name == a.Kind || a.Curve != "" && name == a.Curve
			meant[name] = meant[name] || hit
			return hit
		}) {
			kept = append(kept, w)
		}
	}
	for _, name := range only {
		if !meant[name] {
			return nil, fmt.Errorf("there is no workload %q in this mode; there are %s", name, strings.Join(workloadNames(all), ", "))
		}
	}
	return kept, nil
}

func workloadNames(all []Workload) []string {
	var names []string
	for _, w := range all {
		names = append(names, w.About().Name)
	}
	return names
}
