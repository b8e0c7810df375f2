package main

import (
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// BenchmarkStdio is what the pipe to a holder costs beside the network: each size stored and loaded through a
// process of its own, as borg does over ssh.
func BenchmarkStdio(b *testing.B) {
	for _, size := range []int{8 << 10, 32 << 20} {
		dir := filepath.Join(tempDir(b), "r")
		c := stdioAt(b, dir)
		c.want(b, http.StatusOK, "POST", "/?cmd=create", "")
		body := strings.Repeat("x", size)
		n := 0
		b.Run("store/size="+strconv.Itoa(size), func(b *testing.B) {
			b.SetBytes(int64(size))
			for b.Loop() {
				n++
				c.want(b, http.StatusOK, "POST", "/packs/00/"+strconv.Itoa(n%8), body[1:]+strconv.Itoa(n%10))
			}
		})
		b.Run("load/size="+strconv.Itoa(size), func(b *testing.B) {
			c.want(b, http.StatusOK, "POST", "/packs/00/x", body)
			b.SetBytes(int64(size))
			for b.Loop() {
				c.want(b, http.StatusOK, "GET", "/packs/00/x", "")
			}
		})
		c.finish(b)
	}
}
