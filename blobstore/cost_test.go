package blobstore_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

// TestCost pins what each operation asks of the file system, and in which order: a
// durable blob costs three syncs, and the marker lasts until the blob is settled.
func TestCost(t *testing.T) {
	dir := newDir(t)
	f := vfstest.NewFailing(vfs.OS())
	s := open(t, dir, f)
	var ref blobstore.Ref
	tests := []struct {
		name string
		do   func() error
		want []string
	}{
		{"commit", func() (err error) {
			ref, err = put(s, []byte("content"), "label")
			return err
		}, []string{
			"create incoming/ID", "write incoming/ID", "write incoming/ID", "sync incoming/ID",
			"syncdir incoming", "link blobs/SHARD/ID", "syncdir blobs/SHARD",
		}},
		{"settle", func() error { return s.Settle(ref) }, []string{"remove incoming/ID"}},
		{"remove", func() error { return s.Remove(ref) }, []string{
			"remove blobs/SHARD/ID", "syncdir blobs/SHARD", "remove incoming/ID",
		}},
		{"remove two of a shard", func() error { return s.RemoveAll([]blobstore.Ref{ref, ref}) }, []string{
			"remove blobs/SHARD/ID", "remove blobs/SHARD/ID", "syncdir blobs/SHARD", "remove incoming/ID", "remove incoming/ID",
		}},
		{"read", func() error {
			ref = mustPut(t, s, "content", "label")
			f.Reset()
			_, err := get(s, ref)
			return err
		}, nil},
	}
	for _, test := range tests {
		f.Reset()
		if err := test.do(); err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		var got []string
		shard, id := filepath.Split(strings.TrimPrefix(blobPath(dir, ref), dir+"/blobs/"))
		for _, call := range f.Calls() {
			name := strings.ReplaceAll(strings.TrimPrefix(call.Name, dir+"/"), id, "ID")
			name = strings.ReplaceAll(name, "blobs/"+strings.TrimSuffix(shard, "/"), "blobs/SHARD")
			got = append(got, string(call.Op)+" "+name)
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}
