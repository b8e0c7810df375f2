package bench

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Fairness is the configuration of a run that measures honest clients beside others that take what they can get. Phases alternate: before
// each phase with trouble is one without, so that both see the same of what else the machine does.
type Fairness struct {
	Dir     string // a directory on the disk that matters; a scratch directory is made in it and removed
	Path    string // of the packhouse program; it also makes the trouble
	Program string // its release
	FairnessSettings
	// Progress is told before each phase; nil: nobody wants to know.
	Progress func(Progress)
}

// FairnessSettings are what a run can be made with.
type FairnessSettings struct {
	Trouble     Trouble `json:"trouble"`
	Addresses   int     `json:"addresses"`   // that the trouble comes from
	Connections int     `json:"connections"` // of honest clients
	Rate        int     `json:"rate"`        // requests a second that they send together
	Seconds     float64 `json:"seconds"`     // of a phase
	Rounds      int     `json:"rounds"`
}

// FairnessVersion is the version of the JSON form of a FairnessRun, as RunVersion is of a Run.
const FairnessVersion = 2

// FairnessRun has all results of one run.
type FairnessRun struct {
	Version  int              `json:"version"` // FairnessVersion
	Program  string           `json:"program"`
	Started  time.Time        `json:"started"`
	Seconds  float64          `json:"seconds"` // from the start to the end of the run
	Settings FairnessSettings `json:"settings"`
	Machine  Machine          `json:"machine"`
	Troubles []FairnessPart   `json:"troubles"`
	// Incomplete says why the run ended before its last phase.
	Incomplete string `json:"incomplete,omitempty"`
}

// FairnessPart is one kind of trouble, with what honest clients saw beside it and without it.
type FairnessPart struct {
	Name    string           `json:"name"` // silent, uploads, readers, logins or all
	Title   string           `json:"title"`
	Trouble Trouble          `json:"trouble"`
	Alone   []FairnessSample `json:"alone"`  // the phases directly before those of Beside, one a round
	Beside  []FairnessSample `json:"beside"` // one a round
}

// FairnessSample is what honest clients saw in one phase.
type FairnessSample struct {
	Round      int            `json:"round"` // from 1
	Operations []Operation    `json:"operations"`
	Server     CPU            `json:"server_cpu"`
	Generator  CPU            `json:"generator_cpu"` // of the honest clients
	Trouble    CPU            `json:"trouble_cpu"`
	OtherLoad  float64        `json:"other_load"` // cores that other processes used, as in a Sample
	Report     *TroubleReport `json:"report,omitempty"`
}

// Write encodes the run in one line.
func (r *FairnessRun) Write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// OperationNames are the operations of the samples, in the order of a table.
func (r *FairnessRun) OperationNames() []string { return operationNames() }

// Merged is an operation of all rounds together.
func Merged(samples []FairnessSample, name string) Operation {
	var parts []Operation
	for _, s := range samples {
		for _, o := range s.Operations {
			if o.Name == name {
				parts = append(parts, o)
			}
		}
	}
	return merge(name, parts)
}

// parts are the kinds of trouble that the settings ask for, and all of them together if they are several.
func (s *FairnessSettings) parts() []FairnessPart {
	t := s.Trouble
	var parts []FairnessPart
	for _, p := range []FairnessPart{
		{Name: "silent", Title: fmt.Sprintf("%d connections that send nothing", t.Silent), Trouble: Trouble{Silent: t.Silent}},
		{Name: "uploads", Title: fmt.Sprintf("%d uploads with a byte a second", t.Uploads), Trouble: Trouble{Uploads: t.Uploads}},
		{Name: "readers", Title: fmt.Sprintf("%d readers with 16 KiB a second", t.Readers), Trouble: Trouble{Readers: t.Readers}},
		{Name: "logins", Title: fmt.Sprintf("%d wrong logins at once", t.Logins), Trouble: Trouble{Logins: t.Logins}},
	} {
		if p.Trouble.Connections() > 0 {
			parts = append(parts, p)
		}
	}
	if len(parts) > 1 {
		parts = append(parts, FairnessPart{Name: "all", Title: "all of them together", Trouble: t})
	}
	return parts
}

func (s *FairnessSettings) phase() time.Duration {
	return time.Duration(s.Seconds * float64(time.Second))
}

// guests is how many users log in for the first time during a run, at most.
func (s *FairnessSettings) guests() int {
	return 2 * s.Rounds * len(s.parts()) * (int(s.phase()/loginEvery) + 1)
}

// Run carries out the run. When ctx ends, or something fails, it returns the results that are complete, and the error. No files and no
// processes remain.
func (f *Fairness) Run(ctx context.Context) (run *FairnessRun, err error) {
	run = &FairnessRun{Version: FairnessVersion, Program: f.Program, Started: time.Now().UTC().Truncate(time.Second), Settings: f.FairnessSettings}
	if run.Machine, err = ThisMachine(f.Dir); err != nil {
		return nil, err
	}
	scratch, err := os.MkdirTemp(f.Dir, "packhouse-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(scratch)) }()
	store, h, err := f.prepare(ctx, scratch)
	if store != nil {
		defer func() { err = errors.Join(err, store.remove()) }()
	}
	if err != nil {
		return nil, err
	}
	defer h.close()
	start := time.Now()
	run.Troubles = f.parts()
	step, steps := 0, 2*f.Rounds*len(run.Troubles)
	tell := func(round int, what string) {
		if f.Progress != nil {
			f.Progress(Progress{step, steps, fmt.Sprintf("round %d of %d: %s", round, f.Rounds, what)})
		}
		step++
	}
	for round := 1; round <= f.Rounds && err == nil; round++ {
		for i := range run.Troubles {
			p := &run.Troubles[i]
			var alone, beside FairnessSample
			tell(round, "honest clients alone")
			if alone, err = f.sample(ctx, store, h, round, nil); err != nil {
				break
			}
			tell(round, "beside "+p.Title)
			if beside, err = f.beside(ctx, store, h, round, p.Trouble); err != nil {
				break
			}
			p.Alone, p.Beside = append(p.Alone, alone), append(p.Beside, beside)
		}
	}
	run.Seconds = time.Since(start).Seconds()
	if err != nil {
		run.Incomplete = err.Error()
	}
	return run, err
}

// prepare starts a server with three repositories: two of honest clients, one for each protocol, and that of the greedy user.
func (f *Fairness) prepare(ctx context.Context, scratch string) (*Store, *honest, error) {
	servers := Packhouse(f.Path, f.Program)
	settings, err := f.configuration()
	if err != nil {
		return nil, nil, err
	}
	own := servers[0]
	own.Command = func(s Start) (Command, error) { return packhouseCommand(f.Path, s, settings) }
	dir, err := os.MkdirTemp(scratch, "fairness-")
	if err != nil {
		return nil, nil, err
	}
	store := &Store{Server: own, dir: dir}
	if err := store.start(ctx, startOptions{}); err != nil {
		return store, nil, err
	}
	h := &honest{addr: store.addr, each: time.Duration(f.Connections) * time.Second / time.Duration(f.Rate), mostName: f.guests()}
	for i := range servers {
		server := &servers[i]
		server.Path += "-" + server.Info.Dialect
		if i == 0 {
			server.Path = "/" + repository // that of the first logins
		}
		side, err := newHonestSide(ctx, store, server, putSeries.of(i+1, 0), f.Connections)
		if err != nil {
			return store, nil, err
		}
		h.sides = append(h.sides, side)
	}
	c := NewClient("http://"+store.addr+"/"+greedy, http.Header{"Authorization": {basicOf(greedy, greedyWord)}}, 1, nil)
	defer c.Close()
	if err := NewBorgStore(c).Create(ctx); err != nil {
		return store, nil, err
	}
	_, err = c.do(ctx, request{method: http.MethodPost, target: "/" + largeItem, body: newBody(largeSize)})
	return store, h, err
}

// configuration is what the server is told besides the usual: there is no proxy on this machine, so that each address counts as
// a client's; and the users. Their passwords have a slow hash, as those of htpasswd do.
func (f *Fairness) configuration() (string, error) {
	var b strings.Builder
	b.WriteString("[server]\ntrusted_proxies = \"none\"\n")
	user := func(hash []byte, name string) {
		fmt.Fprintf(&b, "[[user]]\nname = %q\npassword_hash = %q\n", name, hash)
	}
	hash, err := bcrypt.GenerateFromPassword([]byte(greedyWord), bcrypt.DefaultCost)
	if err != nil {
		return "", err
	}
	user(hash, greedy)
	if hash, err = bcrypt.GenerateFromPassword([]byte(guestWord), bcrypt.DefaultCost); err != nil {
		return "", err
	}
	for n := range f.guests() {
		user(hash, guestName(n+1))
	}
	return b.String(), nil
}

// sample measures one phase; trouble is the process that makes some; nil: there is none.
func (f *Fairness) sample(ctx context.Context, s *Store, h *honest, round int, trouble *process) (x FairnessSample, err error) {
	if err := s.syncDisk(); err != nil {
		return x, err
	}
	var before, after CPU
	was, err := s.usage()
	if err == nil && trouble != nil {
		before, err = trouble.cpu()
	}
	if err != nil {
		return x, err
	}
	operations := h.run(ctx, f.Connections, f.phase(), uint64(time.Now().UnixNano()))
	if ctx.Err() != nil {
		return x, ctx.Err()
	}
	now, err := s.usage()
	if err == nil && trouble != nil {
		after, err = trouble.cpu()
	}
	if err == nil && !s.process.alive() {
		err = fmt.Errorf("the server ended: %w\n%s", s.process.err, s.process.lastWords())
	}
	x = FairnessSample{Round: round, Operations: operations, Server: now.server.minus(was.server), Generator: now.generator.minus(was.generator), Trouble: after.minus(before)}
	x.OtherLoad = max(0, now.others(was)-x.Trouble.Total()/now.at.Sub(was.at).Seconds())
	return x, err
}

// beside is sample while a process makes trouble.
func (f *Fairness) beside(ctx context.Context, s *Store, h *honest, round int, t Trouble) (x FairnessSample, err error) {
	p, end, err := f.startTrouble(ctx, TroubleAt{Trouble: t, Server: s.addr, Addresses: f.Addresses})
	if err != nil {
		return x, err
	}
	x, err = f.sample(ctx, s, h, round, p)
	report, fault := end()
	x.Report = report
	return x, errors.Join(err, fault)
}

// troubleReady is what the process says when its clients have begun, and troubleWait how long that may take.
const (
	troubleReady = "ready"
	troubleWait  = time.Minute
)

// startTrouble starts this program for a Trouble, and waits until it has begun. end stops it.
func (f *Fairness) startTrouble(ctx context.Context, t TroubleAt) (p *process, end func() (*TroubleReport, error), err error) {
	text, err := json.Marshal(t)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.CommandContext(ctx, f.Path, "bench", "fairness", "--trouble", string(text))
	// It ends with us, and Ctrl-C comes to us alone.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("start the trouble: %w", err)
	}
	lines := bufio.NewScanner(out)
	end = func() (*TroubleReport, error) {
		_ = in.Close() // tells it to end; if it has ended, Wait says so
		report, err := &TroubleReport{}, error(nil)
		if lines.Scan() {
			err = json.Unmarshal(lines.Bytes(), report)
		}
		return report, errors.Join(err, cmd.Wait())
	}
	late := time.AfterFunc(troubleWait, func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if !lines.Scan() || lines.Text() != troubleReady {
		_, err := end()
		return nil, nil, errors.Join(errors.New("the trouble could not begin"), err)
	}
	return &process{name: "the trouble", cmd: cmd}, end, nil
}

// MakeTrouble is the other side of a fairness run's process: it makes the trouble that text describes until in ends, and says on out when
// it has begun and what it was.
func MakeTrouble(ctx context.Context, text string, in io.Reader, out io.Writer) error {
	var t TroubleAt
	if err := json.Unmarshal([]byte(text), &t); err != nil {
		return fmt.Errorf("trouble: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		defer stop()
		_, _ = io.Copy(io.Discard, in)
	}()
	report := t.Run(ctx, func() { fmt.Fprintln(out, troubleReady) })
	return json.NewEncoder(out).Encode(report)
}
