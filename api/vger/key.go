package vger

import (
	"net/url"
	"strings"
	"unicode/utf8"

	"packhouse/repo/keys"
)

// key is an object's name after normalisation: slashes at both ends are gone, so that
// every rule sees the one spelling under which the item is stored.
type key struct {
	text      string // "" is the repository itself
	shape     shape
	slash     bool // the path ended in a slash; only "locks" and "locks/" differ by it
	temporary bool // a name the reference servers used for unfinished files; never a valid key
}

// shape is what a valid key can name.
type shape = keys.VGerShape

const (
	invalidKey = keys.VGerInvalid
	rootKey    = keys.VGerRoot
	directory  = keys.VGerDirectory
	object     = keys.VGerObject
	pack       = keys.VGerPack
)

// parsePath reads the raw path behind the repository. It never fails: what is no key has shape invalidKey.
func parsePath(raw string) key {
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return key{text: strings.Trim(raw, "/")}
	}
	return parseKey(decoded)
}

// parseKey classifies a decoded name by the schema of the contract, 3.1.
func parseKey(name string) key {
	k := key{text: strings.Trim(name, "/"), slash: strings.HasSuffix(name, "/")}
	if k.text == "" {
		k.shape = rootKey
		return k
	}
	if keys.Check(k.text) != nil || !utf8.ValidString(k.text) {
		return k
	}
	parts := strings.Split(k.text, "/")
	last := parts[len(parts)-1]
	if keys.VGerTemporary(last) {
		k.temporary = true
		return k
	}
	k.shape = keys.VGerShapeOf(parts)
	return k
}

// item tells whether the key can name an item.
func (k key) item() bool { return k.shape == object || k.shape == pack }

// listable tells whether a list of the key's directory makes sense; the root is another request.
func (k key) listable() bool { return k.shape == directory || k.item() }

// within tells whether the key is directly below a directory, and its name there.
func (k key) within(dir string) (name string, ok bool) {
	name, ok = strings.CutPrefix(k.text, dir+"/")
	return name, ok && name != ""
}

// packName is the last part of a pack's key: 64 digits.
func (k key) packName() string { return k.text[len("packs/ab/"):] }

// sharded tells whether a pack stands in the shard that its name begins with.
func (k key) sharded() bool { return k.text[len("packs/"):len("packs/ab")] == k.packName()[:2] }
