package vger

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"sync"

	"golang.org/x/sync/errgroup"

	"packhouse/api"
	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/digest"
)

// verifyPacks answers POST ?verify-packs: the packs' bytes are read as they are on disk now, several packs
// at once. Results are in the order of the request, and when there are too many bytes for one
// request, of its first packs: clients count them.
func (x *request) verifyPacks() error {
	x.log("verify-packs")
	x.t.Log.Reads = true
	p := &verifyPlan{limits: x.d.o.Limits}
	a, algorithm, err := x.receive("verify-packs plan", p)
	if err != nil {
		return err
	}
	packs, truncated, err := x.admit(a, p.packs)
	if err != nil {
		return err
	}
	return x.runVerify(a, packs, truncated, algorithm)
}

// admit returns how many of the packs, from the first on, are within the volume of one request by their real
// sizes. What is missing has none.
func (x *request) admit(a *repo.Access, packs []verifyPack) (admitted []verifyPack, truncated bool, err error) {
	var total int64
	for i, p := range packs {
		entry, err := a.Lookup(x.r.Context(), p.canonical())
		if err != nil && !errors.Is(err, repo.ErrNotFound) {
			return nil, false, err
		}
		if total += entry.Item.Size; total > x.d.o.Limits.VerifyBytes {
			return packs[:i], true, nil
		}
	}
	return packs, false, nil
}

// verifyResult is one entry of the answer (contract, 6.1).
type verifyResult struct {
	PackKey     string  `json:"pack_key"`
	HashValid   bool    `json:"hash_valid"`
	HeaderValid bool    `json:"header_valid"`
	BlobsValid  bool    `json:"blobs_valid"`
	Error       *string `json:"error"`
}

func (x *request) runVerify(a *repo.Access, packs []verifyPack, truncated bool, algorithm digest.Algorithm) error {
	out := x.slow()
	defer out.settle()
	results := make([]verifyResult, len(packs))
	workers, ctx := errgroup.WithContext(x.r.Context())
	workers.SetLimit(cap(x.d.readers))
	for i := range packs {
		workers.Go(func() error {
			return x.d.reading(ctx, func() (err error) {
				results[i], err = verifyOne(ctx, a, packs[i], algorithm)
				packs[i].expected = nil
				return err
			})
		})
	}
	if err := workers.Wait(); err != nil {
		return out.fail(err)
	}
	out.settle()
	answer := struct {
		Results   []verifyResult `json:"results"`
		Truncated bool           `json:"truncated"`
	}{results, truncated}
	text, err := json.Marshal(answer)
	if err != nil {
		return out.fail(err)
	}
	out.text = append(out.text, text...)
	out.end()
	return nil
}

const damagedPack = "read failed: the stored bytes are damaged"

// reading waits until a slot for reading packs is free, and calls read.
func (d *Dialect) reading(ctx context.Context, read func() error) error {
	select {
	case d.readers <- struct{}{}:
		defer func() { <-d.readers }()
		return read()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// verifyOne reads one pack. An error means that nothing can be said, because the request was
// given up or the repository is going away; whatever is wrong with the pack is in the result.
func verifyOne(ctx context.Context, a api.Opener, p verifyPack, algorithm digest.Algorithm) (verifyResult, error) {
	result := verifyResult{PackKey: p.key}
	problem := func(format string, args ...any) (verifyResult, error) {
		text := fmt.Sprintf(format, args...)
		result.Error = &text
		return result, nil
	}
	o, err := a.Open(ctx, p.canonical())
	switch {
	case errors.Is(err, repo.ErrNotFound), errors.Is(err, repo.ErrIsDir):
		return problem("stat failed: no such pack")
	case errors.Is(err, repo.ErrCorrupt):
		return problem(damagedPack)
	case err != nil:
		return result, err
	}
	defer o.Close()
	frames := newFraming(p.expected)
	got, err := prove(ctx, o, frames, algorithm, p.name())
	switch {
	case ctx.Err() != nil:
		return result, ctx.Err()
	case errors.Is(err, repo.ErrDamaged):
		return problem(damagedPack)
	case err != nil:
		return problem("read error: the stored bytes cannot be read")
	}
	result.HashValid = got == p.name()
	result.HeaderValid = frames.headerValid()
	result.BlobsValid = frames.blobsValid()
	switch {
	case !result.HashValid:
		return problem("hash mismatch: expected %s, got %s", p.name(), got)
	case !result.HeaderValid:
		return problem("invalid pack header")
	case !result.BlobsValid:
		return problem("blob boundary mismatch")
	}
	return result, nil
}

// prove returns the digest of the pack's bytes by algorithm, and passes the bytes through frames once.
//
// The index knows the BLAKE3 of the bytes that were stored, and by which digest they were checked
// then. If that is the digest in the name, bytes that still have that BLAKE3 are those bytes, and BLAKE3
// is several times cheaper than BLAKE2b. On any difference the named digest is computed after all.
func prove(ctx context.Context, o *repo.Object, frames io.Writer, algorithm digest.Algorithm, name string) (string, error) {
	cheap := algorithm
	if provable(o.Item, algorithm, name) {
		var err error
		if cheap, err = digest.Lookup(digest.BLAKE3); err != nil {
			return "", err
		}
	}
	sum, err := hashObject(ctx, o, frames, cheap.New())
	if err != nil {
		return "", err
	}
	if cheap.Name == algorithm.Name {
		return hex.EncodeToString(sum), nil
	}
	if [32]byte(sum) == o.Item.BLAKE3 {
		return name, nil
	}
	sum, err = hashObject(ctx, o, io.Discard, algorithm.New())
	return hex.EncodeToString(sum), err
}

// provable tells whether the item's bytes were once seen to have the digest in its name.
func provable(item index.Item, algorithm digest.Algorithm, name string) bool {
	return algorithm.Name != digest.BLAKE3 && item.Flags&index.FlagUnverified == 0 && item.Algorithm == algorithm.Name && hex.EncodeToString(item.Sum) == name
}

// readBuffers are what verification reads through; their size is what one pack costs in memory.
var readBuffers = sync.Pool{New: func() any { b := make([]byte, 512<<10); return &b }}

// hashObject reads the whole item once.
func hashObject(ctx context.Context, o *repo.Object, also io.Writer, h hash.Hash) ([]byte, error) {
	buffer := readBuffers.Get().(*[]byte)
	defer readBuffers.Put(buffer)
	for offset := int64(0); offset < o.Size(); {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		part := (*buffer)[:min(int64(len(*buffer)), o.Size()-offset)]
		if _, err := o.ReadAt(part, offset); err != nil && err != io.EOF {
			return nil, err
		}
		h.Write(part) // a hash.Hash never returns an error
		if _, err := also.Write(part); err != nil {
			return nil, err
		}
		offset += int64(len(part))
	}
	return h.Sum(nil), nil
}
