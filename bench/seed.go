package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// emptyFiles makes very many empty files quickly: they are names of few files, as making a file takes a file system ten times
// as long as making a name. The zero value is ready. It is not safe for concurrent use.
type emptyFiles struct {
	base string // another name of what is made next; "": nothing yet
}

// make makes the file.
func (e *emptyFiles) make(path string) error {
	if e.base != "" {
		err := os.Link(e.base, path)
		// A file has so many names and no more, and some file systems give it but one.
		if !errors.Is(err, syscall.EMLINK) && !errors.Is(err, syscall.EPERM) && !errors.Is(err, syscall.ENOTSUP) {
			return err
		}
	}
	e.base = path
	return os.WriteFile(path, nil, 0o600)
}

// seedFiles makes an empty file for each name, and the directories.
func seedFiles(ctx context.Context, names []string, path func(name string) string) error {
	made := make(map[string]bool)
	var files emptyFiles
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		path := path(name)
		if dir := filepath.Dir(path); !made[dir] {
			if err := os.MkdirAll(dir, 0o755); err != nil {
				return fmt.Errorf("seed: %w", err)
			}
			made[dir] = true
		}
		if err := files.make(path); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	return nil
}
