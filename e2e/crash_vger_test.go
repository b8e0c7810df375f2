//go:build e2e

package e2e

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/blake2b"
)

// TestCrashVger is TestCrash for clients of the V'Ger protocol over TLS, each with a repository of its own: packs,
// other objects, deletes, batch deletes, repacks of several packs, and locks.
func TestCrashVger(t *testing.T) {
	seed, random := crashRandom(t)
	certificate, key := selfSigned(t)
	s := startServer(t, "--log-level", "warn", "--tls-cert", certificate, "--tls-key", key)
	c := crashVger{base: "https://" + s.addr, http: &http.Client{Timeout: 2 * time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true, TLSClientConfig: trusting(t, certificate)},
	}}
	workers := make([]*crashWorker, 4)
	for i := range workers {
		w := &crashWorker{t: t, protocol: c, repository: fmt.Sprintf("vault%d", i),
			random: rand.New(rand.NewPCG(seed, uint64(i+1))), items: make(map[string][]byte),
			counts: func(name string) bool { return !strings.HasPrefix(name, ttlLock) }}
		workers[i] = w
		if _, err := c.do("POST", w.repository+"?init", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	crash(t, s, s.data, workers, random)
}

// crashVger is a crashProtocol.
type crashVger struct {
	base string
	http *http.Client
}

// ttlLock is the prefix under which a worker keeps the locks it holds among its items; the value is the holder.
const ttlLock = "lock:"

// do sends one request.
func (c crashVger) do(method, target string, body []byte, header map[string]string) ([]byte, error) {
	request, err := http.NewRequest(method, c.base+"/"+target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+token)
	for name, value := range header {
		request.Header.Set(name, value)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode >= 400 {
		return nil, &statusError{method + " " + target, response.StatusCode, string(answer)}
	}
	return answer, nil
}

func (c crashVger) put(repository, key string, value []byte) error {
	digest := blake2b.Sum256(value)
	_, err := c.do("PUT", repository+"/"+key, value, map[string]string{"X-Content-BLAKE2b": hex.EncodeToString(digest[:])})
	return err
}

func (c crashVger) step(w *crashWorker) (map[string][]byte, error) {
	var packs, locks []string
	for _, name := range w.names() {
		switch {
		case strings.HasPrefix(name, "packs/"):
			packs = append(packs, name)
		case strings.HasPrefix(name, ttlLock):
			locks = append(locks, name)
		}
	}
	action := w.random.IntN(100)
	switch {
	case len(packs) < 4 || action < 40 && len(packs) < 60:
		value := framed(w.blobs()...)
		key := packKey(value)
		return map[string][]byte{key: value}, c.put(w.repository, key, value)
	case action < 48:
		value := w.value()
		return map[string][]byte{"index": value}, c.put(w.repository, "index", value)
	case action < 56:
		value := w.value()
		key := fmt.Sprintf("snapshots/%064x", w.next)
		return map[string][]byte{key: value}, c.put(w.repository, key, value)
	case action < 61:
		id := fmt.Sprintf("%s%d", ttlLock, w.random.IntN(3))
		if slices.Contains(locks, id) {
			_, err := c.do("DELETE", w.repository+"/locks/"+id[len(ttlLock):], nil, nil)
			return map[string][]byte{id: nil}, err
		}
		body := fmt.Sprintf(`{"hostname":%q,"pid":7}`, w.repository)
		_, err := c.do("POST", w.repository+"/locks/"+id[len(ttlLock):], []byte(body), map[string]string{"Content-Type": "application/json"})
		return map[string][]byte{id: []byte(w.repository)}, err
	case action < 71:
		key := packs[w.random.IntN(len(packs))]
		_, err := c.do("DELETE", w.repository+"/"+key, nil, nil)
		return map[string][]byte{key: nil}, err
	case action < 80:
		return c.batchDelete(w)
	default:
		return c.repack(w, packs)
	}
}

// batchDelete removes several objects in one request.
func (c crashVger) batchDelete(w *crashWorker) (map[string][]byte, error) {
	change := make(map[string][]byte)
	keys := []string{}
	for _, name := range w.names() {
		if !strings.HasPrefix(name, ttlLock) && w.random.IntN(8) == 0 {
			keys = append(keys, name)
			change[name] = nil
		}
	}
	body, err := json.Marshal(keys)
	if err != nil {
		return nil, err
	}
	_, err = c.do("POST", w.repository+"?batch-delete", body, map[string]string{"Content-Type": "application/json"})
	return change, err
}

type (
	keptBlob struct {
		Offset int `json:"offset"`
		Length int `json:"length"`
	}
	repackOperation struct {
		SourcePack  string     `json:"source_pack"`
		KeepBlobs   []keptBlob `json:"keep_blobs"`
		DeleteAfter bool       `json:"delete_after"`
	}
	repackPlan struct {
		Operations      []repackOperation `json:"operations"`
		ProtocolVersion int               `json:"protocol_version"`
	}
	repackResult struct {
		Completed []struct {
			NewPack *string `json:"new_pack"`
		} `json:"completed"`
	}
)

// repack keeps every second blob of some packs, in one plan.
func (c crashVger) repack(w *crashWorker, packs []string) (map[string][]byte, error) {
	change := make(map[string][]byte)
	plan := repackPlan{Operations: []repackOperation{}, ProtocolVersion: 1}
	var results []string
	first := w.random.IntN(len(packs))
	for _, source := range packs[first:min(len(packs), first+1+w.random.IntN(4))] {
		operation := repackOperation{SourcePack: source, KeepBlobs: []keptBlob{}, DeleteAfter: true}
		var kept [][]byte
		for i, blob := range blobsOf(w.items[source]) {
			if i%2 == 0 {
				operation.KeepBlobs = append(operation.KeepBlobs, keptBlob{blob.offset, len(blob.data)})
				kept = append(kept, blob.data)
			}
		}
		result := packKey(framed(kept...))
		if _, there := change[result]; there || result == source {
			continue // keeps all of it, or the same as another: nothing to test here
		}
		plan.Operations = append(plan.Operations, operation)
		results = append(results, result)
		change[source] = nil
		change[result] = framed(kept...)
	}
	body, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	answer, err := c.do("POST", w.repository+"?repack", body, map[string]string{"Content-Type": "application/json"})
	if err != nil {
		return change, err
	}
	var got repackResult
	if err := json.Unmarshal(answer, &got); err != nil {
		w.t.Errorf("answer to a repack: %v: %s", err, answer)
	}
	for i, operation := range got.Completed {
		if i >= len(results) || operation.NewPack == nil || *operation.NewPack != results[i] {
			w.t.Errorf("repack answered %s, want the packs %v", answer, results)
			break
		}
	}
	return change, nil
}

func (c crashVger) found(w *crashWorker) (map[string][]byte, error) {
	answer, err := c.do("GET", w.repository+"?list", nil, nil)
	if err != nil {
		return nil, err
	}
	var keys []string
	if err := json.Unmarshal(answer, &keys); err != nil {
		return nil, err
	}
	found := make(map[string][]byte)
	for _, key := range keys {
		if found[key], err = c.do("GET", w.repository+"/"+key, nil, nil); err != nil {
			w.t.Errorf("%s is listed: %v", key, err)
		}
	}
	answer, err = c.do("GET", w.repository+"/locks", nil, nil)
	if err != nil {
		return nil, err
	}
	var locks []struct{ ID, Hostname string }
	if err := json.Unmarshal(answer, &locks); err != nil {
		return nil, err
	}
	for _, lock := range locks {
		found[ttlLock+lock.ID] = []byte(lock.Hostname)
	}
	return found, nil
}

func (c crashVger) usage(w *crashWorker) (int64, error) {
	answer, err := c.do("GET", w.repository+"?stats", nil, nil)
	if err != nil {
		return 0, err
	}
	var stats struct {
		Total int64 `json:"total_bytes"`
		Used  int64 `json:"quota_used_bytes"`
	}
	if err := json.Unmarshal(answer, &stats); err != nil {
		return 0, err
	}
	if stats.Used != stats.Total {
		return 0, errors.New("the quota counts other bytes than there are: " + string(answer))
	}
	return stats.Total, nil
}

// blobs are what a client puts into a pack.
func (w *crashWorker) blobs() [][]byte {
	blobs := make([][]byte, 2+w.random.IntN(5))
	for i := range blobs {
		blobs[i] = append(w.value(), byte(i)) // at least one byte
	}
	return blobs
}

// framed is a pack of the blobs.
func framed(blobs ...[]byte) []byte {
	pack := []byte("VGERPACK\x01")
	for _, blob := range blobs {
		pack = binary.LittleEndian.AppendUint32(pack, uint32(len(blob)))
		pack = append(pack, blob...)
	}
	return pack
}

type packedBlob struct {
	offset int
	data   []byte
}

// blobsOf takes a pack apart.
func blobsOf(pack []byte) []packedBlob {
	var blobs []packedBlob
	for at := 9; at < len(pack); {
		size := int(binary.LittleEndian.Uint32(pack[at:]))
		blobs = append(blobs, packedBlob{at + 4, pack[at+4 : at+4+size]})
		at += 4 + size
	}
	return blobs
}

// packKey is the name of a pack.
func packKey(pack []byte) string {
	digest := blake2b.Sum256(pack)
	name := hex.EncodeToString(digest[:])
	return "packs/" + name[:2] + "/" + name
}
