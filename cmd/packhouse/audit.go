package main

import (
	"fmt"
	"log/slog"
	"path/filepath"
	"strings"

	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/logwriter"
	"packhouse/repo/datadir"
)

// Of the audit log's file: the size from which on another is begun, and how many older ones stay.
const (
	auditSize = 64 << 20
	auditKept = 8
)

// openAudit opens the audit log of the configuration; nil: there is none.
func (sv *service) openAudit() (handler slog.Handler, end func(), err error) {
	if sv.c.AuditLog == config.AuditToLog {
		return sv.log.Handler(), func() {}, nil
	}
	return openAuditFile(sv.c.AuditFile())
}

// openAuditFile opens an audit log in a file; "": there is none.
func openAuditFile(path string) (handler slog.Handler, end func(), err error) {
	if path == "" {
		return nil, func() {}, nil
	}
	file, err := logwriter.OpenFile(logwriter.FileOptions{Path: path, Size: auditSize, Keep: auditKept})
	if err != nil {
		return nil, nil, fmt.Errorf("audit log: %w", err)
	}
	return slog.NewJSONHandler(file, nil), func() { _ = file.Close() }, nil // each line was written, or counted as lost
}

// checkAuditOf is checkAuditFile for a configuration.
func checkAuditOf(c *config.Config) error {
	dir, err := datadir.ResolveDir(c.DataDir)
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return checkAuditFile(c.AuditFile(), dir)
}

// checkAuditFile refuses a file in the data directory: it would keep the volume in use when that is to be unmounted, and
// whoever can fill the one would fill the other.
func checkAuditFile(path, data string) error {
	if path == "" {
		return nil
	}
	absolute, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("audit log: %w", err)
	}
	if dir, err := filepath.EvalSymlinks(filepath.Dir(absolute)); err == nil {
		absolute = filepath.Join(dir, filepath.Base(absolute))
	}
	if inside, err := filepath.Rel(data, absolute); err == nil && inside != ".." && !strings.HasPrefix(inside, "../") {
		return fmt.Errorf("audit log: %s is in the data directory; choose another place, such as /var/log/packhouse/audit.log", path)
	}
	return nil
}
