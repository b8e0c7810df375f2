package layout

import (
	"encoding/hex"
	"strconv"
	"time"
)

// Names of the meta values that every index has.
const (
	MetaDialect = "dialect"
	MetaCreated = "created" // Unix ms, decimal
	MetaID      = "id"      // 32 hex digits

	// MetaRestored says of which backup a repository was made, in JSON; most have none.
	MetaRestored = "restored"

	// MetaAdopted says where a repository was taken in from, in JSON; most have none.
	MetaAdopted = "adopted"
)

// Restored is what the meta value MetaRestored says, in JSON.
type Restored struct {
	Repository string    `json:"repository"` // the ID of the one that was backed up
	Name       string    `json:"name"`       // that it had
	State      time.Time `json:"state"`      // when the state was taken
	At         time.Time `json:"at"`         // when it was restored
}

// FirstMeta are the values every index begins with. id has 16 bytes.
func FirstMeta(dialect string, id []byte, now time.Time) map[string][]byte {
	return map[string][]byte{
		MetaDialect: []byte(dialect),
		MetaID:      []byte(hex.EncodeToString(id)),
		MetaCreated: EncodeCreated(now),
	}
}

// EncodeCreated is a value of MetaCreated.
func EncodeCreated(at time.Time) []byte { return strconv.AppendInt(nil, at.UnixMilli(), 10) }
