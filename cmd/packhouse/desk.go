package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	osuser "os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/cmd/packhouse/internal/holder"
	"packhouse/cmd/packhouse/internal/pipe"
	"packhouse/repo"
)

// deskFlags say which data directory an administrative command is about.
type deskFlags struct {
	config  string
	dataDir string
	json    bool
}

func (f *deskFlags) add(cmd *cobra.Command) {
	flags := cmd.PersistentFlags()
	flags.StringVarP(&f.dataDir, "data-dir", "d", config.Defaults().DataDir, "`directory` of the repositories, or of one")
	flags.StringVarP(&f.config, "config", "c", "", "take the directory from this configuration `file`")
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
}

// dir is the directory, absolute.
func (f *deskFlags) dir(cmd *cobra.Command) (string, error) {
	dir := f.dataDir
	if f.config != "" && !cmd.Flags().Changed("data-dir") {
		c, err := config.Load(f.config, nil)
		if err != nil {
			return "", err
		}
		dir = c.DataDir
	}
	real, err := resolve(dir)
	if err == nil {
		_, err = os.Stat(real)
	}
	if errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("there is no directory %s; say which with --data-dir or --config", dir)
	}
	return real, err
}

// desk is where administrative commands ask: the process that holds the directory, or, when there is
// none, this one, which then holds it until close.
type desk struct {
	client *http.Client
	only   string // the repository when the directory is one: its name where the question goes; else ""
	single bool
	own    bool // this process holds the directory
	end    func() error

	data     string // the data directory; "": the directory is one repository, or far away
	dir      string // that another process holds; "": none, or far away
	answered bool   // a request was taken
}

// withDesk runs do at a desk that answers for the directory. Who holds it may be just beginning or ending, or have been
// a moment faster than we: do runs again, with whoever holds it then, as long as it got no answer at all.
func withDesk(cmd *cobra.Command, s streams, f *deskFlags, do func(*desk) error) error {
	dir, err := f.dir(cmd)
	if err != nil {
		return err
	}
	_, err = os.Stat(filepath.Join(dir, indexName))
	single := err == nil
	ctx, cancel := context.WithTimeout(cmd.Context(), claimPatience)
	defer cancel()
	for pause := 5 * time.Millisecond; ; pause = min(2*pause, 250*time.Millisecond) {
		d, err := openDesk(ctx, cmd.Context(), s, dir, single)
		if err == nil {
			if !single {
				d.data = dir
			}
			err = errors.Join(do(d), d.close())
			if d.answered {
				return err
			}
		}
		var silent *silentError
		var held *holder.HeldError
		switch {
		case errors.As(err, &silent):
		case errors.As(err, &held) && (holder.Held(dir) || single && holder.Held(filepath.Dir(dir))):
		default:
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(pause):
		}
	}
}

// silentError tells that the process that holds the directory did not take a request.
type silentError struct{ held *holder.HeldError }

func (e *silentError) Error() string { return e.held.Error() + ", which does not answer" }

// openDesk finds who answers for a directory: the server of the directory above a single repository, or the holder, or
// this process. ctx bounds the wait; the desk is for the command's life.
func openDesk(ctx, life context.Context, s streams, dir string, single bool) (*desk, error) {
	switch above := filepath.Dir(dir); {
	case single && holder.Held(above):
		d := connectDesk(above)
		d.single, d.only = true, filepath.Base(dir)
		return d, nil
	case holder.Held(dir):
		d := connectDesk(dir)
		d.single = single
		return d, nil
	}
	if err := checkOwner(dir, os.Geteuid()); err != nil {
		return nil, err
	}
	if single {
		claim, err := holder.ClaimRepository(dir)
		if err != nil {
			return nil, err
		}
		return ownDesk(life, s, claim, true)
	}
	claim, err := holder.ClaimData(ctx, dir)
	if err != nil {
		return nil, err
	}
	return ownDesk(life, s, claim, false)
}

// checkOwner keeps root from working in a directory whose server runs as another user: that one could not open the
// files that root made.
func checkOwner(dir string, user int) error {
	info, err := os.Stat(filepath.Join(dir, holder.OwnDir))
	if errors.Is(err, os.ErrNotExist) {
		info, err = os.Stat(dir)
	}
	if err != nil {
		return err
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	if user != 0 || !ok || stat.Uid == 0 {
		return nil
	}
	owner := "#" + strconv.Itoa(int(stat.Uid))
	if u, err := osuser.LookupId(owner[1:]); err == nil {
		owner = u.Username
	}
	return fmt.Errorf("no server runs, and the directory belongs to %s, who could not open what root makes in it; use: sudo -u '%s' packhouse", owner, owner)
}

// connectDesk asks the process that holds a directory.
func connectDesk(dir string) *desk {
	return &desk{client: holder.Client(dir), dir: dir, end: func() error { return nil }}
}

// ownDesk holds the directory for as long as the command runs. Other processes may use it meanwhile.
func ownDesk(ctx context.Context, s streams, claim *holder.Claim, single bool) (*desk, error) {
	auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
	policy := func(string) config.Policy { return config.Policy{} }
	if err == nil {
		policy, err = keptPolicy(claim.Dir, single)
	}
	if err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	h, err := openHouse(ctx, houseOptions{
		Claim: claim, Single: single, Auth: auth, Log: newLogger(s.err, "pretty", slog.LevelWarn),
		Policy: policy,
		Yield:  func() {}, // when the command is done, which needs no telling
	})
	if err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.run(ctx, nil, time.Minute) }()
	client := holder.Client(claim.Dir)
	return &desk{client: client, single: single, own: true, end: func() error {
		// What this command destroyed is to be gone: nobody may come to finish that for long.
		for h.rooms.set.Sweeping() && ctx.Err() == nil {
			time.Sleep(10 * time.Millisecond)
		}
		stop()
		err := <-ended
		if claim.Fresh() {
			claim.Tidy(false) // a look into a directory leaves nothing there
		}
		return errors.Join(err, claim.Release())
	}}, nil
}

// keptPolicy is what the server of a directory was told of its repositories.
func keptPolicy(dir string, single bool) (func(string) config.Policy, error) {
	if single {
		policy, err := policyAbove(dir)
		return func(string) config.Policy { return policy }, err
	}
	kept, err := config.KeptPolicies(filepath.Join(dir, holder.OwnDir))
	return kept.Of, err
}

// close lets go of the directory.
func (d *desk) close() error { return d.end() }

// name is the repository a command is about: the argument, or the one there is.
func (d *desk) name(args []string) (string, error) {
	switch {
	case d.single && len(args) == 0:
		return d.only, nil
	case d.single:
		return "", usage("the directory is one repository; leave the name out")
	case len(args) == 0:
		return "", usage("the name of a repository is missing; packhouse repo list shows them")
	}
	return args[0], repo.CheckName(args[0])
}

// nameAndRest takes the repository's name off the front of args, where it has one.
func (d *desk) nameAndRest(args []string) (name string, rest []string, err error) {
	names := args
	if d.single {
		names, rest = nil, args
	} else if len(args) > 0 {
		names, rest = args[:1], args[1:]
	}
	name, err = d.name(names)
	return name, rest, err
}

// of is the path of our API for a repository.
func of(name, rest string) string {
	if name == "" {
		return "/-/" + rest
	}
	return "/" + name + "/-/" + rest
}

// send asks and returns the response if it is good; else its error's text.
func (d *desk) send(ctx context.Context, method, path string, body any) (*http.Response, error) {
	var reader io.Reader
	if body != nil {
		text, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(text)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://packhouse"+path, reader)
	if err != nil {
		return nil, err
	}
	return d.do(req)
}

// do sends a request as send does.
func (d *desk) do(req *http.Request) (*http.Response, error) {
	resp, err := d.client.Do(req)
	if d.dir != "" && !d.answered && notTaken(req, resp, err) {
		if err == nil {
			resp.Body.Close()
		}
		return nil, &silentError{holder.HeldBy(d.dir)}
	}
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	d.answered = true
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, &refusal{resp.StatusCode, "the server does not know this token"}
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	var problem struct{ Detail, Title string }
	if json.Unmarshal(text, &problem) == nil && problem.Detail+problem.Title != "" {
		if problem.Detail == "" {
			problem.Detail = problem.Title
		}
		return nil, &refusal{resp.StatusCode, problem.Detail}
	}
	if len(bytes.TrimSpace(text)) == 0 {
		return nil, &refusal{resp.StatusCode, "the server answers " + resp.Status}
	}
	return nil, &refusal{resp.StatusCode, strings.TrimSpace(string(text))}
}

// refusal is an answer that says no.
type refusal struct {
	status int
	text   string
}

func (e *refusal) Error() string { return e.text }

// refused tells whether a request was answered with this status.
func refused(err error, status int) bool {
	var no *refusal
	return errors.As(err, &no) && no.status == status
}

// each runs do for every repository. What is wrong with one does not keep the others from their turn: the error is that
// of each that failed, with its name. When nobody answers any more, or the command is to end, the rest is left.
func (d *desk) each(ctx context.Context, names []string, do func(name string) error) error {
	var all error
	for _, name := range names {
		err := do(name)
		if err != nil {
			all = errors.Join(all, fmt.Errorf("%s: %w", shownName(name), err))
		}
		var op *net.OpError
		if !d.answered || ctx.Err() != nil || errors.As(err, &op) && op.Op == "dial" {
			break
		}
	}
	return all
}

// notTaken tells whether the holder surely did nothing about a request: it was not there, it said so, or there was
// nothing to do but to answer.
func notTaken(req *http.Request, resp *http.Response, err error) bool {
	if err == nil {
		return resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get(pipe.HeaderLeaving) != ""
	}
	var op *net.OpError
	return errors.As(err, &op) && (op.Op == "dial" || req.Method == http.MethodGet)
}

// ask sends and decodes the answer into result; nil: there is none to speak of. It returns the raw text too.
func (d *desk) ask(ctx context.Context, method, path string, body, result any) (json.RawMessage, error) {
	resp, err := d.send(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if result != nil {
		if err := json.Unmarshal(text, result); err != nil {
			return nil, fmt.Errorf("the server's answer: %w", err)
		}
	}
	return text, nil
}

// lines sends and calls each with every JSON document of the answer.
func (d *desk) lines(ctx context.Context, method, path string, body any, each func(json.RawMessage) error) error {
	resp, err := d.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(resp.Body)
	for {
		var document json.RawMessage
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("the server's answer broke off: %w", err)
		}
		if err := each(document); err != nil {
			return err
		}
	}
}
