package keys

import "strings"

// VGerShape is what a key can name in a repository of V'Ger.
type VGerShape uint8

// The shapes of keys. Source: vger-rest 3.1.
const (
	VGerInvalid   VGerShape = iota
	VGerRoot                // the repository
	VGerDirectory           // "packs", "packs/ab", "keys": for lists and mkdir; never an item
	VGerObject              // an item that is not a pack
	VGerPack                // packs/{hh}/{64 hex}
)

// VGerShapeOf classifies a key by its parts, of which there is at least one. It does not know the names of unfinished files,
// which VGerTemporary tells.
func VGerShapeOf(parts []string) VGerShape {
	switch parts[0] {
	case "config", "manifest", "index", "index.gen":
		if len(parts) == 1 {
			return VGerObject
		}
	case "pending_index":
		if len(parts) <= 2 {
			return VGerObject
		}
	case "keys", "snapshots", "locks", "sessions":
		switch len(parts) {
		case 1:
			return VGerDirectory
		case 2:
			return VGerObject
		}
	case "packs":
		switch {
		case len(parts) == 1, len(parts) == 2 && IsHex(parts[1], 2):
			return VGerDirectory
		case len(parts) == 3 && IsHex(parts[1], 2) && IsHex(parts[2], 64):
			return VGerPack
		}
	}
	return VGerInvalid
}

// VGerTemporary tells whether the last part of a key is a name that the reference servers give to unfinished files.
func VGerTemporary(last string) bool {
	return strings.HasPrefix(last, ".tmp.") || strings.HasPrefix(last, ".repack_tmp.")
}

// IsHex tells whether s is n lowercase hexadecimal digits. Uppercase spellings would be
// other items that can never verify, so they are no keys (vger-rest, W37).
func IsHex(s string, n int) bool {
	if len(s) != n {
		return false
	}
	for i := 0; i < n; i++ {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
