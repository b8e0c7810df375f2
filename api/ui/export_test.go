package ui

import (
	"maps"
	"slices"
)

// FormToken is a token for the form that is sent to a page, in the session of a cookie.
func (h *Handler) FormToken(cookie, page string) string {
	return h.sessions.find(cookie).token(Root + page)
}

// Forms are the pages that forms of sessions are sent to.
func Forms() []string { return slices.Sorted(maps.Keys(forms())) }

// Pages are those of sessions.
func Pages() []string { return slices.Sorted(maps.Keys(shownPages())) }
