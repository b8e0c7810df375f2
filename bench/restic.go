package bench

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"

	"packhouse/repo/digest"
)

// restic is a client of restic's REST protocol: items are pack files below data/.
type restic struct{ *Client }

// NewRestic creates a Driver of restic's REST protocol, version 2.
func NewRestic(c *Client) Driver {
	c.header.Set("Accept", "application/vnd.x.restic.rest.v2")
	return restic{c}
}

// resticKey is where an item stands.
func resticKey(name string) string { return "data/" + name }

func (d restic) Create(ctx context.Context) error {
	_, err := d.do(ctx, request{method: http.MethodPost, target: "/?create=true"})
	return err
}

func (d restic) Put(ctx context.Context, name string, body []byte) error {
	_, err := d.do(ctx, request{method: http.MethodPost, target: "/" + resticKey(name), body: body,
		header: http.Header{"Content-Type": {"application/octet-stream"}}})
	return err
}

func (d restic) Get(ctx context.Context, name string, offset, length int64, w io.Writer) (int64, error) {
	return d.do(ctx, request{method: http.MethodGet, target: "/" + resticKey(name), header: span(offset, length), into: w})
}

func (d restic) Delete(ctx context.Context, name string) error {
	_, err := d.do(ctx, request{method: http.MethodDelete, target: "/" + resticKey(name)})
	return err
}

// List is one request. An entry has two keys and a name: six quotation marks.
func (d restic) List(ctx context.Context) (int64, error) { return d.list(ctx, "/data/") }

// ListPart lists the locks: clients do that between other requests, and a part of data/ cannot be listed.
func (d restic) ListPart(ctx context.Context, _ string) (int64, error) { return d.list(ctx, "/locks/") }

func (d restic) list(ctx context.Context, target string) (int64, error) {
	var count quotes
	_, err := d.do(ctx, request{method: http.MethodGet, target: target, into: &count})
	return int64(count) / 6, err
}

// RestServer is restic's rest-server at path.
func RestServer(path, version string) Server {
	return Server{
		Info: ServerInfo{Name: "rest-server", Dialect: "restic", Version: version, Durable: true,
			Command: "rest-server --path DIR --listen ADDRESS --htpasswd-file USERS",
			Notes:   "rest-server syncs file and directory before the answer, deletions not at all"},
		Hash: digest.SHA256, Driver: NewRestic, Header: basic(), TLS: true,
		Command: func(s Start) (Command, error) {
			// SHA-1 is what htpasswd has that costs nothing to compare: with bcrypt the bench would measure bcrypt.
			sum := sha1.Sum([]byte(secret))
			users := s.Dir + ".htpasswd"
			line := fmt.Sprintf("%s:{SHA}%s\n", user, base64.StdEncoding.EncodeToString(sum[:]))
			if err := os.WriteFile(users, []byte(line), 0o600); err != nil {
				return Command{}, err
			}
			args := []string{path, "--path", s.Dir, "--listen", s.Addr, "--htpasswd-file", users}
			if s.Certificate != "" {
				args = append(args, "--tls", "--tls-cert", s.Certificate, "--tls-key", s.Key)
			}
			return Command{Args: args}, nil
		},
		Seed: func(ctx context.Context, dir string, names []string) error {
			return seedFiles(ctx, names, func(name string) string { return filepath.Join(dir, "data", name[:2], name) })
		},
	}
}
