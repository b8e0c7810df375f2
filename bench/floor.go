package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"packhouse/bench/floor"
	"packhouse/repo/digest"
)

// floorDriver is a client of the floor, package floor. Small items are appended, which leaves nothing to read: what is
// to be read is a file.
type floorDriver struct{ *Client }

// NewFloor creates a Driver of the floor.
func NewFloor(c *Client) Driver { return floorDriver{c} }

var (
	_ BatchDeleter = floorDriver{}
	_ Compactor    = floorDriver{}
	_ Filler       = floorDriver{}
)

// appended is the size from which on the floor makes a file of an item.
const appended = 1 << 20

func (d floorDriver) Create(context.Context) error { return nil }

func (d floorDriver) Put(ctx context.Context, name string, body []byte) error {
	if len(body) >= appended {
		return d.Fill(ctx, name, body)
	}
	_, err := d.do(ctx, request{method: http.MethodPut, target: floor.LogPath + name, body: body})
	return err
}

func (d floorDriver) Fill(ctx context.Context, name string, body []byte) error {
	_, err := d.do(ctx, request{method: http.MethodPut, target: floor.FilePath + name, body: body})
	return err
}

func (d floorDriver) Get(ctx context.Context, name string, offset, length int64, w io.Writer) (int64, error) {
	return d.do(ctx, request{method: http.MethodGet, target: floor.FilePath + name, header: span(offset, length), into: w})
}

func (d floorDriver) Delete(ctx context.Context, name string) error {
	return d.DeleteAll(ctx, []string{name})
}

func (d floorDriver) DeleteAll(ctx context.Context, names []string) error {
	return d.sendJSON(ctx, http.MethodPost, floor.DeletePath, names, nil)
}

func (d floorDriver) List(ctx context.Context) (int64, error) { return d.ListPart(ctx, "") }

func (d floorDriver) ListPart(ctx context.Context, digits string) (int64, error) {
	var count quotes
	_, err := d.do(ctx, request{method: http.MethodGet, target: floor.ListPath + digits, into: &count})
	return int64(count) / 2, err
}

// Compact reads and writes the bytes one after the other.
func (d floorDriver) Compact(ctx context.Context, packs []Pack) error {
	for _, p := range packs {
		o := floor.Copy{Source: p.Name}
		for _, k := range p.Keep {
			o.Keep = append(o.Keep, [2]int64{k.Offset, k.Length})
		}
		if err := d.sendJSON(ctx, http.MethodPost, floor.CopyPath, o, nil); err != nil {
			return fmt.Errorf("compact %s: %w", p.Name, err)
		}
	}
	return nil
}

// FloorServer is the floor in the packhouse program at path.
func FloorServer(path string) Server {
	return Server{
		Info: ServerInfo{Name: "floor", Dialect: "floor", Durable: true, Floor: true, Command: "packhouse bench floor --dir DIR --listen ADDRESS",
			Notes: "a bare Go HTTP server that does the least that must be done, without an index; SHA-256 of all bytes"},
		Hash: digest.SHA256, Driver: NewFloor, TLS: true,
		Command: func(s Start) (Command, error) {
			args := []string{path, "bench", "floor", "--dir", s.Dir, "--listen", s.Addr}
			if s.Certificate != "" {
				args = append(args, "--tls-cert", s.Certificate, "--tls-key", s.Key)
			}
			return Command{Args: args}, nil
		},
		Seed: func(_ context.Context, dir string, names []string) error {
			return floor.Seed(dir, len(names), func(i int) string { return names[i] })
		},
	}
}
