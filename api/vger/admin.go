package vger

import (
	"errors"
	"net/http"
	"time"

	"packhouse/repo"
)

// repositories answers GET / of a server of many: the names of those the principal may list, sorted.
func (x *request) repositories() error {
	x.log("repositories")
	names, err := x.t.Set.Names()
	if err != nil {
		return err
	}
	listed := []string{}
	for _, name := range names {
		if x.t.Lists == nil || x.t.Lists(name) {
			listed = append(listed, name)
		}
	}
	return x.json(listed)
}

// init answers POST ?init: a repository without config, so that it may be repeated until config is written.
func (x *request) init() error {
	x.log("init")
	a, err := x.accessOrCreate("config")
	if err != nil {
		return err
	}
	if err := a.May("config", "wW"); err != nil {
		return err
	}
	_, err = a.Repository().Entry("config")
	if err == nil {
		return status(http.StatusConflict, "repo already initialized")
	}
	if !errors.Is(err, repo.ErrNotFound) {
		return err
	}
	x.empty(http.StatusCreated)
	return nil
}

// statistics is the answer to GET ?stats (contract, 7.1). Everything in it is a counter.
type statistics struct {
	TotalBytes   int64   `json:"total_bytes"`
	TotalObjects int64   `json:"total_objects"`
	TotalPacks   int64   `json:"total_packs"`
	LastBackupAt *string `json:"last_backup_at"`
	QuotaBytes   int64   `json:"quota_bytes"` // 0: unlimited
	QuotaUsed    int64   `json:"quota_used_bytes"`
	QuotaSource  string  `json:"quota_source"`
}

func (x *request) stats() error {
	x.log("stats")
	a, err := x.access()
	if err != nil {
		return err
	}
	if err := a.May("", "l"); err != nil {
		return err
	}
	packs, err := a.Repository().CountersOf("packs")
	if err != nil {
		return err
	}
	u := a.Usage()
	s := statistics{
		TotalBytes: u.Bytes - u.MissingBytes, TotalObjects: u.Items - u.MissingItems, TotalPacks: packs.Items - packs.MissingItems,
		QuotaUsed: u.Used, QuotaSource: "unlimited",
	}
	if u.Limit >= 0 {
		s.QuotaBytes, s.QuotaSource = u.Limit, "explicit"
	}
	if !u.LastBackup.IsZero() {
		at := u.LastBackup.UTC().Format(time.RFC3339Nano)
		s.LastBackupAt = &at
	}
	return x.json(s)
}
