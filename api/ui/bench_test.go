package ui_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"packhouse/index"
	"packhouse/repo/datadir"
	"packhouse/repo/repotest"
)

// BenchmarkOverview is the first page of a server with many repositories, all open: what the API takes for the list, and what the page takes.
func BenchmarkOverview(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprintf("repositories=%d", n), func(b *testing.B) {
			w := newWorld(b)
			for i := range n - 2 {
				repotest.MustPut(b, repotest.Create(b, w.set, fmt.Sprintf("repository-%04d", i)).As(principal), "packs/a", "x")
			}
			p := w.loggedIn(strong) // and has seen the page
			b.ReportAllocs()
			for b.Loop() {
				if status, _ := p.get("", "sort", "size"); status != http.StatusOK {
					b.Fatal(status)
				}
			}
		})
	}
}

// BenchmarkTrash is a page of the trash: it must not depend on how much there is.
func BenchmarkTrash(b *testing.B) {
	for _, n := range []int{1000, 1_000_000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			dir := repotest.MemoryDir(b)
			repotest.Seed(b, datadir.Options{Dir: dir}, "full", "borgstore", func(yield func([]index.Mutation) bool) {
				now := time.Now()
				for i := 0; i < n; {
					var group []index.Mutation
					for range 500 {
						key := fmt.Sprintf("packs/%08d", i)
						i++
						group = append(group, index.Put{Key: key, Item: index.Item{Size: 1, Ref: fmt.Sprintf("%08d", i)}, Limit: -1, Now: now},
							index.Delete{Key: key, Now: now, TrashUntil: now.Add(30 * 24 * time.Hour), Cause: &index.Cause{Principal: "p"}})
					}
					if !yield(group) {
						return
					}
				}
			})
			w := newWorldOn(b, dir)
			p := w.loggedIn(strong)
			for _, page := range []string{"trash", "history", "repository"} {
				p.get(page, "name", "full") // which opens it
				b.Run(page, func(b *testing.B) {
					b.ReportAllocs()
					for b.Loop() {
						if status, text := p.get(page, "name", "full"); status != http.StatusOK {
							b.Fatal(status, text)
						}
					}
				})
			}
		})
	}
}
