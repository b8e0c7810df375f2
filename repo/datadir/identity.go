package datadir

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"strings"

	"packhouse/blobstore/vfs"
	"packhouse/repo/layout"
)

// identityFile, in the server's own directory of a data directory, has the identity: 32 hex digits and a line feed. It
// tells a data directory from whatever else lies under its path, such as the empty directory below a volume that is not
// mounted.
const identityFile = "id"

// ErrNoIdentity is the error for a directory without identity.
var ErrNoIdentity = errors.New("no identity")

// CheckIdentity returns an error if the text is not a valid identity.
func CheckIdentity(id string) error {
	if b, err := hex.DecodeString(id); err != nil || len(b) != 16 || strings.ToLower(id) != id {
		return fmt.Errorf("%q is not the identity of a data directory, which is 32 hexadecimal digits in lower case", id)
	}
	return nil
}

// Identity reads the identity of the data directory dir: ErrNoIdentity if it has none or does not exist.
func Identity(fsys vfs.FS, dir string) (string, error) {
	path := filepath.Join(dir, layout.OwnDir, identityFile)
	f, err := fsys.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNoIdentity
	}
	if err != nil {
		return "", fmt.Errorf("identity of the data directory: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return "", fmt.Errorf("identity of the data directory: %w", err)
	}
	id := strings.TrimSuffix(string(text), "\n")
	if err := CheckIdentity(id); err != nil {
		return "", fmt.Errorf("%s: %w; restore the file, or remove it, and the next start makes another", path, err)
	}
	return id, nil
}

// MakeIdentity creates the identity of the data directory dir, unless it has one, durably when it returns nil. The server's own
// directory in it must exist.
func MakeIdentity(fsys vfs.FS, dir string) (id string, err error) {
	id, err = Identity(fsys, dir)
	if !errors.Is(err, ErrNoIdentity) {
		return id, err
	}
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("identity of the data directory: %w", err)
	}
	id = hex.EncodeToString(secret)
	own := filepath.Join(dir, layout.OwnDir)
	// Under another name first: a crash leaves the whole of it or nothing.
	partial := filepath.Join(own, identityFile+".new")
	if err := layout.IgnoreMissing(fsys.Remove(partial)); err != nil {
		return "", fmt.Errorf("identity of the data directory: %w", err)
	}
	f, err := fsys.Create(partial)
	if err != nil {
		return "", fmt.Errorf("identity of the data directory: %w", err)
	}
	_, err = io.WriteString(f, id+"\n")
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = fsys.Rename(partial, filepath.Join(own, identityFile))
	}
	if err == nil {
		err = fsys.SyncDir(own)
	}
	if err != nil {
		return "", fmt.Errorf("identity of the data directory: %w", err)
	}
	return id, nil
}
