package local

import (
	"context"
	"errors"
	"io/fs"

	"packhouse/index"
	"packhouse/repo"
)

// checker checks one repository and reports line by line what it finds.
type checker struct {
	r     *repo.Repository
	far   bool // whoever asks is elsewhere, and is told no paths of the server
	send  func(CheckEvent) error
	event CheckEvent // running totals
}

// CheckFromAfar checks a repository for who asks over the network, and calls say with each CheckEvent: its texts name no file of the server. The
// last one is that of the end; there is none if the check could not be finished.
func CheckFromAfar(ctx context.Context, r *repo.Repository, verify bool, say func(any) error) error {
	c := &checker{r: r, far: true, send: func(event CheckEvent) error { return say(event) }}
	return c.run(ctx, verify)
}

// text is that of an error, for whoever asks.
func (c *checker) text(err error) string {
	if c.far && errors.As(err, new(*fs.PathError)) {
		return "its file cannot be read; the server's log says why"
	}
	return err.Error()
}

// progressStep is how many bytes are read between two lines of progress.
const progressStep = 64 << 20

func (c *checker) run(ctx context.Context, verify bool) error {
	report, err := c.r.CheckIndex(ctx)
	if err != nil {
		return err
	}
	for _, problem := range report.Problems {
		if err := c.problem(problem); err != nil {
			return err
		}
	}
	c.event.Items, c.event.Total = report.Counted.Items, report.Counted.Bytes
	if len(report.Problems) > 0 {
		if report.Counted == (index.Counters{}) { // its rows were not walked over
			c.event.Items, c.event.Total = report.Stored.Items, report.Stored.Bytes
		}
		advice := c.r.Mend() + " builds a new index"
		if c.far {
			advice = "packhouse repo rebuild --replace, on the server itself while it is stopped, builds a new index"
		}
		if err := c.say(CheckEvent{Advice: advice}); err != nil {
			return err
		}
	}
	if err := c.files(ctx, verify); err != nil {
		return err
	}
	if verify {
		if err := c.verify(ctx); err != nil {
			return err
		}
	}
	return c.say(CheckEvent{Done: true})
}

// files compares the names of the files with the index, and reports missing items. With verify, damaged items are found by reading them,
// and may turn out to be intact.
func (c *checker) files(ctx context.Context, verify bool) error {
	_, err := c.r.Sweep(ctx)
	switch {
	case errors.Is(err, repo.ErrLoss):
		if err := c.problem(c.text(err)); err != nil {
			return err
		}
	case err != nil:
		return err
	}
	return c.r.Marked(ctx, func(e index.Entry) error {
		switch {
		case e.Item.Flags&index.FlagMissing != 0:
			return c.problem(e.Key + ": its file is missing")
		case !verify && repo.DamagedAtAdoption(e.Item):
			return c.problem(e.Key + ": damaged at adoption: the other server's file is not what its name says")
		case !verify:
			return c.problem(e.Key + ": its stored bytes are damaged")
		}
		return nil
	})
}

// verifyBatch is how many items are looked up at once. They are read outside the walk of the index: marking a
// damaged one is a change, which a walk must not wait for.
const verifyBatch = 256

// verify reads every item.
func (c *checker) verify(ctx context.Context) error {
	said, after := int64(0), ""
	round := c.r.BeginRound("")
	all := false
	defer func() { round.End(all) }()
	for {
		var batch []index.Entry
		enough := errors.New("enough")
		err := c.r.Items(ctx, after, func(entry index.Entry) error {
			if batch = append(batch, entry); len(batch) == verifyBatch {
				return enough
			}
			return nil
		})
		damage, damaged := errors.AsType[*repo.IndexError](err)
		if err != nil && !errors.Is(err, enough) && !damaged {
			return err
		}
		for _, entry := range batch {
			if err := c.item(ctx, round, entry); err != nil {
				return err
			}
			if c.event.Bytes-said >= progressStep {
				said = c.event.Bytes
				if err := c.say(CheckEvent{Progress: true}); err != nil {
					return err
				}
			}
		}
		if damaged {
			return c.problem("items after these cannot be found: " + c.text(damage.Err))
		}
		if len(batch) < verifyBatch {
			all = true
			return nil
		}
		after = batch[len(batch)-1].Key
	}
}

// item reads one item, which may have been marked as damaged before.
func (c *checker) item(ctx context.Context, round *repo.Round, entry index.Entry) error {
	c.event.Bytes += entry.Item.Size
	err := round.Verify(ctx, entry, nil)
	switch {
	case errors.Is(err, repo.ErrLoss), err != nil && entry.Item.Flags&index.FlagMissing != 0:
		return nil // said already
	case errors.Is(err, repo.ErrCorrupt):
		return c.problem(entry.Key + ": " + c.text(err))
	}
	return err
}

func (c *checker) problem(text string) error {
	c.event.Problems++
	return c.say(CheckEvent{Problem: text})
}

// say writes a line with the totals so far.
func (c *checker) say(event CheckEvent) error {
	event.Items, event.Bytes, event.Total, event.Problems = c.event.Items, c.event.Bytes, c.event.Total, c.event.Problems
	return c.send(event)
}
