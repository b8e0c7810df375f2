package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/compact"
)

// jobFlags say which repository a command is about, and who is asked.
type jobFlags struct {
	admin     adminFlags
	repo      string
	server    string
	tokenFile string
}

func (f *jobFlags) add(cmd *cobra.Command) {
	f.admin.add(cmd)
	flags := cmd.PersistentFlags()
	flags.StringVarP(&f.repo, "repo", "r", "", "`name` of the repository")
	flags.StringVar(&f.server, "server", "", "send requests to the server at this `URL` instead of the one that runs on the data directory")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` with the token for --server (default: the variable PACKHOUSE_TOKEN)")
}

// with runs do with an admin client, for the repository.
func (f *jobFlags) with(cmd *cobra.Command, s streams, do func(c *adminClient, name string) error) error {
	return f.open(cmd, s, func(c *adminClient) error {
		if !c.single && f.repo == "" {
			return usage("--repo NAME is missing; packhouse repo list shows the repositories")
		}
		name, err := c.name(f.names())
		if err != nil {
			return err
		}
		return do(c, name)
	})
}

// names are the repositories that the flags name.
func (f *jobFlags) names() []string {
	if f.repo == "" {
		return nil
	}
	return []string{f.repo}
}

// open runs do with an admin client.
func (f *jobFlags) open(cmd *cobra.Command, s streams, do func(c *adminClient) error) error {
	if f.server == "" {
		return withAdminClient(cmd, s, &f.admin, do)
	}
	c, err := f.remote()
	if err != nil {
		return err
	}
	return errors.Join(do(c), c.close())
}

// remote is the client of a server elsewhere.
func (f *jobFlags) remote() (*adminClient, error) {
	base, err := url.Parse(f.server)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, usage("--server must be a URL such as https://backup.example:8484, not %q", f.server)
	}
	token := os.Getenv("PACKHOUSE_TOKEN")
	if f.tokenFile != "" {
		text, err := os.ReadFile(f.tokenFile)
		if err != nil {
			return nil, err
		}
		token = strings.TrimSpace(string(text))
	}
	if token == "" {
		return nil, usage("--server needs a token: set PACKHOUSE_TOKEN or --token-file")
	}
	c := &client.Client{HTTP: &http.Client{Transport: elsewhere{base, token}}}
	return &adminClient{Client: c, end: func() error { return nil }}, nil
}

// elsewhere sends requests to a server, with its token.
type elsewhere struct {
	base  *url.URL
	token string
}

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = e.base.Scheme, e.base.Host, ""
	r.Header.Set("Authorization", "Bearer "+e.token)
	return http.DefaultTransport.RoundTrip(r)
}

func jobCommand(s streams) *cobra.Command {
	f := &jobFlags{}
	parent := &cobra.Command{
		Use:   "job",
		Short: "Show, wait for and cancel compactions and scrubs",
		Long: `Jobs are compactions and scrubs that are queued, running, or ended within the last week, including
those for which a client is waiting (borg compact, vykar compact).

  packhouse job list
  packhouse job show --repo laptop 5f0c2a81b1d4e6f70a9c3b2d1e0f4a5b
  packhouse job wait --repo laptop 5f0c2a81b1d4e6f70a9c3b2d1e0f4a5b
  packhouse job cancel --repo laptop 5f0c2a81b1d4e6f70a9c3b2d1e0f4a5b

Exit codes: 0 success, 1 failure (wait: the job failed or was cancelled), 2 wrong command line, 3 the
scrub found damage.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	f.add(parent)
	parent.AddCommand(jobList(s, f), jobShow(s, f), jobWait(s, f), jobCancel(s, f))
	return parent
}

// jobPath is the path of a job in the API. What cannot be an ID is no path either: there is no such job.
func jobPath(name, id, rest string) string {
	plain := strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '-' || c == '.' {
			return c
		}
		return '-'
	}, id)
	return client.Path(name, "jobs/"+plain+rest)
}

func jobList(s streams, f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the jobs of a repository, or of all, oldest first",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.open(cmd, s, func(c *adminClient) error {
				names, err := c.names(cmd, f.names())
				if err != nil {
					return err
				}
				if f.admin.json {
					return listJobsJSON(cmd.Context(), s, c, names)
				}
				t := newTable(s.out, "ID", "KIND", "STATE", "WHEN", "CREATED", "PRINCIPAL", "OPERATIONS", "READ", "WRITTEN", "FREED", "REPOSITORY")
				err = c.each(cmd.Context(), names, func(name string) error { return c.listJobs(cmd.Context(), t, name) })
				return errors.Join(err, t.end())
			})
		},
	}
}

func (c *adminClient) listJobs(ctx context.Context, t *table, name string) error {
	return c.eachJob(ctx, name, func(text json.RawMessage) error {
		var j compact.Job
		if err := json.Unmarshal(text, &j); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		when := j.When
		if when == "" {
			when = "-"
		}
		p := j.Progress
		t.row(j.ID, string(j.Kind), string(j.State), when, t.time(j.Created), j.Principal,
			fmt.Sprintf("%d/%d", p.Operations, p.OperationsTotal), t.size(p.Read), t.size(p.Written), t.size(p.Freed), name)
		return nil
	})
}

// listJobsJSON prints {"jobs": […]} for each repository: one document, or one a repository. A document whose jobs could
// not all be listed has no end.
func listJobsJSON(ctx context.Context, s streams, c *adminClient, names []string) error {
	return c.each(ctx, names, func(name string) error {
		before, between, after := "{\n  \"jobs\": [\n    ", ",\n    ", "{\n  \"jobs\": []\n}\n"
		err := c.eachJob(ctx, name, func(text json.RawMessage) error {
			b := bytes.NewBufferString(before)
			before, after = between, "\n  ]\n}\n"
			if err := json.Indent(b, text, "    ", "  "); err != nil {
				return err
			}
			_, err := b.WriteTo(s.out)
			return err
		})
		if err != nil {
			return err
		}
		_, err = io.WriteString(s.out, after)
		return err
	})
}

// eachJob calls each with every job of a repository, as they come: there may be one for every pack.
func (c *adminClient) eachJob(ctx context.Context, name string, each func(json.RawMessage) error) error {
	return c.Elements(ctx, client.Path(name, "jobs"), "jobs", each)
}

func jobShow(s streams, f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one job, as JSON",
		Long: `Shows one job, as JSON. For a compaction that vykar or V'Ger requested (repack), "plan" says whether it
waits for its client's index, and how many source packs stay until then.`,
		Args: exactly(1, "the ID of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, s, func(c *adminClient, name string) error {
				text, err := c.Request(cmd.Context(), http.MethodGet, jobPath(name, args[0], ""), nil, nil)
				if err != nil {
					return err
				}
				return printJSON(s.out, text)
			})
		},
	}
}

func jobWait(s streams, f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "wait ID",
		Short: "Wait until a job has ended",
		Args:  exactly(1, "the ID of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, s, func(c *adminClient, name string) error {
				job, err := c.await(cmd.Context(), s, name, args[0])
				if err != nil {
					return err
				}
				return f.ended(s, job)
			})
		},
	}
}

func jobCancel(s streams, f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Cancel a job, unless its commit has already begun",
		Args:  exactly(1, "the ID of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.with(cmd, s, func(c *adminClient, name string) error {
				var job compact.Job
				text, err := c.Request(cmd.Context(), http.MethodDelete, jobPath(name, args[0], ""), nil, &job)
				if err != nil {
					return err
				}
				if f.admin.json {
					return printJSON(s.out, text)
				}
				_, err = fmt.Fprintf(s.out, "%s %s\n", job.ID, job.State)
				return err
			})
		},
	}
}

// follow prints the job of an answer, and waits for its end where that was asked for or nobody
// else would carry it out.
func (f *jobFlags) follow(cmd *cobra.Command, s streams, c *adminClient, name string, text json.RawMessage, wait bool) error {
	var job compact.Job
	if err := json.Unmarshal(text, &job); err != nil {
		return fmt.Errorf("read the server's answer: %w", err)
	}
	if !wait && (!c.own || job.When != compact.WhenNow) {
		if f.admin.json {
			return printJSON(s.out, text)
		}
		_, err := fmt.Fprintf(s.out, "%s %s\n", job.ID, job.State)
		return err
	}
	job, err := c.await(cmd.Context(), s, name, job.ID)
	if err != nil {
		return err
	}
	return f.ended(s, job)
}

// ended prints how a job ended; its error is the command's exit code.
func (f *jobFlags) ended(s streams, job compact.Job) error {
	var err error
	if f.admin.json {
		text, marshalErr := json.Marshal(job)
		err = errors.Join(marshalErr, printJSON(s.out, text))
	} else {
		err = showEnded(s, job)
	}
	switch {
	case err != nil:
		return err
	case job.State == compact.Failed && job.Fault != nil:
		return errors.New(job.Fault.Message)
	case job.State != compact.Done:
		return fmt.Errorf("the job is %s", job.State)
	case job.Bad > 0:
		for _, key := range job.Damaged {
			fmt.Fprintf(s.err, "damaged: %s\n", printable(key))
		}
		return &exitError{exitFound, fmt.Errorf("%d damaged items; a client that stores the same bytes again repairs them", job.Bad)}
	}
	return nil
}

func showEnded(s streams, job compact.Job) error {
	p := job.Progress
	if job.Kind == compact.Scrub {
		_, err := fmt.Fprintf(s.out, "%s %s: %d items, %s read, %d damaged\n", job.ID, job.State, p.Operations, inBytes(p.Read), job.Bad)
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s %s: %d operations, %s read, %s written, %s freed\n",
		job.ID, job.State, p.Operations, inBytes(p.Read), inBytes(p.Written), inBytes(p.Freed))
	return err
}

// await follows a job to its end, with a bar on a terminal and a line now and then elsewhere.
func (c *adminClient) await(ctx context.Context, s streams, name, id string) (compact.Job, error) {
	bar := newProgress(s.err, id)
	defer bar.end()
	show := func(job compact.Job) {
		bar.title = job.ID + " " + string(job.State)
		bar.set(job.Progress.Read, job.Progress.ReadTotal)
	}
	seen := time.Time{} // when the server last answered
	for {
		job, err := c.Events(ctx, jobPath(name, id, "/events"), show)
		switch {
		case job.State.Ended():
			return job, nil
		case err == nil:
			seen = time.Now()
		case time.Since(seen) > restartPatience || !isUnreachable(err):
			return job, err
		}
		// The server let go of the connection, not of the job: it starts over with the server.
		select {
		case <-ctx.Done():
			return job, ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// restartPatience is how long a server may be away that was there before.
const restartPatience = time.Minute

// isUnreachable tells whether nobody answered, as while a server is restarted.
func isUnreachable(err error) bool {
	var op *net.OpError
	return errors.As(err, &op)
}
