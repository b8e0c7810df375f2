package main

import (
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"packhouse/api/ui"
	"packhouse/cmd/packhouse/internal/config"
)

// banner says where the server is, as the program does whose name it was started by.
func (sv *service) banner(s streams, listeners []net.Listener, token string, source tokenSource, newID string) error {
	if sv.rest != nil {
		return sv.rest.banner(s.err, &sv.c, listeners)
	}
	return printBanner(s.out, sv, listeners, token, source, newID)
}

// printBanner prints where the server is and how to use it. The token is shown only if the server made it or
// keeps it in a file of its own, and not to a journal that others read.
// newID is the identity of the data directory, if this start gave it one.
func printBanner(w io.Writer, sv *service, listeners []net.Listener, token string, source tokenSource, newID string) error {
	var b strings.Builder
	urls := make([]string, 0, len(listeners))
	first := ""
	for _, l := range listeners {
		u := sv.clientURL(l)
		urls = append(urls, u)
		if first == "" && strings.HasPrefix(u, "http") {
			first = u
		}
	}
	fmt.Fprintf(&b, "Packhouse %s serves %s at %s\n", version(), sv.c.DataDir, strings.Join(urls, ", "))
	shown := token
	switch {
	case source.made && source.path == "":
		fmt.Fprintf(&b, "\n  token   %s\n          valid until the server stops: it cannot be stored on a read-only file system\n", token)
	case source.path == "":
		shown = "TOKEN"
		fmt.Fprintf(&b, "\n  token   as configured\n")
	case os.Getenv("JOURNAL_STREAM") != "", sv.c.TokenFile != "" && !source.made:
		shown = "TOKEN"
		fmt.Fprintf(&b, "\n  token   stored in %s\n", source.path)
	default:
		fmt.Fprintf(&b, "\n  token   %s\n          stored in %s\n", token, source.path)
	}
	if first != "" && sv.c.UI {
		fmt.Fprintf(&b, "  pages   %s%s\n          for a browser: log in with the token\n", first, ui.Root)
	}
	if newID != "" {
		if sv.c.Grace <= 0 && sv.c.Guard.MinAge == 0 {
			fmt.Fprintf(&b, "  grace   none is set: what clients with full rights remove is gone for good; with --grace 30d, or\n          grace in the configuration, it can be undone for as long\n")
		}
		fmt.Fprintf(&b, "  data_id %s\n          identity of the data directory; set it in the configuration so that the server\n          does not start with another directory, such as an empty mount point\n", newID)
	}
	if sv.certificateFile != "" {
		fmt.Fprintf(&b, "  TLS     SHA-256 fingerprint of the server's own certificate:\n          %s\n          clients need %s as an authority\n", sv.cert.Fingerprint(), sv.certificateFile)
	}
	if sv.clients != nil && sv.c.TLSClientAuth == config.CertificateRequired {
		fmt.Fprintf(&b, "  clients need a certificate of an authority in %s, in the name of a user\n", sv.c.TLSClientCA)
		first = "" // with the token alone they are refused
	}
	if first != "" {
		if err := printClients(&b, first, shown, sv.c.TLS()); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printClients prints what each client needs to use the server at an address with a token.
func printClients(w io.Writer, address, token string, tls bool) error {
	login, err := url.Parse(address)
	if err != nil {
		return fmt.Errorf("address of the server: %w", err)
	}
	login.User = url.UserPassword("packhouse", token)
	_, err = fmt.Fprintf(w, `
BorgBackup 2:

  export BORG_REPO=%s/myrepo
  borg repo-create --encryption aes256-ocb
  borg create first ~/Documents

restic:

  export RESTIC_REPOSITORY=rest:%s/myrestic
  restic init
  restic backup ~/Documents

V'Ger and vykar, in the client's configuration:

  repositories:
    - url: %s/myvault
      access_token: %s
      allow_insecure_http: %v

`, login, login, address, token, !tls)
	return err
}
