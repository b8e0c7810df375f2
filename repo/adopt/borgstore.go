package adopt

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/zeebo/blake3"

	"packhouse/blobstore/vfs"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

const layoutBorgStore = "borgstore"

// borgStore is the layout of BorgStore's file backend ("posixfs"): each item is a file, and its path is the name that the protocol
// knows, with the directories of nesting and the suffix ".del" of what borg has deleted. A file is written under another name that ends with
// ".tmp", is not synced, and is never changed after its rename. Source: borgstore-rest 3.1 to 3.3, 3.9.
type borgStore struct {
	samePaths
	borg  bool   // its items are those of BorgBackup 2
	packs string // the algorithm that names packs and indexes of borg; "": not known
}

// sampledFiles is how many files of borg are held against their names at most, to find out by which hash they are named.
const sampledFiles = 8

// sampled finds out by which hash borg has named its packs and indexes: up to 2.0.0b23 by SHA-256, in 2.0.0b25 by BLAKE3, and nothing but the files says
// it. Some may be damaged or not be readable, which is told elsewhere.
func (b borgStore) sampled(fsys vfs.FS, dir string) borgStore {
	tried := 0
	var look func(below string, depth int)
	look = func(below string, depth int) {
		entries, err := fsys.ReadDir(filepath.Join(dir, below))
		if err != nil {
			return
		}
		for _, entry := range entries {
			name := filepath.Join(below, entry.Name())
			switch {
			case b.packs != "" || tried >= sampledFiles:
				return
			case entry.IsDir() && depth < maxDepth:
				look(name, depth+1)
			case entry.Type().IsRegular() && keys.IsHex(entry.Name(), 64):
				tried++
				b.packs = namedBy(fsys, filepath.Join(dir, name))
			}
		}
	}
	look("index", 0)
	look("packs", 0)
	return b
}

// namedBy is the algorithm whose digest of a file is the file's name; "": none that borg has used.
func namedBy(fsys vfs.FS, path string) string {
	file, err := fsys.Open(path)
	if err != nil {
		return ""
	}
	defer file.Close() // it is only read
	sha, blake := sha256.New(), blake3.New()
	if _, err := io.Copy(io.MultiWriter(sha, blake), file); err != nil {
		return ""
	}
	switch filepath.Base(path) {
	case hex.EncodeToString(sha.Sum(nil)):
		return digest.SHA256
	case hex.EncodeToString(blake.Sum(nil)):
		return digest.BLAKE3
	}
	return ""
}

func (borgStore) names() (layout, dialect string) { return layoutBorgStore, "borgstore" }

func (b borgStore) file(name string) (use use, algorithm string, err error) {
	if strings.HasSuffix(name, ".tmp") || strings.HasSuffix(name, ".hid") {
		return skipped, "", nil
	}
	if rule := keys.BorgStoreRule(name); rule != "" {
		rule, _, _ = strings.Cut(rule, ", but ") // what a client sent follows there
		return 0, "", fmt.Errorf("no name of BorgStore: %s", rule)
	}
	if err := keys.Check(name); err != nil {
		return 0, "", err
	}
	if !b.borg {
		return item, "", nil
	}
	dir, _, below := strings.Cut(name, "/")
	switch {
	case !below, dir == "snapshots", dir == "sessions":
		// BorgStore would take it, but then two repositories would become one.
		return 0, "", errors.New("no name of borg, but one of V'Ger or of another program: the directory has more in it than a repository of borg")
	case (dir == "packs" || dir == "index") && keys.IsHex(path.Base(name), 64):
		algorithm = b.packs
	}
	return item, algorithm, nil
}

func (borgStore) backup(name string) bool {
	return strings.HasPrefix(name, "archives/") && !strings.HasSuffix(name, ".del")
}

// borgStale is the age at which borg takes a lock for one that was left behind.
const borgStale = 30 * time.Minute

func (borgStore) current(name string, age time.Duration) bool {
	return strings.HasPrefix(name, "locks/") && age < borgStale
}
