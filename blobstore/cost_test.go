package blobstore_test

import (
	"context"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/blobstore"
	"packhouse/blobstore/vfs"
	"packhouse/blobstore/vfs/vfstest"
)

// TestCost pins what each operation asks of the file system, and in which order: a
// durable blob costs four syncs, and the marker lasts until the blob is settled.
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
			"create incoming/ID", "write incoming/ID", "syncdir incoming", "link blobs/SHARD/ID",
			"create blobs/SHARD/ID.sums", "write blobs/SHARD/ID.sums",
			"sync blobs/SHARD/ID.sums", "sync incoming/ID", "syncdir blobs/SHARD",
		}},
		{"settle", func() error { return s.Settle(ref) }, []string{"remove incoming/ID"}},
		{"remove", func() error { return s.Remove(ref) }, []string{
			"remove blobs/SHARD/ID", "remove blobs/SHARD/ID.sums", "syncdir blobs/SHARD", "remove incoming/ID",
		}},
		{"remove two of a shard", func() error { return s.RemoveAll([]blobstore.Ref{ref, ref}) }, []string{
			"remove blobs/SHARD/ID", "remove blobs/SHARD/ID.sums", "remove blobs/SHARD/ID", "remove blobs/SHARD/ID.sums",
			"syncdir blobs/SHARD", "remove incoming/ID", "remove incoming/ID",
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
		// The sync of incoming/ runs while the body is written, and the last three syncs of a commit at once.
		if i, link := slices.Index(got, "syncdir incoming"), slices.Index(got, "link blobs/SHARD/ID"); test.name == "commit" && i >= 0 && i < link {
			got = slices.Insert(slices.Delete(got, i, i+1), link-1, "syncdir incoming")
			slices.Sort(got[max(0, len(got)-3):])
		}
		if !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

// gateFS lets every sync wait until it is released.
type gateFS struct {
	vfs.FS
	syncs  chan chan struct{} // of those that have begun
	linked *atomic.Bool
}

type gateFile struct {
	vfs.File
	fs gateFS
}

func (f gateFS) wait() {
	release := make(chan struct{})
	f.syncs <- release
	<-release
}

func (f gateFS) Create(name string) (vfs.File, error) {
	file, err := f.FS.Create(name)
	return gateFile{file, f}, err
}

func (f gateFS) Link(oldname, newname string) error {
	f.linked.Store(true)
	return f.FS.Link(oldname, newname)
}

func (f gateFile) Sync() error {
	f.fs.wait()
	return f.File.Sync()
}

func (f gateFS) SyncDir(name string) error {
	f.wait()
	return f.FS.SyncDir(name)
}

// TestSyncsAtOnce: incoming/ is synced while the body is written, and a blob has no name in its shard before that is over. Then
// its bytes, its checksums and their names are synced at the same time, and Commit waits for all three.
func TestSyncsAtOnce(t *testing.T) {
	for last := range 3 {
		f := gateFS{vfs.OS(), make(chan chan struct{}), new(atomic.Bool)}
		s := open(t, newDir(t), f)
		next := func() chan struct{} {
			t.Helper()
			select {
			case sync := <-f.syncs:
				return sync
			case <-time.After(10 * time.Second):
				t.Fatal("no further sync has begun")
				return nil
			}
		}
		w, err := s.Create(context.Background(), -1)
		if err != nil {
			t.Fatal(err)
		}
		marker := next()
		if _, err := w.Write([]byte("content")); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, _, err := w.Commit(context.Background(), nil)
			done <- err
		}()
		time.Sleep(10 * time.Millisecond)
		if f.linked.Load() {
			t.Error("the blob has its name before its marker is durable")
		}
		close(marker)
		syncs := []chan struct{}{next(), next(), next()}
		if !f.linked.Load() {
			t.Error("a sync is before the link")
		}
		for i, sync := range syncs {
			if i != last {
				close(sync)
			}
		}
		time.Sleep(10 * time.Millisecond)
		if len(done) > 0 {
			t.Error("committed before all was synced")
		}
		close(syncs[last])
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
