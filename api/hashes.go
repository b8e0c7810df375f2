package api

import (
	"crypto/sha1" // what htpasswd -s writes
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"golang.org/x/crypto/bcrypt"

	"packhouse/repo"
)

// shaPrefix is how htpasswd marks the base64 of a password's SHA-1.
const shaPrefix = "{SHA}"

// bcryptForm is a bcrypt hash of a variant that is free of the faults of earlier ones: "$2x$" is not, and "$2$" is too old to be met.
var bcryptForm = regexp.MustCompile(`^\$2[aby]\$[0-3][0-9]\$[./A-Za-z0-9]{53}$`)

// CheckHash tells whether a user can log in with the password of a hash: bcrypt, or "{SHA}" and the base64 of a SHA-1. The error
// names what it is instead, and has nothing of the hash.
func CheckHash(hash string) error {
	_, _, err := parseHash(hash)
	return err
}

// parseHash returns the cost of a bcrypt hash, or the SHA-1.
func parseHash(hash string) (cost int, sum []byte, err error) {
	switch text, sha := strings.CutPrefix(hash, shaPrefix); {
	case sha:
		sum, err = base64.StdEncoding.DecodeString(text)
		if err != nil || len(sum) != sha1.Size {
			return 0, nil, errors.New("damaged: behind {SHA} there must be 28 characters of base64")
		}
		return 0, sum, nil
	case bcryptForm.MatchString(hash):
		cost, err = bcrypt.Cost([]byte(hash))
		if err != nil || cost < bcrypt.MinCost || cost > bcrypt.MaxCost {
			return 0, nil, errors.New("damaged: a bcrypt hash has a cost of 4 to 31")
		}
		return cost, nil, nil
	}
	return 0, nil, fmt.Errorf("%s, and not a bcrypt hash", kindOfHash(hash))
}

// kindOfHash says what is known by its beginning.
func kindOfHash(hash string) string {
	for _, kind := range []struct{ prefix, name string }{
		{"$apr1$", "an MD5 hash ($apr1$)"}, {"$1$", "an MD5 hash ($1$)"}, {"$5$", "a SHA-256 crypt hash ($5$)"}, {"$6$", "a SHA-512 crypt hash ($6$)"},
		{"$y$", "a yescrypt hash ($y$)"}, {"$argon2", "an Argon2 hash"}, {"$2", "a damaged or outdated bcrypt hash"}, {"{SSHA}", "a salted SHA-1 hash ({SSHA})"},
	} {
		if strings.HasPrefix(hash, kind.prefix) {
			return kind.name
		}
	}
	if hash == "" {
		return "empty"
	}
	return "a plain password or an old crypt hash"
}

// hashedUsers are the users whose password is known by its hash. They are found by keyed sums of their names, of which a stranger knows
// nothing.
type hashedUsers struct {
	byName  map[nameSum]hashedUser
	most    int                               // the highest cost of a bcrypt hash; 0: there is none
	dummy   map[int][]byte                    // bcrypt hashes of no password, by cost, from bcrypt.MinCost to most
	compare func(hash, password []byte) error // bcrypt's
}

type hashedUser struct {
	bcrypt    []byte // nil: sha1 counts
	cost      int
	sha1      []byte
	principal repo.Principal
}

func newHashedUsers() hashedUsers {
	return hashedUsers{byName: make(map[nameSum]hashedUser), dummy: make(map[int][]byte), compare: bcrypt.CompareHashAndPassword}
}

func (h *hashedUsers) add(name nameSum, hash string, p repo.Principal) error {
	cost, sum, err := parseHash(hash)
	if err != nil {
		return err
	}
	user := hashedUser{cost: cost, sha1: sum, principal: p}
	if sum == nil {
		user.bcrypt = []byte(hash)
	}
	h.byName[name] = user
	h.most = max(h.most, cost)
	for c := bcrypt.MinCost; c <= h.most; c++ {
		if h.dummy[c] == nil {
			h.dummy[c] = fmt.Appendf(nil, "$2a$%02d$%s", c, strings.Repeat(".", 53))
		}
	}
	return nil
}

// slow tells whether a comparison may take long.
func (h *hashedUsers) slow() bool { return h.most > 0 }

// named returns the user of a name whose password was verified before.
func (h *hashedUsers) named(name nameSum) (repo.Principal, bool) {
	user, ok := h.byName[name]
	return user.principal, ok
}

// match compares a password with the hash of a user; the caller has a slot for it. What is wrong costs as much as the dearest hash,
// whether the user exists or not, and whatever hash it has.
func (h *hashedUsers) match(name nameSum, password string) (repo.Principal, bool) {
	user, known := h.byName[name]
	sum := sha1.Sum([]byte(password))
	if subtle.ConstantTimeCompare(sum[:], user.sha1) == 1 {
		return user.principal, true
	}
	if known && user.bcrypt != nil && h.compare(user.bcrypt, []byte(password)) == nil {
		return user.principal, true
	}
	h.waste(user.cost, password)
	return repo.Principal{}, false
}

// waste takes what the dearest hash costs beyond one of a cost; 0: nothing was compared. Each cost is twice the one before it, so that
// the rest is the sum of those between.
func (h *hashedUsers) waste(spent int, password string) {
	costs := []int{h.most}
	if spent > 0 {
		costs = costs[:0]
		for c := spent; c < h.most; c++ {
			costs = append(costs, c)
		}
	}
	for _, c := range costs {
		if dummy := h.dummy[c]; dummy != nil {
			_ = h.compare(dummy, []byte(password)) // it is that of no password
		}
	}
}
