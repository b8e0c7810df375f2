package local

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"time"

	"packhouse/api"
	"packhouse/api/holder"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// Paths that only the commands of packhouse can use, over a holder's socket. They are for operations that the API of package
// admin does not offer over the network. Each is a POST of a Request.
const (
	PathCreate  = "/-/local/create"
	PathDestroy = "/-/local/destroy"
	PathRemoved = "/-/local/removed"     // answers with a RemovedList
	PathRestore = "/-/local/restore"     // answers with a datadir.Removed
	PathPurge   = "/-/local/purge"       // answers with a datadir.Removed
	PathSalvage = "/-/local/salvage"     // answers with a SalvageAnswer
	PathLoss    = "/-/local/accept-loss" // answers with a repo.LossReport
	PathAdopt   = "/-/local/adopt"       // begins an adoption, which the command carries out
	PathAbandon = "/-/local/abandon"     // frees the name of one that the command has given up
	PathOrigin  = "/-/local/origin"      // answers with an OriginAnswer
	PathExport  = "/-/local/export"      // answers with ExportEvents, one a line
	PathBackup  = "/-/local/backup"      // answers with BackupEvents, one a line
	PathCheck   = "/-/local/check"       // answers with CheckEvents, one a line; 409: there is such a repository, but it cannot be opened
)

// Prefix is that of all these paths.
const Prefix = "/-/local/"

// Request is the body of a request.
type Request struct {
	Name    string `json:"name"` // of the repository
	Dialect string `json:"dialect,omitempty"`
	Verify  bool   `json:"verify,omitempty"` // of a check: read all bytes; of an export: read what was written; of a backup: all its files
	For     string `json:"for,omitempty"`    // a time to salvage; "0s" ends it
	Forget  bool   `json:"forget,omitempty"` // of a loss: the rows, too
	Dry     bool   `json:"dry,omitempty"`    // of a loss, an export or a backup: say what would be
	Now     bool   `json:"now,omitempty"`    // of a removal: without grace time
	As      string `json:"as,omitempty"`     // of what is restored: its new name; empty: the one that it had
	Source  string `json:"source,omitempty"` // of an adoption: the directory
	// Finished, of an origin: the source has been removed.
	Finished bool   `json:"finished,omitempty"`
	Layout   string `json:"layout,omitempty"`    // of an export
	Dir      string `json:"dir,omitempty"`       // of an export or a backup: absolute
	Copy     bool   `json:"copy,omitempty"`      // of an export or a backup: no links
	TakeOver bool   `json:"take_over,omitempty"` // of a backup: it becomes one of this repository
}

// OriginAnswer says where a repository was adopted from.
type OriginAnswer struct {
	Origin *layout.Origin `json:"origin"` // null: it was not
}

// SalvageAnswer says until when damaged items are served.
type SalvageAnswer struct {
	Until time.Time `json:"until,omitzero"` // zero, and absent: they are not
}

// RemovedList has the repositories that were destroyed and can be restored.
type RemovedList struct {
	Removed []datadir.Removed `json:"removed"`
}

// CheckEvent is one line of a check's answer: progress, a problem, what to do, or the end.
type CheckEvent struct {
	Repository string `json:"repository,omitempty"` // for scripts; the server leaves it out
	Progress   bool   `json:"progress,omitempty"`
	Problem    string `json:"problem,omitempty"`
	Advice     string `json:"advice,omitempty"` // what mends the problems
	Broken     string `json:"broken,omitempty"` // why the check could not be finished; it is the last
	Done       bool   `json:"done,omitempty"`
	Items      int64  `json:"items,omitempty"`
	Bytes      int64  `json:"bytes,omitempty"` // read so far
	Total      int64  `json:"total,omitempty"`
	Problems   int    `json:"problems"`
}

// operations are the names of the operations of these paths, for the log and the metrics.
var operations = map[string]string{PathCreate: "create", PathDestroy: "destroy", PathRemoved: "removed", PathRestore: "restore-repository", PathPurge: "purge", PathCheck: "check", PathExport: "export", PathBackup: "backup", PathSalvage: "salvage", PathLoss: "accept-loss",
	PathAdopt: "adopt", PathAbandon: "abandon", PathOrigin: "origin"}

// Repositories is what this API asks of the set of repositories.
type Repositories interface {
	Get(ctx context.Context, name string) (*repo.Repository, error)
	Create(ctx context.Context, name, dialect string) (*repo.Repository, error)
	Destroy(ctx context.Context, name string) error
	DestroyNow(ctx context.Context, name string) error
	Removed() ([]datadir.Removed, error)
	RestoreRemoved(ctx context.Context, name, as string) (datadir.Removed, error)
	PurgeRemoved(name string) (datadir.Removed, error)
	Forget(name string) error
	BeginAdoption(name, source string) error
	EndAdoption(name string) error
	// Attached returns a repo.ErrDetached if the data directory is missing or not the one that was opened.
	Attached() error
}

// NewHandler creates the handler for requests of the commands on a holder's socket. yield releases the directory after running
// requests have ended; nil: the holder has its own clients, and cannot be asked to end. background is called by a request that works while clients are
// served: what it reads waits for pace, until it calls end.
func NewHandler(set Repositories, yield func(), background func() (pace func(ctx context.Context, n int64) error, end func())) http.Handler {
	h := &handler{set, yield, background}
	mux := http.NewServeMux()
	mux.HandleFunc("POST "+holder.PathYield, h.letGo)
	mux.HandleFunc("POST "+PathCheck, h.check)
	mux.HandleFunc("POST "+PathExport, h.export)
	mux.HandleFunc("POST "+PathBackup, h.backup)
	for path, do := range map[string]func(context.Context, Request) (any, error){
		PathCreate: h.create, PathDestroy: h.destroy, PathRemoved: h.removed, PathRestore: h.restore, PathPurge: h.purge, PathSalvage: h.salvage, PathLoss: h.acceptLoss,
		PathAdopt: h.adopt, PathAbandon: h.endAdoption, PathOrigin: h.origin,
	} {
		mux.HandleFunc("POST "+path, func(w http.ResponseWriter, r *http.Request) { answer(w, r, path, do) })
	}
	return mux
}

type handler struct {
	set        Repositories
	yield      func()
	background func() (pace func(ctx context.Context, n int64) error, end func())
}

func (h *handler) letGo(w http.ResponseWriter, r *http.Request) {
	if h.yield == nil {
		api.WriteText(w, r, http.StatusConflict, "it serves clients of its own; stop it first")
		return
	}
	api.WriteText(w, r, http.StatusOK, "finishing what is under way")
	h.yield()
}

func (h *handler) create(ctx context.Context, q Request) (any, error) {
	_, err := h.set.Create(ctx, q.Name, q.Dialect)
	return nil, err
}

func (h *handler) destroy(ctx context.Context, q Request) (any, error) {
	destroy := h.set.Destroy
	if q.Now {
		destroy = h.set.DestroyNow
	}
	err := destroy(ctx, q.Name)
	if errors.Is(err, repo.ErrVanished) {
		err = h.set.Forget(q.Name)
	}
	return nil, err
}

func (h *handler) removed(context.Context, Request) (any, error) {
	all, err := h.set.Removed()
	return RemovedList{append([]datadir.Removed{}, all...)}, err
}

func (h *handler) restore(ctx context.Context, q Request) (any, error) {
	return h.set.RestoreRemoved(ctx, q.Name, q.As)
}

func (h *handler) purge(_ context.Context, q Request) (any, error) { return h.set.PurgeRemoved(q.Name) }

func (h *handler) salvage(ctx context.Context, q Request) (any, error) {
	r, err := h.set.Get(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	d, err := time.ParseDuration(q.For)
	if err != nil {
		return nil, err
	}
	until, err := r.Salvage(ctx, d)
	return SalvageAnswer{until}, err
}

func (h *handler) acceptLoss(ctx context.Context, q Request) (any, error) {
	r, err := h.set.Get(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	return r.AcceptLoss(ctx, q.Forget, q.Dry)
}

func (h *handler) adopt(_ context.Context, q Request) (any, error) {
	return nil, h.set.BeginAdoption(q.Name, q.Source)
}

func (h *handler) endAdoption(_ context.Context, q Request) (any, error) {
	return nil, h.set.EndAdoption(q.Name)
}

func (h *handler) origin(ctx context.Context, q Request) (any, error) {
	r, err := h.set.Get(ctx, q.Name)
	if err != nil {
		return nil, err
	}
	text, err := r.Meta(layout.MetaAdopted)
	if err != nil || text == nil {
		return OriginAnswer{}, err
	}
	var o layout.Origin
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	if q.Finished && o.Finished.IsZero() {
		o.Finished = r.Now().UTC()
		if text, err = json.Marshal(o); err == nil {
			err = r.SetMeta(ctx, layout.MetaAdopted, text)
		}
	}
	return OriginAnswer{&o}, err
}

// answer decodes a request, and writes the result of do as JSON, or its error as text with 409.
func answer(w http.ResponseWriter, r *http.Request, path string, do func(context.Context, Request) (any, error)) {
	var result any
	q, err := decode(r)
	if err == nil {
		result, err = do(r.Context(), q)
	}
	record(r, path, q, err)
	if err != nil {
		api.WriteText(w, r, http.StatusConflict, err.Error())
		return
	}
	if result == nil {
		api.WriteText(w, r, http.StatusOK, "")
		return
	}
	text, err := json.Marshal(result)
	if err != nil {
		api.WriteText(w, r, http.StatusInternalServerError, api.InternalError)
		return
	}
	api.WriteBytes(w, r, http.StatusOK, "application/json", text)
}

// maxRequest bounds the body of a request, in bytes.
const maxRequest = 64 << 10

func decode(r *http.Request) (q Request, err error) {
	err = json.NewDecoder(io.LimitReader(r.Body, maxRequest)).Decode(&q)
	return q, err
}

// record puts the subject of a request into its line of the log.
func record(r *http.Request, path string, q Request, err error) {
	log := api.RecordFrom(r.Context())
	log.Operation, log.Repository = operations[path], q.Name
	if err != nil {
		log.Reason = err.Error()
	}
}

// check writes a line for each problem while the check runs.
func (h *handler) check(w http.ResponseWriter, r *http.Request) {
	q, err := decode(r)
	var repository *repo.Repository
	if err == nil {
		repository, err = h.set.Get(r.Context(), q.Name)
	}
	record(r, PathCheck, q, err)
	if err != nil {
		h.refuseCheck(w, r, err)
		return
	}
	out, flush := json.NewEncoder(w), http.NewResponseController(w).Flush
	c := &checker{r: repository, send: func(event CheckEvent) error { return errors.Join(out.Encode(event), flush()) }}
	w.Header().Set("Content-Type", "application/x-ndjson")
	if err := c.run(r.Context(), q.Verify); err != nil {
		_ = c.say(CheckEvent{Broken: err.Error()})
		panic(http.ErrAbortHandler) // cut short, so that the command does not take it for the whole
	}
}

func (h *handler) refuseCheck(w http.ResponseWriter, r *http.Request, err error) {
	status := http.StatusConflict
	switch {
	case errors.Is(err, repo.ErrVanished):
		status = http.StatusGone
	case errors.Is(err, repo.ErrNoRepository):
		status = http.StatusNotFound
	case errors.Is(err, repo.ErrInvalid):
		status = http.StatusBadRequest
	case errors.Is(err, repo.ErrBusy), r.Context().Err() != nil, h.set.Attached() != nil:
		status = http.StatusServiceUnavailable // and nothing wrong with it, as far as we know
	}
	text := err.Error()
	if damage, ok := errors.AsType[*repo.IndexError](err); ok {
		text += " (" + damage.Err.Error() + ")"
	}
	api.WriteText(w, r, status, text)
}
