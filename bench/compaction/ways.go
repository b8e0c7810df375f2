package compaction

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync/atomic"
	"time"

	"packhouse/api"
	"packhouse/api/vger"
	"packhouse/compact"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/digest"
)

// Figures of one way of compacting.
type Figures struct {
	Way     string  `json:"way"`
	In      int64   `json:"in"`  // bytes of live blobs read
	Out     int64   `json:"out"` // bytes of the new packs
	Seconds float64 `json:"seconds"`
	CPU     float64 `json:"cpu_seconds"` // of the process
	Idle    int64   `json:"idle"`        // bytes of memory before
	Peak    int64   `json:"peak"`        // bytes of memory at most
	Network int64   `json:"network"`
}

// Ways are the names that Run knows, in the order of a report.
var Ways = []string{"floor", "engine-1", "engine-2", "server", "client"}

// Describe returns the description of a way.
func Describe(way string) string {
	return map[string]string{
		"floor":    "one loop: read live ranges, hash, write, fsync",
		"engine-1": "the engine, one worker",
		"engine-2": "the engine, two workers",
		"server":   "a client's repack over loopback",
		"client":   "a client without server help, over loopback",
	}[way]
}

// Run compacts a copy of the prepared repository in one way. It should run in its own process.
func (c Workload) Run(ctx context.Context, way string) (Figures, error) {
	packs, err := c.packs()
	if err != nil {
		return Figures{}, err
	}
	dir, err := c.clone("run-" + way)
	if err != nil {
		return Figures{}, err
	}
	defer os.RemoveAll(dir)
	f := Figures{Way: way}
	for i := range packs {
		f.Out += packs[i].live()
		f.In += packs[i].live() - 9
	}
	do := map[string]func(context.Context, string, []pack, *Figures) error{
		"floor": c.floor, "server": c.server, "client": c.client,
		"engine-1": func(ctx context.Context, dir string, packs []pack, f *Figures) error {
			return c.engine(ctx, dir, packs, f, 1)
		},
		"engine-2": func(ctx context.Context, dir string, packs []pack, f *Figures) error {
			return c.engine(ctx, dir, packs, f, 2)
		},
	}[way]
	if do == nil {
		return f, fmt.Errorf("there is no way %q", way)
	}
	err = do(ctx, dir, packs, &f)
	return f, err
}

// measure fills in what work costs.
func measure(f *Figures, work func() error) error {
	debug.FreeOSMemory()
	resetPeak()
	f.Idle, _ = memory()
	cpu, start := cpuSeconds(), time.Now()
	err := work()
	f.Seconds, f.CPU = time.Since(start).Seconds(), cpuSeconds()-cpu
	_, f.Peak = memory()
	return err
}

func withRepository(ctx context.Context, dir string, do func(*datadir.Set, *repo.Access) error) (err error) {
	set := datadir.Open(datadir.Options{Dir: dir})
	defer func() { err = errors.Join(err, set.Close()) }()
	r, err := set.Get(ctx, repository)
	if err != nil {
		return err
	}
	return do(set, r.As(repo.Principal{Name: "bench"}))
}

// floor is the least that must be done, in the simplest way: no index, no second hash, no checks.
func (c Workload) floor(ctx context.Context, dir string, packs []pack, f *Figures) error {
	blake3, err := digest.Lookup(digest.BLAKE3)
	if err != nil {
		return err
	}
	return withRepository(ctx, dir, func(_ *datadir.Set, a *repo.Access) error {
		return measure(f, func() error {
			for i, p := range packs {
				if err := floorPack(ctx, a, p, blake3, filepath.Join(dir, fmt.Sprint(i))); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

func floorPack(ctx context.Context, a *repo.Access, p pack, algorithm digest.Algorithm, path string) error {
	object, err := a.Open(ctx, p.Key)
	if err != nil {
		return err
	}
	defer object.Close()
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer out.Close()
	h := algorithm.New()
	buffer := append(make([]byte, 0, 1<<20), "VGERPACK\x01"...)
	flush := func() error {
		h.Write(buffer)
		_, err := out.Write(buffer)
		buffer = buffer[:0]
		return err
	}
	for _, k := range p.Keep {
		for at, end := k[0]-4, k[0]+k[1]; at < end; {
			n := min(end-at, int64(cap(buffer)-len(buffer)))
			part := buffer[len(buffer) : int64(len(buffer))+n]
			if _, err := object.ReadAt(part, at); err != nil && err != io.EOF {
				return err
			}
			buffer = buffer[:len(buffer)+int(n)]
			at += n
			if len(buffer) == cap(buffer) {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	h.Sum(nil)
	return out.Sync()
}

func (c Workload) engine(ctx context.Context, dir string, packs []pack, f *Figures, workers int) error {
	blake3, err := digest.Lookup(digest.BLAKE3)
	if err != nil {
		return err
	}
	e := compact.New(compact.Options{Workers: workers, TempDir: dir})
	defer e.Close()
	return withRepository(ctx, dir, func(_ *datadir.Set, a *repo.Access) error {
		return measure(f, func() error {
			plan := e.NewPlan(compact.Limits{})
			defer plan.Close()
			if err := operations(packs, blake3, plan.Add); err != nil {
				return err
			}
			return e.Run(ctx, a, plan, nil)
		})
	})
}

// serve answers V'Ger clients on loopback while do runs; the bytes on the network are counted.
func (c Workload) serve(ctx context.Context, dir string, f *Figures, do func(base string) error) error {
	e := compact.New(compact.Options{TempDir: dir})
	defer e.Close()
	return withRepository(ctx, dir, func(set *datadir.Set, _ *repo.Access) error {
		auth, err := api.NewAuth(api.AuthOptions{NoAuth: true})
		if err != nil {
			return err
		}
		s, err := api.New(api.Options{Set: set, Auth: auth, Dialects: []api.Dialect{vger.New(vger.Options{Engine: e})}})
		if err != nil {
			return err
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		counting := &countingListener{Listener: l}
		ended := make(chan error, 1)
		go func() { ended <- s.Serve(api.Listener{Listener: counting}) }()
		err = measure(f, func() error { return do("http://" + l.Addr().String() + "/" + repository) })
		f.Network = counting.bytes.Load()
		err = errors.Join(err, s.Shutdown(ctx))
		if serveErr := <-ended; !errors.Is(serveErr, http.ErrServerClosed) {
			err = errors.Join(err, serveErr)
		}
		return err
	})
}

type countingListener struct {
	net.Listener
	bytes atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &countingConn{conn, &l.bytes}, err
}

type countingConn struct {
	net.Conn
	bytes *atomic.Int64
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

// server lets the server compact: one request with the plan.
func (c Workload) server(ctx context.Context, dir string, packs []pack, f *Figures) error {
	type blob struct {
		Offset int64 `json:"offset"`
		Length int64 `json:"length"`
	}
	type operation struct {
		Source string `json:"source_pack"`
		Keep   []blob `json:"keep_blobs"`
		Delete bool   `json:"delete_after"`
	}
	return c.serve(ctx, dir, f, func(base string) error {
		plan := map[string]any{"hash": "blake3", "protocol_version": 2}
		var list []operation
		for _, p := range packs {
			op := operation{Source: p.Key, Delete: true, Keep: []blob{}}
			for _, k := range p.Keep {
				op.Keep = append(op.Keep, blob{k[0], k[1]})
			}
			list = append(list, op)
		}
		plan["operations"] = list
		body, err := json.Marshal(plan)
		if err != nil {
			return err
		}
		return request(ctx, http.MethodPost, base+"?repack", body, nil, io.Discard)
	})
}

// client does what a client must without help: it fetches what lives, in requests as V'Ger's
// client makes them, stores new packs and deletes the old.
func (c Workload) client(ctx context.Context, dir string, packs []pack, f *Figures) error {
	return c.serve(ctx, dir, f, func(base string) error {
		blake3, err := digest.Lookup(digest.BLAKE3)
		if err != nil {
			return err
		}
		for _, p := range packs {
			body := append(make([]byte, 0, p.live()), "VGERPACK\x01"...)
			for i := 0; i < len(p.Keep); {
				n := coalesce(p.Keep[i:])
				first, last := p.Keep[i], p.Keep[i+n-1]
				var part bytes.Buffer
				span := fmt.Sprintf("bytes=%d-%d", first[0], last[0]+last[1]-1)
				if err := request(ctx, http.MethodGet, base+"/"+p.Key, nil, http.Header{"Range": {span}}, &part); err != nil {
					return err
				}
				for _, k := range p.Keep[i : i+n] {
					body = binary.LittleEndian.AppendUint32(body, uint32(k[1]))
					at := k[0] - first[0]
					body = append(body, part.Bytes()[at:at+k[1]]...)
				}
				i += n
			}
			h := blake3.New()
			h.Write(body)
			sum := fmt.Sprintf("%x", h.Sum(nil))
			header := http.Header{"X-Content-Blake3": {sum}}
			if err := request(ctx, http.MethodPut, base+"/packs/"+sum[:2]+"/"+sum, body, header, io.Discard); err != nil {
				return err
			}
		}
		for _, p := range packs {
			if err := request(ctx, http.MethodDelete, base+"/"+p.Key, nil, nil, io.Discard); err != nil {
				return err
			}
		}
		return nil
	})
}

// coalesce returns how many blobs one request fetches: gaps of at most 256 KiB, 16 MiB in all.
// Source: vger-rest, 3.3.
func coalesce(keep [][2]int64) int {
	n := 1
	for n < len(keep) {
		last, next := keep[n-1], keep[n]
		if next[0]-(last[0]+last[1]) > 256<<10 || next[0]+next[1]-keep[0][0] > 16<<20 {
			break
		}
		n++
	}
	return n
}

func request(ctx context.Context, method, url string, body []byte, header http.Header, into io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, method, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	for name, values := range header {
		req.Header[name] = values
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<10))
		return fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text)
	}
	_, err = io.Copy(into, resp.Body)
	return err
}
