package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"time"

	"packhouse/repo/digest"
)

// vger is a client of V'Ger's protocol: items are packs.
type vger struct {
	*Client
	hash string
}

// NewVGer creates a Driver of V'Ger's protocol for packs that are named by the hash.
func NewVGer(hash string) func(*Client) Driver {
	return func(c *Client) Driver { return vger{c, hash} }
}

var (
	_ BatchDeleter = vger{}
	_ Compactor    = vger{}
)

func vgerKey(name string) string { return "packs/" + name[:2] + "/" + name }

func (d vger) Create(ctx context.Context) error {
	_, err := d.do(ctx, request{method: http.MethodPost, target: "?init"})
	return err
}

func (d vger) Put(ctx context.Context, name string, body []byte) error {
	header := "X-Content-Blake2b"
	if d.hash == digest.BLAKE3 {
		header = "X-Content-Blake3"
	}
	_, err := d.do(ctx, request{method: http.MethodPut, target: "/" + vgerKey(name), body: body, header: http.Header{header: {name}}})
	return err
}

func (d vger) Get(ctx context.Context, name string, offset, length int64, w io.Writer) (int64, error) {
	return d.do(ctx, request{method: http.MethodGet, target: "/" + vgerKey(name), header: span(offset, length), into: w})
}

func (d vger) Delete(ctx context.Context, name string) error {
	_, err := d.do(ctx, request{method: http.MethodDelete, target: "/" + vgerKey(name)})
	return err
}

// DeleteAll is one transaction on Packhouse; vykar-server deletes one after the other.
func (d vger) DeleteAll(ctx context.Context, names []string) error {
	keys := make([]string, len(names))
	for i, name := range names {
		keys[i] = vgerKey(name)
	}
	return d.sendJSON(ctx, http.MethodPost, "?batch-delete", keys, nil)
}

// List is one request for all keys.
func (d vger) List(ctx context.Context) (int64, error) { return d.list(ctx, "?list") }

func (d vger) ListPart(ctx context.Context, digits string) (int64, error) {
	return d.list(ctx, "/packs/"+digits+"?list")
}

func (d vger) list(ctx context.Context, target string) (int64, error) {
	var count quotes
	_, err := d.do(ctx, request{method: http.MethodGet, target: target, into: &count})
	return int64(count) / 2, err
}

// Compact is one repack of all packs while a client's lock is held, followed by the index that the client stores: only then the
// work is complete, and a server may remove the packs.
func (d vger) Compact(ctx context.Context, packs []Pack) (err error) {
	lock := fmt.Sprintf("/locks/%020d-%s.json", time.Now().UnixMicro(), packs[0].Name[:32])
	if _, err := d.do(ctx, request{method: http.MethodPut, target: lock, body: []byte(`{"hostname":"bench"}`)}); err != nil {
		return err
	}
	defer func() {
		_, fault := d.do(ctx, request{method: http.MethodDelete, target: lock})
		err = errors.Join(err, fault)
	}()
	if _, err := d.do(ctx, request{method: http.MethodGet, target: "/index"}); err != nil && !absent(err) {
		return err
	}
	if err := d.repack(ctx, packs); err != nil {
		return err
	}
	index := fmt.Appendf(nil, "an index that refers to the new packs, of %s", lock)
	_, err = d.do(ctx, request{method: http.MethodPut, target: "/index", body: index})
	return err
}

func (d vger) repack(ctx context.Context, packs []Pack) error {
	type blob struct {
		Offset int64 `json:"offset"`
		Length int64 `json:"length"`
	}
	type operation struct {
		Source string `json:"source_pack"`
		Keep   []blob `json:"keep_blobs"`
		Delete bool   `json:"delete_after"`
	}
	plan := struct {
		Operations []operation `json:"operations"`
		Hash       string      `json:"hash"`
		Protocol   int         `json:"protocol_version"`
	}{Hash: "blake2b", Protocol: 1}
	if d.hash == digest.BLAKE3 {
		plan.Hash, plan.Protocol = "blake3", 2
	}
	for _, p := range packs {
		o := operation{Source: vgerKey(p.Name), Keep: []blob{}, Delete: true}
		for _, k := range p.Keep {
			o.Keep = append(o.Keep, blob(k))
		}
		plan.Operations = append(plan.Operations, o)
	}
	var answer struct {
		Completed []json.RawMessage `json:"completed"`
	}
	if err := d.sendJSON(ctx, http.MethodPost, "?repack", plan, &answer); err != nil {
		return err
	}
	if len(answer.Completed) != len(packs) {
		return fmt.Errorf("repack: %d of %d operations are complete", len(answer.Completed), len(packs))
	}
	return nil
}

// VykarServer is vykar-server at path. Requests are those of clients of repository format 2, which all its versions support.
func VykarServer(path, version string) Server {
	return Server{
		Info: ServerInfo{Name: "vykar", Dialect: "vger", Version: version, Durable: true,
			Command: "vykar-server --listen ADDRESS --data-dir DIR",
			Notes:   "vykar-server syncs file and directory before the answer; packs are named by BLAKE2b (repository format 2)"},
		Hash: digest.BLAKE2b256, Driver: NewVGer(digest.BLAKE2b256), Header: http.Header{"Authorization": {"Bearer " + secret}},
		Command: func(s Start) (Command, error) {
			return Command{Args: []string{path, "--listen", s.Addr, "--data-dir", s.Dir}, Env: []string{"VYKAR_TOKEN=" + secret}}, nil
		},
		Seed: func(ctx context.Context, dir string, names []string) error {
			return seedFiles(ctx, names, func(name string) string { return filepath.Join(dir, vgerKey(name)) })
		},
	}
}
