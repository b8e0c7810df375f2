package index

import (
	"errors"
	"fmt"
	"os"

	bolt "go.etcd.io/bbolt"
)

// memoryMap is the address space of an index in memory, in bytes: more than it should come to hold.
const memoryMap = 64 << 20

// NewMemory creates an empty index in memory that ends with Close. meta are the first values (see SetMeta).
func NewMemory(meta map[string][]byte) (*Index, error) {
	file, err := memoryFile()
	if err != nil {
		return nil, fmt.Errorf("index in memory: %w", err)
	}
	db, err := bolt.Open(file.Name(), 0o600, &bolt.Options{
		FreelistType: bolt.FreelistMapType, InitialMmapSize: memoryMap, NoStatistics: true, NoSync: true,
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return file, nil },
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("index in memory: %w", err), file.Close())
	}
	x := newIndex(".", Options{Use: Rebuild})
	x.db, x.file, x.mapped = db, file, mapSizeOf(memoryMap)
	x.limitGrowth()
	if err := errors.Join(fill(db, meta), x.begin()); err != nil {
		return nil, errors.Join(fmt.Errorf("index in memory: %w", err), x.end())
	}
	x.run()
	return x, nil
}
