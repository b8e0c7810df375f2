package ui

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"packhouse/api/admin"
	"packhouse/api/client"
	"packhouse/internal/bytesize"
)

// trashPage is what the page "trash" shows.
type trashPage struct {
	Rows   []admin.Removed
	Prefix string
	From   string // the day from which on rows expire; "": any
	After  string
	First  string // the first page; "": this is it
	Next   string // the next page; "": there is none
	Grace  string
}

// afterDay is the ID behind which the rows of the trash begin that expire on a day or later: an ID begins with the milliseconds of the expiry.
func afterDay(text string) (string, error) {
	at, err := time.Parse(time.DateOnly, text)
	if err != nil || at.Unix() <= 0 {
		return "", wrongInput("%q is no day; write one as 2026-11-30", text)
	}
	return fmt.Sprintf("%016x%016x", uint64(at.UnixMilli()), 0), nil
}

func (v *visit) trashPage() (p trashPage, err error) {
	r, err := v.repository()
	if err != nil {
		return p, err
	}
	p = trashPage{Prefix: v.r.FormValue("prefix"), From: v.r.FormValue("from"), After: v.r.FormValue("after"), Grace: graceOf(r.Grace)}
	after := p.After
	if after == "" && p.From != "" {
		if after, err = afterDay(p.From); err != nil {
			return p, err
		}
	}
	page, err := v.TrashPage(v.r.Context(), v.name, after, p.Prefix, rowsShown)
	if err != nil {
		return p, err
	}
	p.Rows = page.Removed
	if page.Next != "" {
		p.Next = link("trash", "name", v.name, "prefix", p.Prefix, "from", p.From, "after", page.Next)
	}
	if p.After != "" {
		p.First = link("trash", "name", v.name, "prefix", p.Prefix, "from", p.From)
	}
	return p, nil
}

func (v *visit) trash() error {
	p, err := v.trashPage()
	if err != nil {
		return err
	}
	return v.page("trash", "Trash", p)
}

// restorePage asks before items are restored.
type restorePage struct {
	Rows    []admin.Removed
	Bytes   int64
	Missing int // that were chosen and are not there any more
	Back    string
}

// Count is that of Rows.
func (p restorePage) Count() int64 { return int64(len(p.Rows)) }

// confirmRestore names the chosen items of a page of the trash.
func (v *visit) confirmRestore() error {
	p, err := v.trashPage()
	if err != nil {
		return err
	}
	ids := v.r.Form["id"]
	if len(ids) == 0 {
		return wrongInput("no item is chosen; tick those that are to be restored")
	}
	c := restorePage{Back: link("trash", "name", v.name, "prefix", p.Prefix, "from", p.From, "after", p.After)}
	for _, row := range p.Rows {
		if slices.Contains(ids, row.ID) {
			c.Rows = append(c.Rows, row)
			c.Bytes += row.Size
		}
	}
	c.Missing = len(ids) - len(c.Rows)
	if len(c.Rows) == 0 {
		return wrongInput("what was chosen is not in the trash any more: it was restored, or its time is over")
	}
	return v.page("restore", "Restore", c)
}

func (v *visit) restore() error {
	ids := v.r.PostForm["id"]
	if len(ids) == 0 {
		return wrongInput("no item is chosen")
	}
	back := link("trash", "name", v.name)
	if key := v.r.PostFormValue("key"); key != "" {
		if len(ids) != 1 {
			return wrongInput("another key is for one item")
		}
		if _, _, err := v.Restore(v.r.Context(), v.name, ids[0], key); err != nil {
			return err
		}
		return v.done(back, "Restored under the key %s.", short(200, key))
	}
	done, _, err := v.RestoreMany(v.r.Context(), v.name, admin.RestoreRequest{IDs: ids, Replace: v.r.PostFormValue("replace") != ""})
	if err != nil {
		return err
	}
	text := restoredText(done)
	if gone := int64(len(ids)) - done.Items - done.Skipped - int64(len(done.Failed)); gone > 0 {
		text += fmt.Sprintf(" %s could not be found in the trash any more.", plural(gone, "item"))
	}
	return v.done(back, "%s", text)
}

// restoredText says what was restored.
func restoredText(done admin.RestoreResult) string {
	text := fmt.Sprintf("Restored: %s (%s).", plural(done.Items, "item"), bytesize.Text(done.Bytes))
	if done.Skipped > 0 {
		text += fmt.Sprintf(" %s stayed in the trash, because something has the key now.", plural(done.Skipped, "item"))
	}
	if len(done.Failed) > 0 {
		text += " Not restored: " + short(400, strings.Join(done.Failed, "; ")) + "."
	}
	return text
}

// selection reads which removed items the form means.
func (v *visit) selection() (req admin.RestoreRequest, err error) {
	req = admin.RestoreRequest{Prefix: v.r.FormValue("prefix"), Replace: v.r.FormValue("replace") != ""}
	if text := v.r.FormValue("since"); text != "" {
		if req.Since, err = moment(text); err != nil {
			return req, err
		}
	}
	if principal := v.r.FormValue("principal"); principal != "" {
		req.Principal = &principal
	}
	if req.Prefix == "" && req.Since.IsZero() && req.Principal == nil {
		return req, wrongInput("nothing is selected: give the beginning of the keys, a moment, or who stored them")
	}
	return req, nil
}

// countedRows is how many rows of the trash are looked at to tell how many items a selection has.
const countedRows = 100_000

// confirmSelection tells which items a selection means, and about how many there are.
func (v *visit) confirmSelection() error {
	if _, err := v.administrated(); err != nil {
		return err
	}
	req, err := v.selection()
	if err != nil {
		return err
	}
	var items, bytes, looked int64
	err = v.Trash(v.r.Context(), v.name, func(row admin.Removed, _ json.RawMessage) error {
		if looked++; looked > countedRows {
			return errPageFull
		}
		if strings.HasPrefix(row.Key, req.Prefix) && !row.Removed.Before(req.Since) {
			items, bytes = items+1, bytes+row.Size
		}
		return nil
	})
	most := errors.Is(err, errPageFull)
	if err != nil && !most {
		return err
	}
	amount := plural(items, "version") + ", " + bytesize.Text(bytes)
	switch {
	case most:
		amount = "not counted: the trash has more than " + count(int64(countedRows)) + " items"
	case req.Principal != nil:
		amount += ", and of these what this user stored"
	}
	c := confirmation{
		What:    "All removed items that this selection has will be there again under the keys that they had: of several versions of a key the last.",
		Details: []detail{{"Keys", "all"}, {"Removed", "at any time"}, {"Stored by", "anyone"}, {"In the trash", amount}},
		Action:  "selection", Button: "Restore", Back: link("trash", "name", v.name, "prefix", req.Prefix),
		Fields:  []field{{"prefix", req.Prefix}, {"since", v.r.FormValue("since")}, {"principal", v.r.FormValue("principal")}},
		Warning: "Keys that something has now are left as they are.",
	}
	if req.Prefix != "" {
		c.Details[0].Value = "those that begin with " + req.Prefix
	}
	if !req.Since.IsZero() {
		c.Details[1].Value = "since " + stamp(req.Since)
	}
	if req.Principal != nil {
		c.Details[2].Value = *req.Principal
	}
	if req.Replace {
		c.Fields = append(c.Fields, field{"replace", "yes"})
		c.Warning = "What has one of these keys now goes to the trash."
	}
	return v.confirm("Restore a selection", c)
}

func (v *visit) restoreSelection() error {
	req, err := v.selection()
	if err != nil {
		return err
	}
	done, _, err := v.RestoreMany(v.r.Context(), v.name, req)
	if err != nil {
		return err
	}
	return v.done(link("trash", "name", v.name), "%s", restoredText(done))
}

func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

// historyPage is what the page "history" shows.
type historyPage struct {
	Rows           []admin.Change
	Key, Principal string
	First, Next    string // pages; "": there is none
	Recorded       bool
}

func (v *visit) history() error {
	r, err := v.repository()
	if err != nil {
		return err
	}
	p := historyPage{Key: v.r.FormValue("key"), Principal: v.r.FormValue("principal"), Recorded: r.History != nil}
	var before uint64 // the last change
	if text := v.r.FormValue("before"); text != "" {
		if before, err = strconv.ParseUint(text, 10, 62); err != nil || before == 0 {
			return wrongInput("before is the number of a change, not %q", short(80, text))
		}
	}
	page, err := v.HistoryPage(v.r.Context(), v.name, client.HistoryFilter{Key: p.Key, Principal: p.Principal}, before, rowsShown)
	if err != nil {
		return err
	}
	p.Rows = page.Changes
	if page.Next != 0 {
		p.Next = link("history", "name", v.name, "key", p.Key, "principal", p.Principal, "before", page.Next)
	}
	if before != 0 {
		p.First = link("history", "name", v.name, "key", p.Key, "principal", p.Principal)
	}
	return v.page("history", "History", p)
}
