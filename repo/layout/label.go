package layout

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"packhouse/index"
	"packhouse/repo/keys"
)

// Label is what every blob carries of its item, as JSON, so that an index can be
// rebuilt from the blobs alone. It is written once, with the blob: an item that was moved since
// comes back under its old key, unless an index snapshot knows better.
type Label struct {
	Version   int    `json:"v"` // 1
	Dialect   string `json:"dialect"`
	Key       string `json:"key"`
	Created   int64  `json:"created"`  // Unix ms
	Modified  int64  `json:"modified"` // Unix ms
	Algorithm string `json:"alg,omitempty"`
	Sum       string `json:"sum,omitempty"` // hex
	Writer    string `json:"writer,omitempty"`
	Exempt    bool   `json:"exempt,omitempty"`
}

// EncodeLabel is the label of a blob that becomes item under key.
func EncodeLabel(dialect, key string, item index.Item, exempt bool) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // six bytes for one '<': the longest keys would not fit
	err := encoder.Encode(Label{
		Version: 1, Dialect: dialect, Key: key, Created: item.Created.UnixMilli(), Modified: item.Modified.UnixMilli(),
		Algorithm: item.Algorithm, Sum: hex.EncodeToString(item.Sum), Writer: item.Writer, Exempt: exempt,
	})
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

// DecodeLabel refuses what is no label of a version that it knows.
func DecodeLabel(b []byte) (Label, error) {
	var l Label
	if err := json.Unmarshal(b, &l); err != nil {
		return Label{}, fmt.Errorf("label of a blob: %w", err)
	}
	if l.Version != 1 {
		return Label{}, fmt.Errorf("label of a blob: unknown version %d", l.Version)
	}
	if err := keys.Check(l.Key); err != nil {
		return Label{}, fmt.Errorf("label of a blob: %w", err)
	}
	if _, err := hex.DecodeString(l.Sum); err != nil {
		return Label{}, fmt.Errorf("label of a blob: %w", err)
	}
	return l, nil
}

// Item is what the label knows: all but size, reference and BLAKE3.
func (l Label) Item() index.Item {
	sum, err := hex.DecodeString(l.Sum)
	if err != nil {
		sum = nil // DecodeLabel has refused that
	}
	return index.Item{
		Created: time.UnixMilli(l.Created), Modified: time.UnixMilli(l.Modified),
		Algorithm: l.Algorithm, Sum: sum, Writer: l.Writer,
	}
}
