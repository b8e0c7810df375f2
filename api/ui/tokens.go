package ui

import (
	"slices"
	"strings"
	"time"

	"packhouse/api/admin"
	"packhouse/api/tokens"
	"packhouse/repo/policy"
)

// tokensPage is what the page of that name shows.
type tokensPage struct {
	Rows   []admin.Token // of this page
	Filter string
	Pager  pager
	Known  time.Time // since when uses are recorded; zero: they are not
}

// Expired, and what is near to it, are told apart by a colour.
func (tokensPage) Tone(t admin.Token, now time.Time) string {
	switch {
	case t.Expired:
		return "bad"
	case !t.Expires.IsZero() && t.Expires.Sub(now) < 14*24*time.Hour:
		return "warn"
	}
	return ""
}

func (v *visit) tokens() error {
	all, _, err := v.Tokens(v.r.Context())
	if err != nil {
		return err
	}
	p := tokensPage{Filter: v.r.FormValue("q")}
	for _, t := range all {
		if t.UsesKnownSince.After(p.Known) {
			p.Known = t.UsesKnownSince
		}
	}
	if p.Filter != "" {
		all = slices.DeleteFunc(all, func(t admin.Token) bool {
			return !strings.Contains(strings.ToLower(t.Name), strings.ToLower(p.Filter)) && !slices.Contains(t.Repositories, p.Filter)
		})
	}
	skip, err := v.number("skip", 0, 0)
	if err != nil {
		return err
	}
	p.Pager = pages("tokens", len(all), &skip, "q", p.Filter)
	p.Rows = all[skip:min(skip+rowsShown, len(all))]
	return v.page("tokens", "Tokens", p)
}

// newTokenPage is what the page "tokennew" shows.
type newTokenPage struct {
	Roles        []policy.Role
	Repositories string // one a line, as they were in the URL
}

// lines are those of a field that are not empty.
func lines(text string) (all []string) {
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			all = append(all, line)
		}
	}
	return all
}

// wantedToken is what the form asks for.
func (v *visit) wantedToken() (wanted admin.NewToken, err error) {
	wanted = admin.NewToken{Name: strings.TrimSpace(v.r.FormValue("token")), Role: v.r.FormValue("role"), Repositories: lines(v.r.FormValue("repositories"))}
	if _, err := policy.ParseRole(wanted.Role); err != nil {
		return wanted, wrongInput("%s", short(200, err.Error()))
	}
	switch all := v.r.FormValue("all") != ""; {
	case all && len(wanted.Repositories) > 0:
		return wanted, wrongInput("all repositories, or only those that are named: not both")
	case all:
		wanted.Repositories = []string{tokens.All}
	case slices.Contains(wanted.Repositories, tokens.All):
		return wanted, wrongInput(`%q is no repository; for all of them there is a box to tick`, tokens.All)
	case len(wanted.Repositories) == 0:
		return wanted, wrongInput("no repository is named; write one a line, or tick that it is for all")
	}
	if text := v.r.FormValue("expires"); text != "" {
		at, err := time.Parse(time.DateOnly, text)
		if err != nil {
			return wanted, wrongInput("%q is no day; write one as 2026-11-30", short(80, text))
		}
		if !at.After(v.h.o.Now()) {
			return wanted, wrongInput("the token would have expired on %s already", text)
		}
		wanted.Expires = &at
	}
	return wanted, nil
}

// newToken asks what the token is to be for, and then names that before it is created.
func (v *visit) newToken() error {
	if _, _, err := v.Tokens(v.r.Context()); err != nil { // a form that would be refused is not shown
		return err
	}
	if v.r.FormValue("role") == "" {
		return v.page("tokennew", "New token", newTokenPage{policy.Roles(), v.r.FormValue("repositories")})
	}
	wanted, err := v.wantedToken()
	if err != nil {
		return err
	}
	named, expires := wanted.Name, "never"
	if named == "" {
		named = "made of the repository and the role"
	}
	c := confirmation{
		What: "A token will be created. Who has its secret may do what its role allows, from anywhere. The secret is shown once, on the next page.",
		Details: []detail{
			{"Name", named}, {"Role", wanted.Role + ": " + policy.Role(wanted.Role).Purpose()}, {"Repositories", strings.Join(wanted.Repositories, ", ")},
		},
		Action: "tokens/new", Button: "Create the token", Back: link("tokens"),
		Fields: []field{{"token", wanted.Name}, {"role", wanted.Role}, {"expires", v.r.FormValue("expires")}},
	}
	if wanted.Expires != nil {
		expires = stamp(*wanted.Expires)
	}
	if c.Details = append(c.Details, detail{"Expires", expires}); wanted.Repositories[0] == tokens.All {
		c.Details[2].Value = "all, also those that are created later"
		c.Fields = append(c.Fields, field{"all", "yes"})
		if wanted.Role == string(policy.Admin) {
			c.Warning = "Who has this token may do everything on this server, also create and revoke tokens."
		}
	} else {
		c.Fields = append(c.Fields, field{"repositories", strings.Join(wanted.Repositories, "\n")})
	}
	return v.confirm("Create a token", c)
}

// createToken answers with the secret. It is in this answer only, which no browser keeps; sending the form again is refused as any form that
// was sent before.
func (v *visit) createToken() error {
	wanted, err := v.wantedToken()
	if err != nil {
		return err
	}
	made, _, err := v.CreateToken(v.r.Context(), wanted)
	if err != nil {
		return err
	}
	return v.page("tokenmade", "The token is created", made)
}

func (v *visit) confirmRevoke() error {
	all, _, err := v.Tokens(v.r.Context())
	if err != nil {
		return err
	}
	name := v.r.FormValue("token")
	i := slices.IndexFunc(all, func(t admin.Token) bool { return t.Name == name })
	if i < 0 {
		return wrongInput("there is no such token any more")
	}
	t := all[i]
	used, expires := "not known", "never"
	switch {
	case !t.LastUsed.IsZero():
		used = stamp(t.LastUsed)
	case !t.UsesKnownSince.IsZero():
		used = "not since " + stamp(t.UsesKnownSince)
	}
	if !t.Expires.IsZero() {
		expires = stamp(t.Expires)
	}
	c := confirmation{
		What: "The token will be revoked. Its clients are refused at once, also in the middle of a backup, and its sessions here end. This cannot be undone: a new token has another secret.",
		Details: []detail{
			{"Token", t.Name}, {"Role", string(t.Role)}, {"Repositories", short(400, strings.Join(t.Repositories, ", "))}, {"Expires", expires}, {"Last used", used},
		},
		Action: "tokens/revoke", Button: "Revoke the token", Danger: true, Fields: []field{{"token", t.Name}}, Back: link("tokens"),
	}
	if t.Name == v.s.name {
		c.Warning = "This may be the token that you have logged in with: then your session ends, too."
	}
	return v.confirm("Revoke a token", c)
}

func (v *visit) revokeToken() error {
	name := v.r.PostFormValue("token")
	if err := v.RevokeToken(v.r.Context(), name); err != nil {
		return err
	}
	return v.done(link("tokens"), "The token %s is revoked.", short(80, name))
}
