package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"packhouse/api/admin"
	"packhouse/api/local"
	"packhouse/repo"
	"packhouse/repo/backup"
	"packhouse/repo/datadir"
	"packhouse/repo/export"
	"packhouse/repo/layout"
)

// Create creates an empty repository for clients of dialect.
func (c *Client) Create(ctx context.Context, name, dialect string) error {
	if c.Far {
		_, err := c.Request(ctx, http.MethodPost, Path("", "repositories"), admin.NewRepository{Name: name, Dialect: dialect}, nil)
		return err
	}
	_, err := c.Request(ctx, http.MethodPost, local.PathCreate, local.Request{Name: name, Dialect: dialect}, nil)
	return err
}

// Destroy removes a repository; now: without its grace time.
func (c *Client) Destroy(ctx context.Context, name string, now bool) error {
	if c.Far && !now {
		_, err := c.Request(ctx, http.MethodDelete, Path(name, ""), nil, nil)
		return err
	}
	_, err := c.Request(ctx, http.MethodPost, local.PathDestroy, local.Request{Name: name, Now: now}, nil)
	return err
}

// Removed returns the repositories that were destroyed and can be restored.
func (c *Client) Removed(ctx context.Context) ([]datadir.Removed, json.RawMessage, error) {
	var answer local.RemovedList
	var text json.RawMessage
	var err error
	if c.Far {
		text, err = c.Request(ctx, http.MethodGet, Path("", "removed"), nil, &answer)
	} else {
		text, err = c.Request(ctx, http.MethodPost, local.PathRemoved, local.Request{}, &answer)
	}
	return answer.Removed, text, err
}

// RestoreRemoved restores a repository that was destroyed, by name or ID, under another name or, if that is empty, its own.
func (c *Client) RestoreRemoved(ctx context.Context, name, as string) (r datadir.Removed, text json.RawMessage, err error) {
	if c.Far {
		text, err = c.Request(ctx, http.MethodPost, Path("", "removed/restore"), admin.RestoreRepository{Name: name, As: as}, &r)
		return r, text, err
	}
	text, err = c.Request(ctx, http.MethodPost, local.PathRestore, local.Request{Name: name, As: as}, &r)
	return r, text, err
}

// PurgeRemoved removes a repository for good that was destroyed, by name or ID.
func (c *Client) PurgeRemoved(ctx context.Context, name string) (r datadir.Removed, text json.RawMessage, err error) {
	text, err = c.Request(ctx, http.MethodPost, local.PathPurge, local.Request{Name: name}, &r)
	return r, text, err
}

// Salvage lets a repository serve damaged items with their wrong bytes for the duration d; 0 ends it. It returns the time until
// which they are served; zero: they are not.
func (c *Client) Salvage(ctx context.Context, name string, d time.Duration) (time.Time, json.RawMessage, error) {
	var answer local.SalvageAnswer
	if c.Far {
		text, err := c.Request(ctx, http.MethodPut, Path(name, "salvage"), map[string]int64{"seconds": int64(d / time.Second)}, &answer)
		return answer.Until, text, err
	}
	text, err := c.Request(ctx, http.MethodPost, local.PathSalvage, local.Request{Name: name, For: d.String()}, &answer)
	return answer.Until, text, err
}

// Missing returns what AcceptLoss would mark as lost.
func (c *Client) Missing(ctx context.Context, name string) (repo.LossReport, json.RawMessage, error) {
	return c.loss(ctx, local.Request{Name: name, Dry: true})
}

// AcceptLoss marks missing items as lost. forget: also remove the rows of all missing items.
func (c *Client) AcceptLoss(ctx context.Context, name string, forget bool) (repo.LossReport, json.RawMessage, error) {
	return c.loss(ctx, local.Request{Name: name, Forget: forget})
}

func (c *Client) loss(ctx context.Context, q local.Request) (r repo.LossReport, text json.RawMessage, err error) {
	if c.Far {
		text, err = c.Request(ctx, http.MethodPost, Path(q.Name, "accept-loss"), map[string]bool{"forget": q.Forget, "dry_run": q.Dry}, &r)
		return r, text, err
	}
	text, err = c.Request(ctx, http.MethodPost, local.PathLoss, q, &r)
	return r, text, err
}

// Check runs the check of a repository, and calls each with the events that it sends: progress, problems, advice, and the end. If
// the repository cannot be opened, the error has the status http.StatusConflict.
func (c *Client) Check(ctx context.Context, name string, verify bool, each func(local.CheckEvent) error) error {
	ended := false
	path, body := local.PathCheck, any(local.Request{Name: name, Verify: verify})
	if c.Far {
		path, body = Path(name, "check"), map[string]bool{"verify": verify}
	}
	err := c.Lines(ctx, http.MethodPost, path, body, func(line json.RawMessage) error {
		var event local.CheckEvent
		if err := json.Unmarshal(line, &event); err != nil {
			return err
		}
		if event.Broken != "" {
			return fmt.Errorf("the check could not be finished: %s", event.Broken)
		}
		ended = ended || event.Done
		return each(event)
	})
	if c.Far && Refused(err, http.StatusUnprocessableEntity) { // it is damaged
		err = &Refusal{http.StatusConflict, err.Error()}
	}
	if err == nil && !ended {
		err = errors.New("the check was interrupted before it was finished; run it again")
	}
	return err
}

// BeginAdoption keeps a name for the repository that is made from the directory source of another server.
func (c *Client) BeginAdoption(ctx context.Context, name, source string) error {
	_, err := c.Request(ctx, http.MethodPost, local.PathAdopt, local.Request{Name: name, Source: source}, nil)
	return err
}

// EndAdoption frees the name of an adoption that was given up.
func (c *Client) EndAdoption(ctx context.Context, name string) error {
	_, err := c.Request(ctx, http.MethodPost, local.PathAbandon, local.Request{Name: name}, nil)
	return err
}

// Origin returns where a repository was adopted from; nil: it was not. finished: also records that what was adopted has been removed there.
func (c *Client) Origin(ctx context.Context, name string, finished bool) (*layout.Origin, error) {
	var answer local.OriginAnswer
	_, err := c.Request(ctx, http.MethodPost, local.PathOrigin, local.Request{Name: name, Finished: finished}, &answer)
	return answer.Origin, err
}

// ExportOptions of Export. Layout and Dir are required.
type ExportOptions struct {
	Layout string // one of package adopt
	Dir    string // absolute, as the process that holds the repository sees it
	Copy   bool   // no links
	Verify bool   // read what was written
	DryRun bool   // only tell what would be done
}

// Export writes a repository into a directory as another server keeps it, and calls each with what is told meanwhile.
func (c *Client) Export(ctx context.Context, name string, o ExportOptions, each func(local.ExportEvent) error) (export.Report, error) {
	q := local.Request{Name: name, Layout: o.Layout, Dir: o.Dir, Copy: o.Copy, Verify: o.Verify, Dry: o.DryRun}
	report, err := transferred(ctx, c, local.PathExport, q, each)
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		err = fmt.Errorf("the export was given up, and there is no directory: %s", broken.why)
	}
	return report, err
}

// BackupOptions of Backup. Dir is required.
type BackupOptions struct {
	Dir      string // absolute, as the process that holds the repository sees it
	Copy     bool   // no links
	Verify   bool   // read the files of the backup first
	TakeOver bool   // make it the backup of this repository, which was restored from it
	DryRun   bool   // only tell what would be done
}

// Backup brings a backup of a repository up to date, and calls each with what is told meanwhile.
func (c *Client) Backup(ctx context.Context, name string, o BackupOptions, each func(local.BackupEvent) error) (backup.Report, error) {
	q := local.Request{Name: name, Dir: o.Dir, Copy: o.Copy, Verify: o.Verify, TakeOver: o.TakeOver, Dry: o.DryRun}
	report, err := transferred(ctx, c, local.PathBackup, q, each)
	if broken := (*brokenError)(nil); errors.As(err, &broken) {
		err = fmt.Errorf("the backup did not come to its end; a state that was complete is still there: %s", broken.why)
	}
	return report, err
}

// brokenError says why a transfer was given up after it had begun.
type brokenError struct{ why string }

func (e *brokenError) Error() string { return e.why }

// transferred asks for a transfer, calls each with its events, and returns its report.
func transferred[R any](ctx context.Context, c *Client, path string, q local.Request, each func(local.TransferEvent[R]) error) (report R, err error) {
	var done *R
	err = c.Lines(ctx, http.MethodPost, path, q, func(text json.RawMessage) error {
		var event local.TransferEvent[R]
		if err := json.Unmarshal(text, &event); err != nil {
			return err
		}
		if event.Broken != "" {
			return &brokenError{event.Broken}
		}
		done = event.Done
		return each(event)
	})
	if err == nil && done == nil {
		err = errors.New("it was interrupted before it was finished: the same command goes on with what it has copied")
	}
	if err != nil {
		return report, err
	}
	return *done, nil
}
