//go:build !linux

package index

import (
	"errors"
	"os"
)

// memoryFile makes a file that has no name, where the system keeps its temporary files.
func memoryFile() (*os.File, error) {
	file, err := os.CreateTemp("", "packhouse-index-")
	if err != nil {
		return nil, err
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}
