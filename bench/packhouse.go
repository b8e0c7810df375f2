package bench

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"packhouse/blobstore"
	"packhouse/index"
	"packhouse/repo/digest"
	"packhouse/repo/layout"
)

// repository is the name of the one that is measured.
const repository = "bench"

// Packhouse returns the servers for the program at path, one for each of its dialects.
func Packhouse(path, version string) []Server {
	s := Server{
		Info: ServerInfo{Name: "packhouse", Dialect: "borgstore", Version: version, Durable: true,
			Command: "packhouse serve --config CONFIG --data-dir DIR --listen ADDRESS --log-level warn",
			Notes: "items of up to 128 KiB and the log of the index, or file, its directory and the log, are synced before the answer; BLAKE3 of all bytes beside the SHA-256 of the client; " +
				"without a log line for each request, which the others do not write either"},
		Hash: digest.SHA256, Driver: NewBorgStore, Path: "/" + repository, TLS: true, Profiles: true,
		Command: func(s Start) (Command, error) { return packhouseCommand(path, s, "") },
		Header:  basic(),
		Seed:    seedPackhouse(borgStoreKey), Snapshots: packhouseSnapshots, Scrub: scrubPackhouse,
	}
	v := s
	v.Info.Name, v.Info.Dialect = "packhouse-vger", "vger"
	v.Info.Notes = "the same over V'Ger's protocol; packs are named by BLAKE3, as clients of format 3 do"
	v.Header = http.Header{"Authorization": {"Bearer " + secret}}
	v.Hash, v.Driver = digest.BLAKE3, NewVGer(digest.BLAKE3)
	r := s
	r.Info.Name, r.Info.Dialect = "packhouse-restic", "restic"
	r.Info.Notes = "the same over restic's protocol; packs are named by SHA-256"
	r.Driver, r.Seed = NewRestic, seedPackhouse(resticKey)
	return []Server{s, v, r}
}

// packhouseCommand starts the program with a configuration for measurements, and more of it.
func packhouseCommand(path string, s Start, more string) (Command, error) {
	// A scheduled scrub of the night would disturb what is measured.
	snapshots := "off"
	if s.SnapshotEvery > 0 {
		snapshots = "@every " + s.SnapshotEvery.String()
	}
	config := s.Dir + ".toml"
	text := fmt.Sprintf("[maintenance]\nscrub = \"off\"\nsnapshots = %q\njitter = \"0\"\n", snapshots) + more
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return Command{}, err
	}
	args := []string{path, "serve", "--config", config, "--data-dir", s.Dir, "--listen", s.Addr, "--log-level", "warn"}
	if s.Certificate != "" {
		args = append(args, "--tls-cert", s.Certificate, "--tls-key", s.Key)
	}
	if s.Profile != "" {
		args = append(args, "--profile", s.Profile)
	}
	return Command{Args: args, Env: []string{"PACKHOUSE_TOKEN=" + secret}}, nil
}

// seedPackhouse puts the items into the index under their keys, with an empty file for each: the server looks whether there is one,
// but not into it.
func seedPackhouse(key func(name string) string) func(ctx context.Context, dir string, names []string) error {
	return func(ctx context.Context, dir string, names []string) error { return seedItems(ctx, dir, names, key) }
}

func seedItems(ctx context.Context, dir string, names []string, key func(name string) string) (err error) {
	dir = filepath.Join(dir, repository)
	x, err := index.Open(filepath.Join(dir, layout.IndexFile), index.Options{})
	if err != nil {
		return fmt.Errorf("seed: %w", err)
	}
	defer func() {
		if fault := x.Close(); err == nil {
			err = fault
		}
	}()
	now := time.Now()
	var files emptyFiles
	const batch = 20_000
	for first := 0; first < len(names); first += batch {
		var group []index.Mutation
		for i, name := range names[first:min(len(names), first+batch)] {
			var id [16]byte
			number := uint64(first + i)
			binary.BigEndian.PutUint64(id[:], number)
			binary.BigEndian.PutUint64(id[8:], number*0x9e3779b97f4a7c15)
			file := hex.EncodeToString(id[:])
			if err := files.make(filepath.Join(dir, blobstore.BlobsDir, file[len(file)-2:], file)); err != nil {
				return fmt.Errorf("seed: %w", err)
			}
			group = append(group, index.Put{Key: key(name), Limit: -1, Now: now, Item: index.Item{Ref: "\x01" + string(id[:])}})
		}
		if _, err := x.Apply(ctx, group...); err != nil {
			return fmt.Errorf("seed: %w", err)
		}
	}
	return nil
}

// packhouseSnapshots finds the snapshots in the repository: the name of one is when it began, and its file is written
// when it ends.
func packhouseSnapshots(dir string) ([]Snapshot, error) {
	entries, err := os.ReadDir(filepath.Join(dir, repository, layout.SnapshotDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var found []Snapshot
	for _, entry := range entries {
		begin, whole := layout.SnapshotTime(entry.Name())
		if !whole {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			continue // it was one too many, and is gone
		}
		found = append(found, Snapshot{begin, info.ModTime()})
	}
	return found, err
}

// scrubPackhouse asks for a scrub of everything and waits for its end.
func scrubPackhouse(ctx context.Context, c *Client) error {
	var job struct {
		ID    string `json:"id"`
		State string `json:"state"`
	}
	if err := c.sendJSON(ctx, http.MethodPost, "/-/scrubs?when=now", nil, &job); err != nil {
		return err
	}
	for {
		if err := c.sendJSON(ctx, http.MethodGet, "/-/jobs/"+job.ID, nil, &job); err != nil {
			return err
		}
		switch job.State {
		case "done":
			return nil
		case "failed", "cancelled":
			return fmt.Errorf("the scrub has %s", job.State)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}
