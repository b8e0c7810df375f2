package adopt

import (
	"errors"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo/digest"
	"packhouse/repo/keys"
)

const layoutVGer = "vger"

// vGer is the layout of vger-server and vykar-server in all generations: each item is a file under its key. Files are written under a name
// that begins with ".tmp." or ".repack_tmp.", and are never changed after their rename. In the first generations a directory like this
// is one of several below the server's own. Source: vger-rest 1.1, 3.1 to 3.3, 4.3, 10.1.
type vGer struct {
	samePaths
	packs string // the algorithm that names packs; "": not known
}

// newVGer looks into the repository's config for the format, which says how packs are named.
func newVGer(fsys vfs.FS, dir string) (foreign, error) {
	file, err := fsys.Open(filepath.Join(dir, "config"))
	if err != nil {
		return nil, err
	}
	defer file.Close() // it is only read
	head := make([]byte, 4)
	n, err := io.ReadFull(file, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return nil, err
	}
	return vGer{packs: packDigest(head[:n])}, nil
}

// packDigest reads the first element of a config, a msgpack array: the format of the repository, which fixes how its packs are named.
func packDigest(config []byte) string {
	switch {
	case len(config) >= 2 && config[0]&0xf0 == 0x90:
		config = config[1:]
	case len(config) == 4 && config[0] == 0xdc: // more than 15 elements
		config = config[3:]
	default:
		return ""
	}
	switch config[0] {
	case 1, 2:
		return digest.BLAKE2b256
	case 3:
		return digest.BLAKE3
	}
	return ""
}

func (vGer) names() (layout, dialect string) { return layoutVGer, "vger" }

func (v vGer) file(name string) (use use, algorithm string, err error) {
	if keys.VGerTemporary(path.Base(name)) {
		return skipped, "", nil
	}
	if err := keys.Check(name); err != nil {
		return 0, "", err
	}
	switch keys.VGerShapeOf(strings.Split(name, "/")) {
	case keys.VGerPack:
		return item, v.packs, nil
	case keys.VGerObject:
		return item, "", nil
	}
	return 0, "", fmt.Errorf("no name of V'Ger")
}

// The formats before snapshots were items of their own have a manifest, which each backup replaces.
func (vGer) backup(name string) bool {
	return strings.HasPrefix(name, "snapshots/") || name == "manifest"
}

// The ages at which clients take a lock, or a session, for one that was left behind.
const (
	vGerStaleLock    = 6 * time.Hour
	vGerStaleSession = 45 * time.Minute
)

func (vGer) current(name string, age time.Duration) bool {
	switch dir, base, _ := strings.Cut(name, "/"); {
	case !strings.HasSuffix(base, ".json"):
		return false
	case dir == "locks":
		return age < vGerStaleLock
	case dir == "sessions":
		return age < vGerStaleSession
	}
	return false
}
