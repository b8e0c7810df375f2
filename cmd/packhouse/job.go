package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"packhouse/api/client"
	"packhouse/compact"
	"packhouse/internal/terminal"
)

// jobFlags say which repository a command is about, and who is asked.
type jobFlags struct {
	adminFlags
	repo string
}

func (f *jobFlags) add(cmd *cobra.Command) {
	f.adminFlags.add(cmd)
	cmd.PersistentFlags().StringVarP(&f.repo, "repo", "r", "", "`name` of the repository")
}

// with runs do with an admin client, for the repository.
func (f *jobFlags) with(cmd *cobra.Command, s streams, do func(c *adminClient, name string) error) error {
	return withAdminClient(cmd, s, &f.adminFlags, func(c *adminClient) error {
		if !c.Single && f.repo == "" {
			return usage("--repo NAME is missing; packhouse repo list shows the repositories")
		}
		name, err := c.name(f.names())
		if err != nil {
			return err
		}
		return do(c, name)
	})
}

// withJob runs do with an admin client, for the repository that has a job. Without --repo it asks each repository for the job.
func (f *jobFlags) withJob(cmd *cobra.Command, s streams, id string, do func(c *adminClient, name string) error) error {
	return withAdminClient(cmd, s, &f.adminFlags, func(c *adminClient) error {
		if c.Single || f.repo != "" {
			name, err := c.name(f.names())
			if err != nil {
				return err
			}
			return do(c, name)
		}
		names, err := c.names(cmd, nil)
		if err != nil {
			return err
		}
		var found []string // an ID is unique in its repository
		err = c.each(cmd.Context(), names, func(name string) error {
			_, err := c.Job(cmd.Context(), name, id)
			switch {
			case err == nil:
				found = append(found, name)
			case client.Refused(err, http.StatusNotFound), client.Refused(err, http.StatusForbidden):
				return nil
			}
			return err
		})
		switch {
		case len(found) > 1:
			return usage("%s have a job %s each: say which is meant with --repo", strings.Join(found, " and "), id)
		case len(found) == 1:
			return do(c, found[0])
		case err != nil:
			return fmt.Errorf("job %s was not found in the repositories that could be asked:\n%w", id, err)
		}
		return fmt.Errorf("no repository has a job %s; packhouse job list shows all", id)
	})
}

// names are the repositories that the flags name.
func (f *jobFlags) names() []string {
	if f.repo == "" {
		return nil
	}
	return []string{f.repo}
}

func jobCommand(s streams) *cobra.Command {
	f := &jobFlags{}
	parent := &cobra.Command{
		Use:   "job",
		Short: "Show, wait for and cancel compactions and scrubs",
		Long: `Jobs are compactions and scrubs that are queued, running, or ended within the last week, including
those for which a client is waiting (borg compact, vykar compact). --repo saves looking for a job in all repositories.

  packhouse job list
  packhouse job show 5f0c2a81b1d4e6f70a9c3b2d1e0f4a5b
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

func jobList(s streams, f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the jobs of a repository, or of all, oldest first",
		Long: `Lists the jobs of a repository, or of all, oldest first. With --json it prints a document for each
repository: {"repository": NAME, "jobs": […]}.`,
		Args: exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return withAdminClient(cmd, s, &f.adminFlags, func(c *adminClient) error {
				names, err := c.names(cmd, f.names())
				if err != nil {
					return err
				}
				if f.json {
					return listJobsJSON(cmd.Context(), s, c, names)
				}
				t := terminal.NewTable(s.out, "ID", "KIND", "STATE", "WHEN", "CREATED", "PRINCIPAL", "OPERATIONS", "READ", "WRITTEN", "FREED", "REPOSITORY")
				err = c.each(cmd.Context(), names, func(name string) error { return c.listJobs(cmd.Context(), t, name) })
				return errors.Join(err, t.End())
			})
		},
	}
}

func (c *adminClient) listJobs(ctx context.Context, t *terminal.Table, name string) error {
	return c.Jobs(ctx, name, func(text json.RawMessage) error {
		var j compact.Job
		if err := json.Unmarshal(text, &j); err != nil {
			return fmt.Errorf("read the server's answer: %w", err)
		}
		when := j.When
		if when == "" {
			when = "-"
		}
		p := j.Progress
		t.Row(j.ID, string(j.Kind), string(j.State), when, t.Time(j.Created), j.Principal,
			fmt.Sprintf("%d/%d", p.Operations, p.OperationsTotal), t.Size(p.Read), t.Size(p.Written), t.Size(p.Freed), name)
		return nil
	})
}

// listJobsJSON prints {"repository": NAME, "jobs": […]} for each repository: one document, or one a repository. A document whose jobs
// could not all be listed has no end.
func listJobsJSON(ctx context.Context, s streams, c *adminClient, names []string) error {
	return c.each(ctx, names, func(name string) error {
		of := ""
		if name != "" {
			text, err := json.Marshal(name)
			if err != nil {
				return err
			}
			of = "\n  \"repository\": " + string(text) + ","
		}
		before, between, after := "{"+of+"\n  \"jobs\": [\n    ", ",\n    ", "{"+of+"\n  \"jobs\": []\n}\n"
		err := c.Jobs(ctx, name, func(text json.RawMessage) error {
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

func jobShow(s streams, f *jobFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "show ID",
		Short: "Show one job, as JSON",
		Long: `Shows one job, as JSON. For a compaction that vykar or V'Ger requested (repack), "plan" says whether it
waits for its client's index, and how many source packs stay until then.`,
		Args: exactly(1, "the ID of a job"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.withJob(cmd, s, args[0], func(c *adminClient, name string) error {
				text, err := c.Job(cmd.Context(), name, args[0])
				if err != nil {
					return err
				}
				return terminal.JSON(s.out, text)
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
			return f.withJob(cmd, s, args[0], func(c *adminClient, name string) error {
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
			return f.withJob(cmd, s, args[0], func(c *adminClient, name string) error {
				job, text, err := c.Cancel(cmd.Context(), name, args[0])
				if err != nil {
					return err
				}
				if f.json {
					return terminal.JSON(s.out, text)
				}
				_, err = fmt.Fprintf(s.out, "%s %s\n", job.ID, job.State)
				return err
			})
		},
	}
}

// follow prints the job of an answer, and waits for its end where that was asked for or nobody
// else would carry it out.
func (f *jobFlags) follow(cmd *cobra.Command, s streams, c *adminClient, name string, job compact.Job, text json.RawMessage, wait bool) error {
	if !wait && (!c.Own || job.When != compact.WhenNow) {
		if f.json {
			return terminal.JSON(s.out, text)
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
	if f.json {
		text, marshalErr := json.Marshal(job)
		err = errors.Join(marshalErr, terminal.JSON(s.out, text))
	} else {
		err = showEnded(s, job)
	}
	switch {
	case err != nil:
		return err
	case job.State != compact.Done && job.Fault != nil:
		return errors.New(job.Fault.Message)
	case job.State != compact.Done:
		return fmt.Errorf("the job is %s", job.State)
	case job.Bad > 0:
		for _, key := range job.Damaged {
			fmt.Fprintf(s.err, "damaged: %s\n", terminal.Printable(key))
		}
		return &exitError{exitFound, fmt.Errorf("%d damaged items; a client that stores the same bytes again repairs them", job.Bad)}
	}
	return nil
}

func showEnded(s streams, job compact.Job) error {
	p := job.Progress
	if job.Kind == compact.Scrub {
		_, err := fmt.Fprintf(s.out, "%s %s: %d items, %s read, %d damaged\n", job.ID, job.State, p.Operations, terminal.Bytes(p.Read), job.Bad)
		return err
	}
	if job.Kind == compact.Vacuum {
		_, err := fmt.Fprintf(s.out, "%s %s: %d segments emptied, %s freed; %s read and stored again, %d items not readable\n",
			job.ID, job.State, p.Operations, terminal.Bytes(p.Freed), terminal.Bytes(p.Written), job.Bad)
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s %s: %d operations, %s read, %s written, %s freed\n",
		job.ID, job.State, p.Operations, terminal.Bytes(p.Read), terminal.Bytes(p.Written), terminal.Bytes(p.Freed))
	return err
}

// await follows a job to its end, with a bar on a terminal and a line now and then elsewhere.
func (c *adminClient) await(ctx context.Context, s streams, name, id string) (compact.Job, error) {
	bar := terminal.NewProgress(s.err, id)
	defer bar.End()
	return c.Await(ctx, name, id, func(job compact.Job) {
		bar.SetTitle(job.ID + " " + string(job.State))
		bar.Set(job.Progress.Read, job.Progress.ReadTotal)
	})
}
