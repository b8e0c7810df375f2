package bench

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"

	"packhouse/repo/digest"
)

// borgStore is a client of the BorgStore protocol: items are packs, two levels deep, as BorgBackup 2 stores them.
type borgStore struct{ *Client }

// NewBorgStore creates a Driver of the BorgStore protocol.
func NewBorgStore(c *Client) Driver {
	c.header.Set("Accept", "application/vnd.x.borgstore.rest.v1")
	return borgStore{c}
}

var _ Compactor = borgStore{}

func borgStoreKey(name string) string { return "packs/" + name[:2] + "/" + name }

func (d borgStore) Create(ctx context.Context) error {
	_, err := d.do(ctx, request{method: http.MethodPost, target: "/?cmd=create"})
	return err
}

func (d borgStore) Put(ctx context.Context, name string, body []byte) error {
	_, err := d.do(ctx, request{method: http.MethodPost, target: "/" + borgStoreKey(name), body: body,
		header: http.Header{"X-Content-Hash-Sha256": {name}}})
	return err
}

func (d borgStore) Get(ctx context.Context, name string, offset, length int64, w io.Writer) (int64, error) {
	return d.do(ctx, request{method: http.MethodGet, target: "/" + borgStoreKey(name), header: span(offset, length), into: w})
}

func (d borgStore) Delete(ctx context.Context, name string) error {
	_, err := d.do(ctx, request{method: http.MethodDelete, target: "/" + borgStoreKey(name)})
	return err
}

// List requests each directory, as the client does: one request for packs/ and one for each of the 256 below it.
func (d borgStore) List(ctx context.Context) (int64, error) {
	var below []struct {
		Name string `json:"name"`
	}
	err := d.sendJSON(ctx, http.MethodGet, "/packs/", nil, &below)
	if absent(err) {
		return 0, nil // nothing was stored yet
	}
	if err != nil {
		return 0, err
	}
	total := int64(0)
	for _, dir := range below {
		n, err := d.ListPart(ctx, dir.Name)
		if err != nil {
			return total, err
		}
		total += n
	}
	return total, nil
}

// ListPart reads one directory below packs/. An entry is an object; how many fields it has differs between servers.
func (d borgStore) ListPart(ctx context.Context, digits string) (int64, error) {
	var count objects
	_, err := d.do(ctx, request{method: http.MethodGet, target: "/packs/" + digits + "/", into: &count})
	return int64(count), err
}

// Compact is a defrag of each pack, and the deletion of the old one.
func (d borgStore) Compact(ctx context.Context, packs []Pack) error {
	for _, p := range packs {
		var sources [][3]any
		for _, k := range p.Keep {
			sources = append(sources, [3]any{borgStoreKey(p.Name), k.Offset, k.Length})
		}
		body, err := json.Marshal(sources)
		if err != nil {
			return err
		}
		if _, err := d.do(ctx, request{method: http.MethodPost, target: "/?cmd=defrag&algorithm=sha256&namespace=packs&levels=1", body: body}); err != nil {
			return fmt.Errorf("compact %s: %w", p.Name, err)
		}
		if err := d.Delete(ctx, p.Name); err != nil {
			return err
		}
	}
	return nil
}

// user is the name of the only user of peers that have some.
const user = "bench"

// basic is the header by which borg and restic authenticate.
func basic() http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+secret))}}
}

// BorgStoreServer is borgstore-server-rest, the server of the BorgStore project, at path.
func BorgStoreServer(path, version string) Server {
	return Server{
		Info: ServerInfo{Name: "borgstore", Dialect: "borgstore", Version: version, NeverSyncs: true,
			Command: "borgstore-server-rest --backend file://DIR --host HOST --port PORT --username USER --password PASSWORD",
			Notes: "borgstore-server-rest fails some of several requests at a time (412), and sends answers in two parts, " +
				"of which the second waits 40 ms for TCP's delayed acknowledgement"},
		Slow: []string{"list"},
		Hash: digest.SHA256, Driver: NewBorgStore, Header: basic(),
		Command: func(s Start) (Command, error) {
			host, port, err := net.SplitHostPort(s.Addr)
			return Command{Args: []string{path, "--backend", "file://" + s.Dir, "--host", host, "--port", port,
				"--username", user, "--password", secret}}, err
		},
		Seed: func(ctx context.Context, dir string, names []string) error {
			return seedFiles(ctx, names, func(name string) string { return filepath.Join(dir, borgStoreKey(name)) })
		},
	}
}
