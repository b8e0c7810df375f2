package tokens

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"strings"
)

// A secret is prefix, the token's ID, "_", and 32 random bytes. The ID finds the token, so that no comparison depends on a
// secret byte; the prefix tells programs that search for leaked secrets what it is.
const (
	prefix      = "ph_"
	idBytes     = 5
	randomBytes = 32
)

var (
	text         = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	idLength     = text.EncodedLen(idBytes)
	secretLength = len(prefix) + idLength + 1 + text.EncodedLen(randomBytes)
)

// newSecret makes a secret with its ID.
func newSecret() (id, secret string) {
	random := make([]byte, idBytes+randomBytes)
	_, _ = rand.Read(random) // it never fails: crypto/rand ends the process instead
	id = text.EncodeToString(random[:idBytes])
	return id, prefix + id + "_" + text.EncodeToString(random[idBytes:])
}

func hash(secret string) [sha256.Size]byte { return sha256.Sum256([]byte(secret)) }

// Like tells whether a secret begins as those of this package do.
func Like(secret string) bool { return strings.HasPrefix(secret, prefix) }

// idOf takes the ID from a secret. ok is false if no token can have such a secret.
func idOf(secret string) (id string, ok bool) {
	if len(secret) != secretLength || !Like(secret) {
		return "", false
	}
	id, rest := secret[len(prefix):len(prefix)+idLength], secret[len(prefix)+idLength:]
	_, idErr := text.DecodeString(id)
	_, restErr := text.DecodeString(rest[1:])
	return id, rest[0] == '_' && idErr == nil && restErr == nil
}
