package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// Repository is the description of a repository in the API.
type Repository struct {
	Name    string    `json:"name"`
	ID      string    `json:"id"`
	Dialect string    `json:"dialect"`
	Created time.Time `json:"created"`
	Usage   Usage     `json:"usage"`
	Health  Health    `json:"health"`
	Log     Log       `json:"log"`
	Scrubs  Scrubs    `json:"scrubs"`
	// History is the moment since which each change is recorded, and to which a rollback can go back; null: none is.
	History *time.Time `json:"history_since"`
	Grace   int64      `json:"grace_seconds"` // for which removed items can be restored
	Rights  string     `json:"rights"`        // letters that who asks has for all keys
	// Administrates tells whether who asks may do what needs all letters: these letters are not enough where the user is for clients only.
	Administrates bool `json:"administrates"`
	// Writers are the principals that have completed backups, those with the latest first, at most writersShown of WritersTotal.
	Writers      []Writer `json:"writers"`
	WritersTotal int      `json:"writers_total"`
	Grown        *Grown   `json:"grown,omitempty"` // absent: not recorded yet
	// Plans are the oldest open plans, in the answer for one repository only.
	Plans []OpenPlan `json:"plans,omitempty"`
}

// Writer is a principal that has completed backups.
type Writer struct {
	Name       string    `json:"name"`
	LastBackup time.Time `json:"last_backup"`
}

// writersShown is how many there are of a repository.
const writersShown = 10

// Usage is in items and bytes.
type Usage struct {
	Items      int64      `json:"items"`
	Bytes      int64      `json:"bytes"`
	Exempt     int64      `json:"bytes_exempt"` // of locks and sessions, which quota does not count
	TrashItems int64      `json:"trash_items"`
	TrashBytes int64      `json:"trash_bytes"`
	Quota      *int64     `json:"quota"`       // null: none
	TrashQuota *int64     `json:"trash_quota"` // bytes that the trash may hold; null: any number
	Counted    int64      `json:"bytes_counted"`
	Reserved   int64      `json:"bytes_reserved"`
	LastBackup *time.Time `json:"last_backup"`
	Missing    int64      `json:"missing_items"` // whose file is gone; quota does not count them
	Lost       int64      `json:"missing_bytes"`
	Damaged    int64      `json:"damaged_items"` // whose bytes are wrong, as far as known

	OpenPlans int64 `json:"open_plans"`
	Open      int64 `json:"bytes_open"`     // of their sources, part of Bytes
	Returned  int64 `json:"bytes_returned"` // of items that had been removed by a compaction and are back, part of Bytes
	KeptItems int64 `json:"kept_items"`     // after compactions
	KeptBytes int64 `json:"kept_bytes"`

	Unverified      int64 `json:"unverified_items"` // whose BLAKE3 is not known yet
	UnverifiedBytes int64 `json:"unverified_bytes"`
	Changes         int64 `json:"changes"` // in the history
}

// Log is the log in front of the index.
type Log struct {
	Segments    int   `json:"segments"`
	Bytes       int64 `json:"bytes"`
	PendingRows int   `json:"pending_rows"` // in the log alone, until the next checkpoint
	Items       int64 `json:"items"`        // small ones that lie in it, including those that can be restored
	Live        int64 `json:"live_bytes"`   // their sizes
}

// Scrubs is what scrubs have read of a repository.
type Scrubs struct {
	Items  int64      `json:"items"` // that were read, of those that are there
	Bytes  int64      `json:"bytes"`
	Since  *time.Time `json:"since"`             // when the scrub began that read the first of them; null: nothing was read
	Oldest *time.Time `json:"oldest_unverified"` // every byte was read, or written, after that; null: there is none
}

// Health tells whether a repository can be written to, and the reason if it cannot.
type Health struct {
	Writable bool       `json:"writable"`
	Damaged  bool       `json:"damaged,omitempty"` // the index is
	Reason   string     `json:"reason,omitempty"`
	Salvage  *time.Time `json:"salvage_until,omitempty"` // until then damaged items are served with their wrong bytes
	// Short says for what clients were refused within the last hour.
	Short []repo.Shortage `json:"short,omitempty"`
}

func describeRepository(name string, r *repo.Repository, a *repo.Access) Repository {
	u, h, l := r.Usage(), r.Health(), r.LogStatus()
	d := Repository{
		Name: name, ID: r.ID(), Dialect: r.Dialect(), Created: r.Created(), Grace: seconds(r.Grace()),
		Usage: Usage{
			Items: u.Items, Bytes: u.Bytes, Exempt: u.Exempt, TrashItems: u.TrashItems, TrashBytes: u.TrashBytes,
			Counted: u.Used, Reserved: u.Reserved, Missing: h.Missing, Lost: u.MissingBytes, Damaged: h.Damaged,
			OpenPlans: u.Plans, Open: u.OpenBytes, Returned: u.ReturnedBytes, KeptItems: u.KeptItems, KeptBytes: u.KeptBytes,
			Unverified: u.UnverifiedItems, UnverifiedBytes: u.UnverifiedBytes, Changes: u.Changes,
		},
		Log:    Log{Segments: l.Segments, Bytes: l.Bytes, PendingRows: l.PendingRows},
		Health: Health{Writable: !h.ReadOnly, Damaged: h.IndexDamaged, Reason: h.Reason, Short: r.Short()},
	}
	d.Scrubs = describeScrubs(r.Coverage())
	d.Rights = rights(a.May)
	d.Administrates = d.Rights == administrator && !a.Principal().ClientOnly
	d.Writers = []Writer{}
	if writers, total, err := r.LatestWriters(writersShown); err == nil { // else health says it
		for _, w := range writers {
			d.Writers = append(d.Writers, Writer{w.Name, w.Last})
		}
		d.WritersTotal = total
	}
	if days, err := r.Growth(); err == nil {
		d.Grown = grown(days)
	}
	if since, err := r.HistorySince(); err == nil && !since.IsZero() {
		d.History = &since
	}
	if !h.Salvaged.IsZero() {
		d.Health.Salvage = &h.Salvaged
	}
	if log, err := r.LogUsage(); err == nil { // else health says it
		d.Log.Items, d.Log.Live = log.Items, log.Live
	}
	if u.Limit >= 0 {
		d.Usage.Quota = &u.Limit
	}
	if u.TrashLimit >= 0 {
		d.Usage.TrashQuota = &u.TrashLimit
	}
	if !u.LastBackup.IsZero() {
		d.Usage.LastBackup = &u.LastBackup
	}
	return d
}

// seconds is how the API writes durations.
func seconds(d time.Duration) int64 { return int64(d / time.Second) }

func describeScrubs(c repo.Coverage) Scrubs {
	s := Scrubs{Items: c.Items, Bytes: c.Bytes}
	if !c.Since.IsZero() {
		s.Since = &c.Since
	}
	if !c.Oldest.IsZero() {
		s.Oldest = &c.Oldest
	}
	return s
}

// rights are the letters that may grants for all keys.
func rights(may func(key, letters string) error) (letters string) {
	for _, letter := range administrator {
		if may("", string(letter)) == nil {
			letters += string(letter)
		}
	}
	return letters
}

// Self is who sends a request.
type Self struct {
	Name   string `json:"name"`
	Rights string `json:"rights"` // letters, in the server as a whole
	// Administrates tells whether these, and who the user is, are enough for what needs all letters in the server.
	Administrates bool `json:"administrates"`
}

func (q *request) showSelf(string) error {
	return q.reply(http.StatusOK, Self{q.principal.Name, rights(q.whole.May), q.mayAll()})
}

// unopened is a repository that is there and cannot be used now.
type unopened struct {
	Name  string  `json:"name"`
	Error Problem `json:"error"`
}

// listRepositories shows the repositories that the principal may list.
func (q *request) listRepositories(string) error {
	names, err := q.h.o.Set.Names()
	if err != nil {
		return err
	}
	if q.h.o.Removals != nil {
		names = append(names, q.h.o.Removals.Vanished(names)...)
		slices.Sort(names)
	}
	var listed []string
	for _, name := range names {
		if q.authorized(nil, name).Permissions.Allows("", "l") {
			listed = append(listed, name)
		}
	}
	descriptions := q.h.o.Set.Ask(listed, q.listed)
	if err := q.Context().Err(); err != nil {
		return err
	}
	shown := []any{}
	for _, name := range listed {
		d, answered := descriptions[name]
		if !answered {
			d = unopened{name, describe(datadir.ErrSilent)}
		}
		if d != nil {
			shown = append(shown, d)
		}
	}
	return q.reply(http.StatusOK, map[string]any{"repositories": shown})
}

// listed describes a repository, or says why it cannot be used; nil: it is not shown.
func (q *request) listed(name string) any {
	r, err := q.h.o.Set.Get(q.Context(), name)
	switch {
	case errors.Is(err, repo.ErrNoRepository) && !errors.Is(err, repo.ErrVanished): // gone this moment
		return nil
	case err != nil:
		return unopened{name, describe(err)}
	}
	a := r.As(q.authorized(r, name))
	if a.May("", "l") != nil {
		return nil
	}
	return describeRepository(name, r, a)
}

func (q *request) showRepository(string) error {
	plans, err := q.repo.OldestPlans(plansShown)
	if err != nil {
		return err
	}
	d := describeRepository(q.name, q.repo, q.access)
	for _, p := range plans {
		d.Plans = append(d.Plans, describePlan(p))
	}
	return q.reply(http.StatusOK, d)
}

// small is the longest body of a request that is not a plan, in bytes.
const small = 64 << 10

// document reads a small JSON object; members it does not know are an error.
func (q *request) document(v any) error { return q.documentUpTo(v, small) }

// documentUpTo is document for one of at most so many bytes.
func (q *request) documentUpTo(v any, most int64) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, q.Body, most))
	d.DisallowUnknownFields()
	if err := d.Decode(v); errors.As(err, new(*http.MaxBytesError)) {
		return &statusError{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is longer than %d bytes", most)}
	} else if err != nil {
		return invalid("malformed body: %v", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return invalid("malformed body: text after it")
	}
	return nil
}

// setQuota stores limits; null is none, and "default" that of the configuration. Over the network the trash cannot be made
// to hold less: that would be a way to empty it.
func (q *request) setQuota(string) error {
	var body struct {
		Quota json.RawMessage `json:"quota"`
		Trash json.RawMessage `json:"trash_quota"`
	}
	if err := q.document(&body); err != nil {
		return err
	}
	changes := repo.LimitChanges{KeepTrash: !api.IsTrusted(q.Context())}
	for _, limit := range []struct {
		name  string
		value json.RawMessage
		to    **repo.LimitChange
	}{{"quota", body.Quota, &changes.Quota}, {"trash_quota", body.Trash, &changes.Trash}} {
		n := int64(-1)
		switch string(limit.value) {
		case "":
			continue
		case `"default"`:
			*limit.to = &repo.LimitChange{}
			continue
		case "null":
		default:
			if err := json.Unmarshal(limit.value, &n); err != nil || n < 0 {
				return invalid(`%s is a number of bytes, null for none, or "default"`, limit.name)
			}
		}
		*limit.to = &repo.LimitChange{Bytes: &n}
	}
	if changes.Quota == nil && changes.Trash == nil {
		return invalid("quota or trash_quota is needed")
	}
	switch err := q.repo.ChangeLimits(q.Context(), changes); {
	case errors.Is(err, repo.ErrDenied):
		return fmt.Errorf("%w: only packhouse repo quota on the server itself does that", err)
	case err != nil:
		return err
	}
	return q.showRepository("")
}

// listLocks shows what clients hold, or a page of it.
func (q *request) listLocks(string) error {
	values, err := q.query("limit", "skip")
	if err != nil {
		return err
	}
	limit, skip, err := window(values)
	if err != nil {
		return err
	}
	locks, w := []api.LockInfo{}, &api.LockWindow{Skip: skip, Limit: limit}
	if q.h.o.Locks != nil {
		held, err := q.h.o.Locks(q.Context(), q.access, w)
		if err != nil {
			return err
		}
		locks = append(locks, held...)
	}
	for i := range locks {
		q.judge(&locks[i])
	}
	return q.reply(http.StatusOK, api.LockList{Locks: locks, Total: w.Total})
}

// judge adds to a lock what was seen of who took it, and how to break it.
func (q *request) judge(l *api.LockInfo) {
	if q.h.o.Break != nil {
		l.Break = api.BreakCommand(q.name, l.ID)
	}
	switch {
	case q.h.o.Activity == nil:
		return
	case l.Principal == "":
		l.Silence = "not known who took it"
		return
	}
	a := q.h.o.Activity(q.name, l.Principal, l.Address)
	l.SeenSince, l.Silence = &a.Since, a.Silence(q.repo.Now())
	if !a.Request.IsZero() {
		l.LastRequest = &a.Request
	}
	if !a.Change.IsZero() {
		l.LastChange = &a.Change
	}
}

// breakLock ends what a client holds.
func (q *request) breakLock(string) error {
	var body struct {
		ID string `json:"id"`
	}
	if err := q.document(&body); err != nil {
		return err
	}
	q.log.Key = body.ID
	if q.h.o.Locks == nil || q.h.o.Break == nil {
		return errNoPath
	}
	held, err := q.h.o.Locks(q.Context(), q.access, nil)
	if err != nil {
		return err
	}
	for _, lock := range held {
		if lock.ID == body.ID {
			if err := q.h.o.Break(q.Context(), q.access, lock); err != nil {
				return err
			}
			api.WriteText(q.w, q.Request, http.StatusNoContent, "")
			return nil
		}
	}
	return fmt.Errorf("lock %s: %w", body.ID, repo.ErrNotFound)
}

// Removed is one row of the trash.
type Removed struct {
	ID       string    `json:"id"`
	Key      string    `json:"key"`
	Size     int64     `json:"size"`
	Modified time.Time `json:"modified"`
	Removed  time.Time `json:"removed"`
	Expires  time.Time `json:"expires"`
}

// listTrash streams the items that can be restored, one JSON document each; or answers with a page of them.
func (q *request) listTrash(string) error {
	values, err := q.query("limit", "after", "prefix")
	if err != nil {
		return err
	}
	if _, ok := values["limit"]; ok {
		return q.pageOfTrash(values)
	}
	if len(values) > 0 {
		return invalid("after and prefix are for a page, and need limit")
	}
	return q.lines(func(say func(any) error) error {
		return q.repo.Trash(func(row index.Removed) error {
			return say(Removed{row.ID, row.Key, row.Item.Size, row.Item.Modified, row.At, row.Expires})
		})
	})
}

// lines streams what each says, one JSON document a line.
func (q *request) lines(each func(say func(v any) error) error) error {
	api.Finish(q.w, q.Request)
	q.w.Header().Set("Content-Type", "application/x-ndjson")
	q.w.WriteHeader(http.StatusOK)
	if q.Method == http.MethodHead {
		return nil
	}
	encoder := json.NewEncoder(q.w)
	err := each(func(v any) error {
		if err := q.Context().Err(); err != nil {
			return err
		}
		return encoder.Encode(v)
	})
	if err != nil {
		api.Cut(q.Request, err) // so that the client does not take it for whole
	}
	return nil
}

// emptyTrash removes for good what was removed until now, or before a time.
func (q *request) emptyTrash(string) error {
	values, err := q.query("removed_before")
	if err != nil {
		return err
	}
	before := q.repo.Now().Add(time.Millisecond) // what was removed this moment too
	if text, ok := values["removed_before"]; ok {
		if before, err = time.Parse(time.RFC3339, text); err != nil {
			return invalid("removed_before is a time such as 2026-11-25T18:00:00Z, not %q", text)
		}
	}
	emptied, err := q.repo.EmptyTrash(q.Context(), before)
	if err != nil {
		return err
	}
	return q.reply(http.StatusOK, map[string]any{"items": emptied.Items, "bytes": emptied.Bytes})
}

// restore puts a removed item back.
func (q *request) restore(id string) error {
	var body struct {
		Key string `json:"key"`
	}
	if q.ContentLength != 0 {
		if err := q.document(&body); err != nil {
			return err
		}
	}
	key := body.Key
	if key == "" {
		stop := errors.New("found")
		err := q.repo.Trash(func(row index.Removed) error {
			if row.ID == id {
				key = row.Key
				return stop
			}
			return nil
		})
		if err != nil && !errors.Is(err, stop) {
			return err
		}
	}
	item, err := q.repo.Restore(q.Context(), id, body.Key)
	if err != nil {
		return fmt.Errorf("restore %s: %w", id, err)
	}
	return q.reply(http.StatusOK, map[string]any{"key": key, "size": item.Size, "modified": item.Modified})
}
