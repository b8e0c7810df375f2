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
		// The first two syncs of a commit run at once.
		if i := slices.Index(got, "syncdir incoming"); i >= 0 && i+1 < len(got) && got[i+1] == "sync incoming/ID" {
			got[i], got[i+1] = got[i+1], got[i]
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

// TestSyncsAtOnce: the bytes and their name in incoming/ are synced at the same time, and a blob has no
// name in its shard before both are durable, whichever is later.
func TestSyncsAtOnce(t *testing.T) {
	for _, firstIsFaster := range []bool{true, false} {
		f := gateFS{vfs.OS(), make(chan chan struct{}), new(atomic.Bool)}
		s := open(t, newDir(t), f)
		w, err := write(s, []byte("content"))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			_, _, err := w.Commit(context.Background(), nil)
			done <- err
		}()
		next := func() chan struct{} {
			select {
			case sync := <-f.syncs:
				return sync
			case <-time.After(10 * time.Second):
				t.Fatal("no further sync has begun")
				return nil
			}
		}
		faster, slower := next(), next()
		if !firstIsFaster {
			faster, slower = slower, faster
		}
		close(faster)
		time.Sleep(10 * time.Millisecond)
		if f.linked.Load() {
			t.Error("the blob has its name before both syncs are over")
		}
		close(slower)
		shard := next()
		if !f.linked.Load() {
			t.Error("the third sync is before the link")
		}
		if len(done) > 0 {
			t.Error("committed before the shard's directory was synced")
		}
		close(shard)
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
