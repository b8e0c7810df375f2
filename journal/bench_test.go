package journal_test

import (
	"context"
	"fmt"
	"testing"

	"packhouse/blobstore/vfs"
	"packhouse/journal"
)

// BenchmarkAppend is one durable group of one record: a payload and a body that names it. sync=off leaves the disk's part
// away.
func BenchmarkAppend(b *testing.B) {
	for _, sync := range []bool{false, true} {
		for _, size := range []int{200, 8 << 10, 128 << 10} {
			name := map[bool]string{false: "off", true: "on"}[sync]
			b.Run(fmt.Sprintf("sync=%s/size=%d", name, size), func(b *testing.B) {
				fsys, dir := quick(), newDir(b)
				if sync {
					fsys = vfs.OS()
				}
				l := newLog(b, journal.Options{Dir: dir, FS: fsys, Now: clock})
				payload, body := content(1, size), make([]byte, 0, 100)
				var g journal.Group
				b.SetBytes(int64(size))
				b.ReportAllocs()
				for b.Loop() {
					if err := l.Begin(&g, nil); err != nil {
						b.Fatal(err)
					}
					at, err := g.Payload(payload)
					if err != nil {
						b.Fatal(err)
					}
					body = fmt.Appendf(body[:0], "a row with %d", at)
					if err := g.Record(journal.KindRows, body); err != nil {
						b.Fatal(err)
					}
					if err := l.Append(context.Background(), &g); err != nil {
						b.Fatal(err)
					}
				}
				b.StopTimer()
				if err := l.Remove(l.End()); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}

// BenchmarkAppendMany is one durable group of 64 records with 8 KiB each: what 64 writers share.
func BenchmarkAppendMany(b *testing.B) {
	l := newLog(b, journal.Options{Dir: newDir(b), FS: vfs.OS(), Now: clock})
	payload, body := content(1, 8<<10), content(2, 100)
	var g journal.Group
	b.SetBytes(64 * 8 << 10)
	b.ReportAllocs()
	for b.Loop() {
		if err := l.Begin(&g, nil); err != nil {
			b.Fatal(err)
		}
		for range 64 {
			_, err := g.Payload(payload)
			if err == nil {
				err = g.Record(journal.KindRows, body)
			}
			if err != nil {
				b.Fatal(err)
			}
		}
		if err := l.Append(context.Background(), &g); err != nil {
			b.Fatal(err)
		}
		if segments := l.Segments(); len(segments) > 4 {
			if err := l.Remove(segments[2].First); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkReadPayload is one verified read of a payload that is in the page cache.
func BenchmarkReadPayload(b *testing.B) {
	for _, size := range []int{200, 8 << 10, 128 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			l := newLog(b, journal.Options{Dir: newDir(b), FS: quick(), Now: clock})
			_, places, err := add(l, []record{{kind: journal.KindRows, payloads: [][]byte{content(1, size)}}})
			if err != nil {
				b.Fatal(err)
			}
			buffer := make([]byte, 0, 256<<10)
			b.SetBytes(int64(size))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.ReadPayload(places[0], int64(size), buffer); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkReplay is the reading and verifying of 64 MiB in groups of one record with 8 KiB, and of what is set aside behind
// them.
func BenchmarkReplay(b *testing.B) {
	for _, closed := range []bool{false, true} {
		b.Run(fmt.Sprintf("closed=%v", closed), func(b *testing.B) {
			o := journal.Options{Dir: newDir(b), FS: quick(), Now: clock}
			l := newLog(b, o)
			payload := content(1, 8<<10)
			for l.End() < 64<<20 {
				if _, _, err := add(l, []record{{kind: journal.KindRows, payloads: [][]byte{payload}}}); err != nil {
					b.Fatal(err)
				}
			}
			end := l.End()
			if closed {
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
			o.ReadOnly = true
			b.SetBytes(int64(end))
			b.ReportAllocs()
			for b.Loop() {
				l, err := journal.Open(o)
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Replay(context.Background(), 0, func(journal.Replayed) error { return nil }); err != nil || l.End() != end {
					b.Fatal(l.End(), err)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkOpen is the opening of a log that was closed, with many segments behind the replay.
func BenchmarkOpen(b *testing.B) {
	for _, segments := range []int{10, 1000} {
		b.Run(fmt.Sprintf("segments=%d", segments), func(b *testing.B) {
			o := options(newDir(b), quick())
			o.SegmentSize = 8 << 10
			l := newLog(b, o)
			for len(l.Segments()) < segments {
				if _, _, err := add(l, []record{{kind: journal.KindRows, body: content(1, 3000)}}); err != nil {
					b.Fatal(err)
				}
			}
			end := l.End()
			if err := l.Close(); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for b.Loop() {
				l, err := journal.Open(o)
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Replay(context.Background(), end, nil); err != nil {
					b.Fatal(err)
				}
				if err := l.Close(); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
