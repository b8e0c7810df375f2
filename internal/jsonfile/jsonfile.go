// Package jsonfile reads small JSON files that the server keeps for itself and can do without.
package jsonfile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// Read decodes a file of at most so many bytes. found is false, without an error, if there is none. The errors contain the path, and are for the log.
func Read(path string, most int64, into any) (found bool, err error) {
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !info.Mode().IsRegular(): // opening it could wait forever
		return false, fmt.Errorf("%s is not a regular file", path)
	case info.Size() > most:
		return false, fmt.Errorf("%s is too large", path)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(data, into); err != nil {
		return false, fmt.Errorf("%s: %w", path, err)
	}
	return true, nil
}
