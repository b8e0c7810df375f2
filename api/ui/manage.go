package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"packhouse/internal/bytesize"
	"packhouse/repo/datadir"
)

// protocol is one that a repository can be for.
type protocol struct{ Name, Text string }

// protocols are those that can be chosen.
var protocols = []protocol{{"borgstore", "BorgBackup 2"}, {"vger", "V'Ger, vykar"}, {"restic", "restic, rustic"}}

// newPage asks for a name, and then names what will be created.
func (v *visit) newPage() error {
	self, err := v.Self(v.r.Context())
	if err == nil && !self.Administrates {
		err = errNotServer
	}
	if err != nil {
		return err
	}
	name, dialect := v.r.FormValue("new"), v.r.FormValue("dialect")
	if name == "" {
		return v.page("newrepository", "New repository", protocols)
	}
	if err := datadir.CheckName(name); err != nil {
		return wrongInput("%s", short(400, err.Error()))
	}
	i := slices.IndexFunc(protocols, func(p protocol) bool { return p.Name == dialect })
	if i < 0 {
		return wrongInput("there is no such protocol")
	}
	return v.confirm("Create a repository", confirmation{
		What:    "An empty repository will be created. Its clients still have to initialize it.",
		Details: []detail{{"Name", name}, {"For", protocols[i].Text}},
		Action:  "new", Button: "Create", Fields: []field{{"new", name}, {"dialect", dialect}}, Back: link(""),
	})
}

func (v *visit) create() error {
	name := v.r.PostFormValue("new")
	if err := v.Create(v.r.Context(), name, v.r.PostFormValue("dialect")); err != nil {
		return err
	}
	return v.done(link("repository", "name", name), "The repository is created.")
}

// confirmDestroy wants the name typed: what it names has more than any other form.
func (v *visit) confirmDestroy() error {
	r, err := v.administrated()
	if err != nil {
		return err
	}
	c := confirmation{
		What: "This repository will be destroyed, with all backups in it. Its clients are refused at once.",
		Details: []detail{
			{"Items", count(r.Usage.Items)}, {"Size", bytesize.Text(r.Usage.Bytes)}, {"Items in the trash", count(r.Usage.TrashItems)},
			{"Can be restored", "no: removed items have no grace time here"},
		},
		Warning: "Nothing of it can be restored.", Action: "destroy", Button: "Destroy the repository", Danger: true, Back: link("repair", "name", v.name),
		Inputs: []input{{Name: "typed", Label: "Type the name of the repository", Required: true}},
	}
	if r.Grace > 0 {
		c.Details[3].Value = "for " + graceOf(r.Grace)
		c.Warning = "It is restored from the page of removed repositories, or by packhouse repo restore. Its space is free only when the grace time is over. Where removed repositories of the same name " +
			"already hold as much as its quota and its trash may, older ones go before their time."
	}
	return v.confirm("Destroy the repository", c)
}

func (v *visit) destroy() error {
	if v.r.PostFormValue("typed") != v.name {
		return wrongInput("what was typed is not the name of the repository. Nothing was changed")
	}
	if err := v.Destroy(v.r.Context(), v.name, false); err != nil {
		return err
	}
	return v.done(link(""), "The repository %s is destroyed.", v.name)
}

// removedPage is what the page of that name shows.
type removedPage struct {
	Rows  []datadir.Removed // of this page, the last removed first
	Pager pager
}

// removedRepositories are those that can be restored, the last removed first.
func (v *visit) removedRepositories() ([]datadir.Removed, error) {
	all, _, err := v.Removed(v.r.Context())
	slices.SortStableFunc(all, func(a, b datadir.Removed) int { return cmp.Or(b.At.Compare(a.At), strings.Compare(a.ID, b.ID)) })
	return all, err
}

func (v *visit) removed() error {
	all, err := v.removedRepositories()
	if err != nil {
		return err
	}
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	p := removedPage{Pager: pages("removed", len(all), &skip)}
	p.Rows = all[skip:min(skip+rowsShown, len(all))]
	return v.page("removed", "Removed repositories", p)
}

func (v *visit) confirmRestoreRepository() error {
	all, err := v.removedRepositories()
	if err != nil {
		return err
	}
	id := v.r.FormValue("id")
	i := slices.IndexFunc(all, func(r datadir.Removed) bool { return r.ID == id })
	if i < 0 {
		return wrongInput("there is no such removed repository any more: it was restored, or its time is over")
	}
	r := all[i]
	return v.confirm("Restore a repository", confirmation{
		What: "This repository will be there again, as it was when it was destroyed.",
		Details: []detail{
			{"Repository", r.Name}, {"Protocol", r.Dialect}, {"Items", fmt.Sprintf("%s, %s", count(r.Items), bytesize.Text(r.Bytes))}, {"Destroyed", stamp(r.At)},
		},
		Action: "removed/restore", Button: "Restore the repository", Fields: []field{{"id", r.ID}}, Back: link("removed"),
		Inputs: []input{{Name: "as", Label: "Under the name", Value: r.Name, Required: true}},
	})
}

func (v *visit) restoreRepository() error {
	as := strings.TrimSpace(v.r.PostFormValue("as"))
	r, _, err := v.RestoreRemoved(v.r.Context(), v.r.PostFormValue("id"), as)
	if err != nil {
		return err
	}
	return v.done(link("repository", "name", cmp.Or(as, r.Name)), "The repository is restored.")
}
