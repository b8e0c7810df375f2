package main

import (
	"fmt"
	"net/url"
	"strings"

	"packhouse/api/restic"
	"packhouse/repo/keys"
)

// warnUnreachable tells, in one line, that clients of a dialect can have no repository of this name over the network.
func warnUnreachable(s streams, name, dialect string) {
	if why := unreachable(name, dialect); why != "" {
		fmt.Fprintf(s.err, "warning: no client can reach %s over the network: %s\n", name, why)
	}
}

// unreachable is why clients of a dialect can have no repository of this name over the network; "": they can.
func unreachable(name, dialect string) string {
	if dialect == restic.Name {
		for part := range strings.SplitSeq(name, "/") {
			if keys.ResticReserved(part) {
				return fmt.Sprintf("%q is a word of restic's protocol (a repository at \"/\" may have it)", part)
			}
		}
		return ""
	}
	client := map[string]string{"borgstore": "borg's", "vger": "V'Ger's and vykar's"}[dialect]
	switch {
	case strings.Contains(name, "/"):
		return fmt.Sprintf("in %s URLs a repository's name has one part, and only in restic's two", client)
	case (&url.URL{Path: name}).EscapedPath() != name:
		return fmt.Sprintf("%s clients escape it in their URL, and it is not decoded there: only letters of ASCII, digits and . _ - @ + = , ~ can be used", client)
	}
	return ""
}
