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
)

// FirstMeta are the values every index begins with. id has 16 bytes.
func FirstMeta(dialect string, id []byte, now time.Time) map[string][]byte {
	return map[string][]byte{
		MetaDialect: []byte(dialect),
		MetaID:      []byte(hex.EncodeToString(id)),
		MetaCreated: []byte(strconv.FormatInt(now.UnixMilli(), 10)),
	}
}
