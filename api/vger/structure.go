package vger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/keys"
)

// structure is the answer to GET ?verify-structure (contract, 6.2). Beyond the reference it tells the
// truth about repositories without encryption and about locks.
type structure struct {
	OK         bool     `json:"ok"`
	Errors     []string `json:"errors"`
	PackCount  int64    `json:"pack_count"`
	TotalSize  int64    `json:"total_size"`  // bytes of the packs
	StaleLocks int      `json:"stale_locks"` // by the clients' own rule
	TempFiles  int      `json:"temp_files"`  // always 0: nothing unfinished is ever among the items
}

// verifyStructure walks the index; of each pack it reads the header, several packs at once. With many packs on
// a slow disk that takes longer than proxies wait, so that the answer may begin early.
func (x *request) verifyStructure() error {
	x.log("verify-structure")
	a, err := x.access()
	if err != nil {
		return err
	}
	out := x.slow()
	defer out.settle()
	s, err := x.inspectStructure(a)
	if err != nil {
		return out.fail(err)
	}
	out.settle()
	text, err := json.Marshal(s)
	if err != nil {
		return out.fail(err)
	}
	out.text = text
	out.end()
	return nil
}

func (x *request) inspectStructure(a *repo.Access) (s structure, err error) {
	if s.Errors, err = x.missingFiles(a); err != nil {
		return s, err
	}
	problems, err := x.checkPacks(a, &s)
	if err != nil {
		return s, err
	}
	s.Errors = append(s.Errors, problems...)
	s.OK = len(s.Errors) == 0
	err = inspectObjects(x.r.Context(), a, []string{"locks"}, nil, func(info api.LockInfo, _ string) error {
		if info.Stale {
			s.StaleLocks++
		}
		return nil
	})
	return s, err
}

// missingFiles names the objects a repository of its format must have.
func (x *request) missingFiles(a *repo.Access) ([]string, error) {
	config, err := x.d.configs.of(x.r.Context(), a.Repository())
	if err != nil {
		return nil, err
	}
	required := []string{"config", "index"}
	if config.format == 1 {
		required = []string{"config", "manifest", "index"}
	}
	if !config.plaintext {
		required = append(required, "keys/repokey")
	}
	missing := []string{}
	for _, name := range required {
		_, err := a.Stat(x.r.Context(), name)
		if errors.Is(err, repo.ErrNotFound) {
			missing = append(missing, "missing required file: "+name)
		} else if err != nil {
			return nil, err
		}
	}
	return missing, nil
}

// checkPacks counts the packs and returns what is wrong with them, in order of their keys.
func (x *request) checkPacks(a *repo.Access, s *structure) ([]string, error) {
	var mu sync.Mutex
	found := make(map[int64]string) // by position in the walk; guarded by mu
	workers, ctx := errgroup.WithContext(x.r.Context())
	workers.SetLimit(cap(x.d.readers))
	position := int64(0)
	walkErr := a.Each(ctx, index.ListOptions{Dir: "packs", Recursive: true}, func(entry index.Entry) error {
		i := position
		position++
		s.PackCount++
		s.TotalSize += entry.Item.Size
		workers.Go(func() error {
			return x.d.reading(ctx, func() error {
				problem, err := checkPack(ctx, a, entry)
				if problem != "" {
					mu.Lock()
					defer mu.Unlock()
					found[i] = problem
				}
				return err
			})
		})
		return ctx.Err()
	})
	err := workers.Wait()
	if err == nil && walkErr != nil && !errors.Is(walkErr, repo.ErrNotFound) {
		err = walkErr
	}
	if err != nil {
		return nil, err
	}
	problems := make([]string, 0, len(found))
	for i := int64(0); i < position && len(found) > 0; i++ {
		if problem, ok := found[i]; ok {
			problems = append(problems, problem)
			delete(found, i)
		}
	}
	return problems, nil
}

// checkPack looks at one item below packs/. Other clients of the server may have put anything there.
func checkPack(ctx context.Context, a *repo.Access, entry index.Entry) (problem string, err error) {
	if parseKey(entry.Key).shape != pack {
		shard, _, _ := strings.Cut(strings.TrimPrefix(entry.Key, "packs/"), "/")
		if !keys.IsHex(shard, 2) {
			return "invalid shard directory: packs/" + shard, nil
		}
		return "invalid pack name: " + entry.Key, nil
	}
	if entry.Item.Size < int64(len(packHeader)) {
		return fmt.Sprintf("pack too small (%d bytes): %s", entry.Item.Size, entry.Key), nil
	}
	head, err := readHead(ctx, a, entry.Key)
	switch magic := len(packHeader) - 1; {
	case errors.Is(err, repo.ErrNotFound):
		return "", nil // deleted meanwhile
	case err != nil && !errors.Is(err, repo.ErrCorrupt):
		return "", err
	case err != nil:
		return fmt.Sprintf("read error for %s: the stored bytes are damaged", entry.Key), nil
	case string(head[:magic]) != packHeader[:magic]:
		return "invalid pack magic: " + entry.Key, nil
	case head[magic] != packHeader[magic]:
		return fmt.Sprintf("unsupported pack version %d (supported: 1..=1): %s", head[magic], entry.Key), nil
	}
	return "", nil
}

// readHead reads the header of a pack.
func readHead(ctx context.Context, a api.Opener, key string) ([]byte, error) {
	o, err := a.Open(ctx, key)
	if err != nil {
		return nil, err
	}
	defer o.Close()
	head := make([]byte, len(packHeader))
	if n, err := o.ReadAt(head, 0); n < len(head) {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%w: %w", repo.ErrCorrupt, err)
	}
	return head, nil
}
