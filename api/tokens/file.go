package tokens

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"packhouse/blobstore/vfs"
	"packhouse/repo"
)

// fileVersion is the version of the file's format.
const fileVersion = 1

type file struct {
	Version int   `json:"version"`
	Tokens  []row `json:"tokens"`
}

type row struct {
	Token
	Sum string `json:"sha256"`
}

// read reads the file; without one there are no tokens. A file that cannot be read is an error: without it nobody knows what was
// revoked.
func (s *Store) read() ([]*known, error) {
	data, err := os.ReadFile(s.o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %w", err)
	}
	list, err := decode(data)
	if err != nil {
		return nil, fmt.Errorf("read the tokens: %s: %w; without this file there are no tokens but the server's own", s.o.Path, err)
	}
	return list, nil
}

func decode(data []byte) ([]*known, error) {
	var f file
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, fmt.Errorf("damaged: %w", err)
	}
	if f.Version != fileVersion {
		return nil, fmt.Errorf("version %d, and this program knows version %d", f.Version, fileVersion)
	}
	list := make([]*known, 0, len(f.Tokens))
	ids, names := make(map[string]bool), make(map[string]bool)
	for _, row := range f.Tokens {
		sum, err := hex.DecodeString(row.Sum)
		if err == nil && (len(sum) != sha256.Size || len(row.ID) != idLength || row.Name == "") {
			err = errors.New("something is missing")
		}
		if err = errors.Join(err, row.checkRole(), row.checkRepositories()); err != nil {
			return nil, fmt.Errorf("damaged: token %q: %w", row.Name, err)
		}
		if ids[row.ID] || names[row.Name] {
			return nil, fmt.Errorf("damaged: token %q is there twice", row.Name)
		}
		ids[row.ID], names[row.Name] = true, true
		list = append(list, newKnown(row.Token, [sha256.Size]byte(sum)))
	}
	return list, nil
}

// errFile is about a file that cannot be written for a reason that the log has.
var errFile = repo.Errorf(repo.ErrReadOnly, "disk error")

func newKnown(t Token, sum [sha256.Size]byte) *known {
	k := &known{Token: t, sum: sum}
	k.life, k.end = context.WithCancelCause(context.Background())
	return k
}

// write replaces the file, durably: by the tokens that there are, and one more. The caller holds change. The error is one of
// repo's, and names no file.
func (s *Store) write(more *known) error {
	f := file{Version: fileVersion}
	s.mu.RLock()
	for _, t := range s.byID {
		f.Tokens = append(f.Tokens, row{t.Token, hex.EncodeToString(t.sum[:])})
	}
	s.mu.RUnlock()
	if more != nil {
		f.Tokens = append(f.Tokens, row{more.Token, hex.EncodeToString(more.sum[:])})
	}
	slices.SortFunc(f.Tokens, func(a, b row) int { return strings.Compare(a.Name, b.Name) })
	data, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := vfs.Replace(s.o.FS, s.o.Path, append(data, '\n')); err != nil {
		s.o.Logger.Error("the tokens could not be stored", "error", err)
		switch {
		case errors.Is(err, syscall.EROFS):
			return repo.ErrReadOnlyDisk
		case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
			return repo.ErrNoSpace
		}
		return errFile
	}
	clear(s.unsaved)
	return nil
}
