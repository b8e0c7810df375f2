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

	// MetaAdopted says where a repository was taken in from, in JSON; most have none.
	MetaAdopted = "adopted"
)

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
