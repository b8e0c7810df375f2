package floor

import (
	"bufio"
	"bytes"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"go.etcd.io/bbolt"
)

const listFile = "list.db"

var listBucket = []byte("items")

// Seed creates the list of a floor in dir: n names, in any order.
func Seed(dir string, n int, name func(i int) string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	db, err := bbolt.Open(filepath.Join(dir, listFile), 0o600, &bbolt.Options{NoSync: true, FreelistType: bbolt.FreelistMapType})
	if err != nil {
		return fmt.Errorf("seed the floor: %w", err)
	}
	defer func() {
		if fault := db.Close(); err == nil {
			err = fault
		}
	}()
	const batch = 50_000
	value := make([]byte, 100) // what an index keeps of an item, about
	for i := 0; i < n; {
		err := db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists(listBucket)
			for end := min(n, i+batch); err == nil && i < end; i++ {
				err = b.Put([]byte(name(i)), value)
			}
			return err
		})
		if err != nil {
			return fmt.Errorf("seed the floor: %w", err)
		}
	}
	return db.Sync()
}

// list answers with the names that begin with the rest of the path. Without a list there are none.
func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	prefix := []byte(strings.TrimPrefix(r.URL.Path, ListPath))
	w.Header().Set("Content-Type", "application/json")
	out := bufio.NewWriterSize(w, 64<<10)
	_ = out.WriteByte('[') // the last Flush says what went wrong
	if s.names != nil {
		err := s.names.View(func(tx *bbolt.Tx) error {
			c, separator := tx.Bucket(listBucket).Cursor(), ""
			for name, _ := c.Seek(prefix); bytes.HasPrefix(name, prefix) && name != nil; name, _ = c.Next() {
				_, _ = out.WriteString(separator)
				_ = out.WriteByte('"')
				_, _ = out.Write(name)
				_ = out.WriteByte('"')
				separator = ","
			}
			return nil
		})
		if err != nil {
			panic(http.ErrAbortHandler)
		}
	}
	_ = out.WriteByte(']')
	if out.Flush() != nil {
		panic(http.ErrAbortHandler)
	}
}
