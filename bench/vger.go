package bench

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/blake2b"
)

// vault is the repository of the V'Ger workloads.
const vault = "/vault"

// InitVault makes the repository.
func (c *Client) InitVault(ctx context.Context) error {
	_, err := c.send(ctx, http.MethodPost, vault+"?init", nil, nil, 0, io.Discard)
	return err
}

// Packs uploads packs as V'Ger's clients do, over one connection, and lets the server verify them.
type Packs struct {
	Size int // of a pack, bytes
	N    int
	Hash string // blake2b or blake3
}

type pack struct {
	key, digest string
	body        []byte
}

// packs makes the packs beforehand: a client has the digest before it sends.
func (c Packs) packs() []pack {
	packs := make([]pack, c.N)
	for i := range packs {
		body := noise(uint64(i), int64(c.Size))
		copy(body, "VGERPACK\x01")
		binary.LittleEndian.PutUint32(body[9:], uint32(c.Size-13))
		var digest [32]byte
		if c.Hash == "blake3" {
			digest = blake3.Sum256(body)
		} else {
			digest = blake2b.Sum256(body)
		}
		name := hex.EncodeToString(digest[:])
		packs[i] = pack{"packs/" + name[:2] + "/" + name, name, body}
	}
	return packs
}

// Run carries out the workload on a server whose repository exists.
func (c Packs) Run(ctx context.Context, s *Server) (put, verify Result, err error) {
	client := s.Client(1)
	defer client.Close()
	packs := c.packs()
	header := map[string]string{"blake2b": "X-Content-BLAKE2b", "blake3": "X-Content-BLAKE3"}[c.Hash]
	start := time.Now()
	for _, p := range packs {
		if _, err := client.send(ctx, http.MethodPut, vault+"/"+p.key, http.Header{header: {p.digest}},
			bytes.NewReader(p.body), int64(c.Size), io.Discard); err != nil {
			return put, verify, err
		}
	}
	name := fmt.Sprintf("/size=%s/hash=%s", bytesText(int64(c.Size)), c.Hash)
	size := float64(c.Size) * float64(c.N) / 1e6
	put = Result{Workload: "PutPack" + name, Server: s.Program.Name, N: c.N, Metrics: []Metric{{size / time.Since(start).Seconds(), "MB/s"}}}

	type request struct {
		Key   string `json:"pack_key"`
		Size  int    `json:"expected_size"`
		Blobs []any  `json:"expected_blobs"`
	}
	plan := struct {
		Packs    []request `json:"packs"`
		Hash     string    `json:"hash"`
		Protocol int       `json:"protocol_version"`
	}{Hash: c.Hash, Protocol: 2}
	for _, p := range packs {
		plan.Packs = append(plan.Packs, request{p.key, c.Size, []any{}})
	}
	body, err := json.Marshal(plan)
	if err != nil {
		return put, verify, err
	}
	var answer bytes.Buffer
	before, err := s.Processor()
	if err != nil {
		return put, verify, err
	}
	start = time.Now()
	if _, err := client.send(ctx, http.MethodPost, vault+"?verify-packs", http.Header{"Content-Type": {"application/json"}},
		bytes.NewReader(body), int64(len(body)), &answer); err != nil {
		return put, verify, err
	}
	took := time.Since(start)
	after, err := s.Processor()
	if err != nil {
		return put, verify, err
	}
	if good := bytes.Count(answer.Bytes(), []byte(`"hash_valid":true`)); good != c.N {
		return put, verify, fmt.Errorf("%d of %d packs verified: %s", good, c.N, answer.String()[:min(300, answer.Len())])
	}
	return put, Result{Workload: "VerifyPacks" + name, Server: s.Program.Name, N: c.N, Metrics: []Metric{
		{size / took.Seconds(), "MB/s"}, {size / (after - before).Seconds(), "MB/core-s"}, // by all cores; by one
	}}, nil
}

// packName is the key of the i-th pack of a repository with many.
func packName(i int) string {
	name := itemName(i)
	return "packs/" + name[62:] + "/" + name
}

// Keys measures the listing of all keys, and the statistics, of a repository with many packs.
func (c Many) Keys(ctx context.Context, s *Server) (list, stats Result, err error) {
	client := s.Client(1)
	defer client.Close()
	measure := func(what, target string) (Result, error) {
		if _, err := client.send(ctx, http.MethodGet, target, nil, nil, 0, io.Discard); err != nil {
			return Result{}, err
		}
		start := time.Now()
		_, err := client.send(ctx, http.MethodGet, target, nil, nil, 0, io.Discard)
		took := time.Since(start)
		if err != nil {
			return Result{}, err
		}
		peak, err := memory(s)
		return Result{Workload: fmt.Sprintf("%s/items=%d", what, c.Items), Server: s.Program.Name, N: 1, Metrics: append([]Metric{{float64(took.Microseconds()) / 1000, "ms"}}, peak...)}, err
	}
	if list, err = measure("ListKeys", vault+"?list"); err != nil {
		return list, stats, err
	}
	stats, err = measure("Stats", vault+"?stats")
	return list, stats, err
}
