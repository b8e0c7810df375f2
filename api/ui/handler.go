package ui

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"log/slog"
	"net/http"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"packhouse/api"
	"packhouse/api/client"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed assets
var assetFiles embed.FS

// Root is the path of the first page; all others begin with it.
const Root = "/-/ui/"

// cookieName is that of the session's cookie, without its prefix.
const cookieName = "packhouse_session"

// Options of New. Server is required.
type Options struct {
	// Server returns the handler of the API. It is called by requests, which come through that very server, so that it need not be there
	// when New is called.
	Server func() http.Handler
	// ProxyHeader returns the header in which trusted proxies name the user that they have authenticated, "" where they do not; nil: they
	// do not. The API decides whom it believes.
	ProxyHeader func() string
	Now         func() time.Time // nil means time.Now
	Logger      *slog.Logger     // nil means silence
}

// Handler serves the pages. It is safe for concurrent use.
type Handler struct {
	o        Options
	sessions sessions
	mux      *http.ServeMux
	pages    map[string]*template.Template // by name
	assets   map[string]asset              // by name
	origin   *http.CrossOriginProtection

	stop    context.CancelFunc // of what goes on when the request that began it has been answered
	ctx     context.Context
	running sync.WaitGroup
}

// asset is a file that does not change while the server runs.
type asset struct {
	body    []byte
	kind    string // media type
	version string // a part of its hash: a browser may keep it under a URL with that
}

// New creates the handler. It must be closed.
func New(o Options) (*Handler, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.ProxyHeader == nil {
		o.ProxyHeader = func() string { return "" }
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	h := &Handler{
		o: o, sessions: sessions{now: o.Now, of: make(map[[sha256.Size]byte]*session)}, pages: make(map[string]*template.Template),
		assets: make(map[string]asset), origin: http.NewCrossOriginProtection(),
	}
	h.ctx, h.stop = context.WithCancel(context.Background())
	if err := errors.Join(h.readAssets(), h.readTemplates()); err != nil {
		return nil, fmt.Errorf("pages for people: %w", err)
	}
	h.mux = h.routes()
	return h, nil
}

// Close ends what goes on in the background, and waits for it until ctx ends. A rollback that has begun is the repository's: what is left of it
// when that closes is done at its next start.
func (h *Handler) Close(ctx context.Context) error {
	h.stop()
	ended := make(chan struct{})
	go func() {
		h.running.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("a rollback is still under way: %w", ctx.Err())
	}
}

func (h *Handler) readAssets() error {
	return fs.WalkDir(assetFiles, "assets", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := assetFiles.ReadFile(name)
		if err != nil {
			return err
		}
		kind := map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}[path.Ext(name)]
		sum := sha256.Sum256(body)
		h.assets[path.Base(name)] = asset{body, kind, hex.EncodeToString(sum[:6])}
		return nil
	})
}

// readTemplates makes a template of each page, with the layout and the parts that pages share.
func (h *Handler) readTemplates() error {
	shared, err := template.New("").Funcs(h.functions()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return err
	}
	files, err := fs.Glob(templateFiles, "templates/*.html")
	if err != nil {
		return err
	}
	for _, file := range files {
		name := strings.TrimSuffix(path.Base(file), ".html")
		if name == "layout" || name == "parts" {
			continue
		}
		page, err := shared.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, file)
		}
		if err != nil {
			return err
		}
		h.pages[name] = page
	}
	return nil
}

// routes are the paths. A repository's name is always a parameter: in a path it could have two parts, and escapes that proxies change.
func (h *Handler) routes() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", h.front)
	mux.HandleFunc("GET /-/ui", func(w http.ResponseWriter, r *http.Request) { redirect(w, r, link("")) })
	mux.HandleFunc("GET "+Root+"assets/{name}", h.asset)
	mux.HandleFunc("GET "+Root+"login", h.loginPage)
	mux.HandleFunc("POST "+Root+"login", h.login)
	for pattern, serve := range shownPages() {
		mux.HandleFunc("GET "+Root+pattern, h.visited(serve))
	}
	for pattern, serve := range forms() {
		mux.HandleFunc("POST "+Root+pattern, h.visited(serve))
	}
	mux.HandleFunc(Root, h.nothingHere)
	return mux
}

// shownPages are the pages of sessions.
func shownPages() map[string]func(*visit) error {
	return map[string]func(*visit) error{
		"{$}":             (*visit).overview,
		"repository":      (*visit).repositoryPage,
		"jobs":            (*visit).jobs,
		"job":             (*visit).job,
		"job/events":      (*visit).jobEvents,
		"jobs/cancel":     (*visit).confirmCancel,
		"scrub":           (*visit).confirmScrub,
		"plan":            (*visit).planPage,
		"trash":           (*visit).trash,
		"trash/restore":   (*visit).confirmRestore,
		"history":         (*visit).history,
		"rollback":        (*visit).rollbackPage,
		"rollback/state":  (*visit).rollbackState,
		"lock":            (*visit).confirmLock,
		"locks":           (*visit).locks,
		"writers":         (*visit).writers,
		"plans":           (*visit).plans,
		"kept":            (*visit).kept,
		"quota":           (*visit).confirmQuota,
		"selection":       (*visit).confirmSelection,
		"repair":          (*visit).repair,
		"check":           (*visit).confirmCheck,
		"check/state":     (*visit).checkState,
		"salvage":         (*visit).confirmSalvage,
		"loss":            (*visit).lossPage,
		"destroy":         (*visit).confirmDestroy,
		"new":             (*visit).newPage,
		"removed":         (*visit).removed,
		"removed/restore": (*visit).confirmRestoreRepository,
		"tokens":          (*visit).tokens,
		"tokens/new":      (*visit).newToken,
		"tokens/revoke":   (*visit).confirmRevoke,
		"alerts":          (*visit).alerts,
		"alerts/test":     (*visit).confirmTestAlerts,
	}
}

// forms are what the forms of pages are sent to. Each changes something.
func forms() map[string]func(*visit) error {
	return map[string]func(*visit) error{
		"logout":          (*visit).logout,
		"jobs/cancel":     (*visit).cancel,
		"scrub":           (*visit).scrub,
		"plan/estimate":   (*visit).estimate,
		"plan":            (*visit).plan,
		"trash/restore":   (*visit).restore,
		"rollback":        (*visit).rollback,
		"lock":            (*visit).breakLock,
		"quota":           (*visit).setQuota,
		"selection":       (*visit).restoreSelection,
		"check":           (*visit).check,
		"check/stop":      (*visit).stopCheck,
		"salvage":         (*visit).salvage,
		"loss":            (*visit).acceptLoss,
		"destroy":         (*visit).destroy,
		"new":             (*visit).create,
		"removed/restore": (*visit).restoreRepository,
		"tokens/new":      (*visit).createToken,
		"tokens/revoke":   (*visit).revokeToken,
		"alerts/test":     (*visit).testAlerts,
	}
}

// contentPolicy lets a page use nothing but our style sheet, our script and our pages: no code or style in the text of a page counts, wherever it
// came from.
const contentPolicy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'self'; frame-ancestors 'none'"

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("Content-Security-Policy", contentPolicy)
	header.Set("X-Frame-Options", "DENY")
	header.Set("X-Content-Type-Options", "nosniff")
	header.Set("Referrer-Policy", "same-origin")
	header.Set("Cross-Origin-Opener-Policy", "same-origin")
	header.Set("Cross-Origin-Resource-Policy", "same-origin")
	header.Set("Cache-Control", "no-store")
	if err := h.origin.Check(r); err != nil {
		api.RecordFrom(r.Context()).Reason = err.Error()
		h.show(w, r, nil, http.StatusForbidden, "problem", "Not from here", problem{Text: "The browser says that another site has sent this form. Nothing was changed. " +
			"If you have used a page of this server: a proxy in front of it must pass the header Host unchanged."})
		return
	}
	h.mux.ServeHTTP(w, r)
}

func (h *Handler) asset(w http.ResponseWriter, r *http.Request) {
	a, ok := h.assets[r.PathValue("name")]
	if !ok {
		h.nothingHere(w, r)
		return
	}
	if r.URL.Query().Get("v") == a.version {
		w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	api.WriteBytes(w, r, http.StatusOK, a.kind, a.body)
}

// front tells who has entered the server's address what it is.
func (h *Handler) front(w http.ResponseWriter, r *http.Request) {
	h.show(w, r, nil, http.StatusOK, "front", "Packhouse", nil)
}

func (h *Handler) nothingHere(w http.ResponseWriter, r *http.Request) {
	h.show(w, r, nil, http.StatusNotFound, "problem", "Not found", problem{Text: "There is no such page."})
}

// problem is what the page of that name shows.
type problem struct {
	Text string
	Back string // a path; "": the first page
}

// visit is one request of a session.
type visit struct {
	*client.Client
	h *Handler
	w http.ResponseWriter
	r *http.Request
	s *session
	// Of the repository that the request is about, as far as it was asked for.
	name string
	repo *client.Repository
}

// visited serves requests of sessions; others are sent to the login form.
func (h *Handler) visited(serve func(*visit) error) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s := h.sessionOf(r)
		if s == nil {
			h.loginFirst(w, r)
			return
		}
		if s.authorization == "" && s.vouched != h.voucher(r) {
			h.endSession(w, r)
			h.showLogin(w, r, http.StatusUnauthorized, "The session has ended, as it is of another user than the certificate of the browser, or the proxy, names now. Nothing was changed.")
			return
		}
		v := &visit{h: h, w: w, r: r, s: s, Client: h.client(h.senderOf(r, s.authorization))}
		err := r.ParseForm()
		if err != nil {
			err = wrongInput("the form cannot be read, or is larger than 1 MiB; nothing was changed")
		}
		v.name = r.Form.Get("name")
		if err == nil && r.Method == http.MethodPost {
			// Used up before anything is asked of the API, so that of two that come at once only one is carried out.
			err = s.take(r.URL.Path, r.PostFormValue("form"))
		}
		if err == nil {
			err = serve(v)
		}
		if err != nil {
			v.fail(err)
		}
	}
}

// fail shows an error in words.
func (v *visit) fail(err error) {
	api.RecordFrom(v.r.Context()).Reason = err.Error()
	p, status, title := problem{Text: err.Error(), Back: v.home()}, http.StatusBadGateway, "That did not work"
	var refused *client.Refusal
	var wrong *inputError
	switch {
	case errors.As(err, &refused):
		status = refused.Status
	case errors.As(err, &wrong):
		status = http.StatusBadRequest
	case errors.Is(err, errForeignForm):
		status, title = http.StatusForbidden, "Nothing was changed"
	case errors.Is(err, errSentTwice):
		status, title = http.StatusConflict, "Already done"
	}
	switch status {
	case http.StatusUnauthorized:
		// Also of a token that was revoked, or has expired, since the login.
		v.h.endSession(v.w, v.r)
		v.h.showLogin(v.w, v.r, http.StatusUnauthorized, "The session has ended, as the server does not accept its credentials any more: "+sentence(err.Error())+" Nothing was changed.")
		return
	case http.StatusForbidden:
		if refused != nil {
			title, p.Text = "Not permitted", "You may not do that: "+sentence(err.Error())
		}
	case http.StatusNotFound:
		title = "Not there"
	}
	v.h.show(v.w, v.r, v, status, "problem", title, p)
}

// home is the page of the repository that a request is about.
func (v *visit) home() string {
	if v.name == "" {
		return link("")
	}
	return link("repository", "name", v.name)
}

// inputError is what a person has entered wrongly.
type inputError struct{ text string }

func (e *inputError) Error() string { return e.text }

func wrongInput(format string, args ...any) error { return &inputError{fmt.Sprintf(format, args...)} }

// repository asks for the repository of the request, which each of its pages shows something of.
func (v *visit) repository() (*client.Repository, error) {
	r, _, err := v.Repository(v.r.Context(), v.name)
	if err != nil {
		return nil, err
	}
	v.repo = &r
	return v.repo, nil
}

// page shows a page.
func (v *visit) page(name, title string, of any) error {
	v.h.show(v.w, v.r, v, http.StatusOK, name, title, of)
	return nil
}

// done leaves a message and goes to another page, so that loading that again sends no form again.
func (v *visit) done(to, format string, args ...any) error {
	v.s.say(fmt.Sprintf(format, args...))
	v.redirect(to)
	return nil
}

func (v *visit) redirect(to string) { redirect(v.w, v.r, to) }

// redirect answers with the URL of another page, as link makes it.
func redirect(w http.ResponseWriter, r *http.Request, to string) {
	w.Header().Set("Location", base(r)+strings.TrimPrefix(to, "./"))
	w.WriteHeader(http.StatusSeeOther)
}

// view is what templates get.
type view struct {
	Title string
	Page  any
	Now   time.Time
	// Base is the URL of Root, relative to that of the request, and Here that of the request, relative to Root.
	Base, Here string
	visit      *visit
}

// User is who has logged in; "": nobody.
func (v view) User() string {
	if v.visit == nil {
		return ""
	}
	return v.visit.s.name
}

// Token is for the form that is sent to a path below Root.
func (v view) Token(action string) string { return v.visit.s.token(Root + action) }

// Flash is the message that the last form has left.
func (v view) Flash() string {
	if v.visit == nil {
		return ""
	}
	return v.visit.s.said()
}

// Repo is the repository of the page; nil: it is of none.
func (v view) Repo() *client.Repository {
	if v.visit == nil {
		return nil
	}
	return v.visit.repo
}

// Name is that of the repository of the page.
func (v view) Name() string { return v.visit.name }

// Admin tells whether the user may do everything in the repository of the page.
func (v view) Admin() bool { return v.visit != nil && v.visit.admin() }

func (v *visit) admin() bool { return v.repo != nil && v.repo.Administrates }

// Server tells whether the user may do everything in the server as a whole, as far as was last known.
func (v view) Server() bool { return v.visit != nil && v.visit.s.server.Load() }

// What those are told who may not administrate, instead of being asked for a confirmation. The API would refuse it as well.
var (
	errReadOnly  = &client.Refusal{Status: http.StatusForbidden, Text: "it is for who may do everything in the repository"}
	errNotServer = &client.Refusal{Status: http.StatusForbidden, Text: "it is for who may do everything on the server"}
)

// administrated asks for the repository of the request, for a page that leads to a change.
func (v *visit) administrated() (*client.Repository, error) {
	r, err := v.repository()
	if err == nil && !v.admin() {
		err = errReadOnly
	}
	return r, err
}

// show renders a page, whole before its first byte is sent.
func (h *Handler) show(w http.ResponseWriter, r *http.Request, v *visit, status int, name, title string, of any) {
	var text bytes.Buffer
	if err := h.pages[name].ExecuteTemplate(&text, "layout", view{
		Title: title, Page: of, Now: h.o.Now(), Base: base(r), Here: here(r), visit: v,
	}); err != nil {
		h.o.Logger.Error("a page could not be made", "page", name, "error", err)
		api.WriteText(w, r, http.StatusInternalServerError, "the page could not be made; the server's log says why")
		return
	}
	api.WriteBytes(w, r, status, "text/html; charset=utf-8", text.Bytes())
}

// here is the URL of a request, relative to Root.
func here(r *http.Request) string {
	below, ok := strings.CutPrefix(r.URL.EscapedPath(), Root)
	if !ok {
		return "../../" // the front page, as Root without its slash is no page
	}
	if r.URL.RawQuery != "" {
		below += "?" + r.URL.RawQuery
	}
	return "./" + below
}

// number reads a parameter that is a number from least on; otherwise if there is none.
func (v *visit) number(name string, least, otherwise int) (int, error) {
	text := v.r.FormValue(name)
	if text == "" {
		return otherwise, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < least || n > 1<<30 {
		return 0, wrongInput("%s is a number from %d on, not %q", name, least, short(80, text))
	}
	return n, nil
}
