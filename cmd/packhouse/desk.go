package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/cmd/packhouse/internal/holder"
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
}

// openDesk finds who answers for the directory. The command's context bounds the wait for it.
func openDesk(cmd *cobra.Command, s streams, f *deskFlags) (*desk, error) {
	dir, err := f.dir(cmd)
	if err != nil {
		return nil, err
	}
	_, err = os.Stat(filepath.Join(dir, indexName))
	single := err == nil
	ctx, cancel := context.WithTimeout(cmd.Context(), claimPatience)
	defer cancel()
	if single {
		return openSingleDesk(ctx, cmd, s, dir)
	}
	if holder.Held(dir) {
		return connectDesk(ctx, dir)
	}
	claim, err := holder.ClaimData(ctx, dir)
	if err != nil {
		return nil, err
	}
	return ownDesk(cmd.Context(), s, claim, false)
}

// openSingleDesk asks the server of the directory above, the holder, or opens the repository.
func openSingleDesk(ctx context.Context, cmd *cobra.Command, s streams, dir string) (*desk, error) {
	if above := filepath.Dir(dir); holder.Held(above) {
		d, err := connectDesk(ctx, above)
		if err == nil {
			d.single, d.only = true, filepath.Base(dir)
		}
		return d, err
	}
	if holder.Held(dir) {
		d, err := connectDesk(ctx, dir)
		if err == nil {
			d.single = true
		}
		return d, err
	}
	claim, err := holder.ClaimRepository(dir)
	if err != nil {
		return nil, err
	}
	return ownDesk(cmd.Context(), s, claim, true)
}

// connectDesk asks a process that runs.
func connectDesk(ctx context.Context, dir string) (*desk, error) {
	conn, err := holder.Dial(ctx, dir)
	if err != nil {
		return nil, fmt.Errorf("%w, which does not answer", holder.HeldBy(dir))
	}
	_ = conn.Close()
	client := holder.Client(dir)
	return &desk{client: client, end: func() error { client.CloseIdleConnections(); return nil }}, nil
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
	})
	if err != nil {
		return nil, errors.Join(err, claim.Release())
	}
	ctx, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- h.run(ctx, nil, time.Minute) }()
	client := holder.Client(claim.Dir)
	return &desk{client: client, single: single, own: true, end: func() error {
		client.CloseIdleConnections()
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
	if err != nil {
		return nil, fmt.Errorf("ask the server: %w", err)
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, errors.New("the server does not know this token")
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
		return nil, errors.New(problem.Detail)
	}
	return nil, errors.New(strings.TrimSpace(string(text)))
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

// withDesk runs do at an open desk.
func withDesk(cmd *cobra.Command, s streams, f *deskFlags, do func(*desk) error) error {
	d, err := openDesk(cmd, s, f)
	if err != nil {
		return err
	}
	return errors.Join(do(d), d.close())
}
