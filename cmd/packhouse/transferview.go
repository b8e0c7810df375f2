package main

import (
	"encoding/json"
	"fmt"

	"packhouse/api/local"
	"packhouse/internal/terminal"
	"packhouse/repo/transfer"
)

// transferView shows how far an export, a backup or a restore is, and the items with which something is wrong: as lines, or as JSON.
type transferView[R any] struct {
	s    streams
	json bool
	bar  *terminal.Progress
}

func newTransferView[R any](s streams, f *adminFlags) *transferView[R] {
	return &transferView[R]{s, f.json, terminal.NewProgress(s.err, "")}
}

func (v *transferView[R]) end() { v.bar.End() }

// event shows an event of a process that has the repository.
func (v *transferView[R]) event(event local.TransferEvent[R]) error {
	if p := event.Progress; p != nil {
		v.progress(*p)
		return nil
	}
	v.bar.End()
	if v.json {
		return json.NewEncoder(v.s.out).Encode(event)
	}
	if p := event.Problem; p != nil {
		_, err := fmt.Fprintf(v.s.out, "%s: %s\n", terminal.Printable(p.Key), terminal.Printable(p.Why))
		return err
	}
	return nil
}

func (v *transferView[R]) progress(p transfer.Progress) {
	title := p.Step
	if terminal.Is(v.s.err) { // else each title is a line
		title = fmt.Sprintf("%s: %d of %d items", p.Step, p.Items, p.ItemsTotal)
	}
	v.bar.SetTitle(title)
	v.bar.Set(p.Bytes, p.BytesTotal)
}

func (v *transferView[R]) problem(p transfer.Problem) {
	_ = v.event(local.TransferEvent[R]{Problem: &p}) // the exit code says it, too
}
