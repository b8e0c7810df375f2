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
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/zeebo/blake3"
	"golang.org/x/crypto/blake2b"
)

// TestCrashVger is TestCrash for clients of the V'Ger protocol over TLS, each with a repository of its own, half of them of
// format 3: packs, other objects, refreshed locks and sessions, deletes, batch deletes, repacks of several packs, and TTL locks. A repack whose
// answer was lost is sent again, as clients do, and must be answered as if it had not been. Its sources may stay until
// the index is stored after it, whole and not counted; when the client removes those it does not use any more, and
// what is kept is given back, nothing is left of them.
func TestCrashVger(t *testing.T) {
	t.Parallel()
	seed, random := crashRandom(t)
	certificate, key := selfSigned(t)
	s := startServer(t, "--log-level", "warn", "--tls-cert", certificate, "--tls-key", key)
	client := &http.Client{Timeout: 2 * time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 16, DisableCompression: true, TLSClientConfig: trusting(t, certificate)},
	}
	workers := make([]*crashWorker, 4)
	for i := range workers {
		c := &crashVger{base: "https://" + s.addr, http: client, hash: []string{"blake2b", "blake3"}[i%2],
			data: s.data, sources: make(map[string][]byte)}
		w := &crashWorker{t: t, protocol: c, repository: fmt.Sprintf("vault%d", i),
			random: rand.New(rand.NewPCG(seed, uint64(i+1))), items: make(map[string][]byte),
			counts: func(name string) bool { return !strings.HasPrefix(name, ttlLock) }}
		workers[i] = w
		if _, err := c.do("POST", w.repository+"?init", nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	crash(t, s, s.data, workers, random)
	for _, w := range workers {
		c := w.protocol.(*crashVger)
		t.Logf("%s: %d repacks were sent again, %d of them without an answer before; %d sources were there still and removed",
			w.repository, c.again, c.lost, c.removed)
	}
}

// crashVger is a crashProtocol, of one worker.
type crashVger struct {
	base string
	http *http.Client
	hash string // that names packs

	sent        *sentRepack // the last request, if it was a repack
	again, lost int         // repacks sent again, and those of them that had no answer

	data    string            // the server's directory
	sources map[string][]byte // of all repacks that were sent; the server may have them still
	open    map[string][]byte // those of the last repack that it has still
	removed int               // sources that it had still, and was asked to remove
}

// sentRepack is a repack as it was sent.
type sentRepack struct {
	body     []byte
	want     repackResult
	change   map[string][]byte
	answered bool
}

// ttlLock is the prefix under which a worker keeps the locks it holds among its items; the value is the holder.
const ttlLock = "lock:"

// do sends one request.
func (c *crashVger) do(method, target string, body []byte, header map[string]string) ([]byte, error) {
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

func (c *crashVger) put(repository, key string, value []byte) error {
	header := map[string]string{"blake2b": "X-Content-BLAKE2b", "blake3": "X-Content-BLAKE3"}[c.hash]
	_, err := c.do("PUT", repository+"/"+key, value, map[string]string{header: c.digest(value)})
	return err
}

func (c *crashVger) step(w *crashWorker) (map[string][]byte, error) {
	if c.sent != nil && (!c.sent.answered || w.random.IntN(4) == 0) {
		c.again++
		if !c.sent.answered {
			c.lost++
		}
		return c.sendRepack(w)
	}
	c.sent = nil
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
		key := c.packKey(value)
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
	case action < 66:
		// A lock or session object, which its owner refreshes by storing it again.
		key := fmt.Sprintf("locks/%020d-%032x.json", 1, w.random.IntN(2))
		if w.random.IntN(2) == 0 {
			key = fmt.Sprintf("sessions/%032x.json", w.random.IntN(2))
		}
		w.next++
		value := fmt.Appendf(nil, `{"hostname":%q,"pid":7,"refreshed":%d}`, w.repository, w.next)
		return map[string][]byte{key: value}, c.put(w.repository, key, value)
	case action < 72:
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
func (c *crashVger) batchDelete(w *crashWorker) (map[string][]byte, error) {
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
	query := "?batch-delete" + []string{"", "&cleanup-dirs"}[w.random.IntN(2)]
	_, err = c.do("POST", w.repository+query, body, map[string]string{"Content-Type": "application/json"})
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
		Hash            string            `json:"hash"`
		ProtocolVersion int               `json:"protocol_version"`
	}
	repackedPack struct {
		SourcePack string `json:"source_pack"`
		NewPack    string `json:"new_pack"`
		NewOffsets []int  `json:"new_offsets"`
		Deleted    bool   `json:"deleted"`
	}
	repackResult struct {
		Completed []repackedPack `json:"completed"`
	}
)

// repack keeps every second blob of some packs, in one plan.
func (c *crashVger) repack(w *crashWorker, packs []string) (map[string][]byte, error) {
	change := make(map[string][]byte)
	plan := repackPlan{Operations: []repackOperation{}, Hash: c.hash, ProtocolVersion: map[string]int{"blake2b": 1, "blake3": 2}[c.hash]}
	want := repackResult{Completed: []repackedPack{}}
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
		made := framed(kept...)
		result := repackedPack{SourcePack: source, NewPack: c.packKey(made), Deleted: true}
		if _, there := change[result.NewPack]; there || result.NewPack == source {
			continue // keeps all of it, or the same as another: nothing to test here
		}
		for _, blob := range blobsOf(made) {
			result.NewOffsets = append(result.NewOffsets, blob.offset)
		}
		plan.Operations = append(plan.Operations, operation)
		want.Completed = append(want.Completed, result)
		change[source] = nil
		change[result.NewPack] = made
	}
	body, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	c.sent = &sentRepack{body: body, want: want, change: change}
	return c.sendRepack(w)
}

// sendRepack sends the last repack, maybe again: nothing else came between, so the answer is the same.
func (c *crashVger) sendRepack(w *crashWorker) (map[string][]byte, error) {
	for name, made := range c.sent.change {
		if value, there := w.items[name]; made == nil && there {
			c.sources[name] = value
		}
	}
	answer, err := c.do("POST", w.repository+"?repack", c.sent.body, map[string]string{"Content-Type": "application/json"})
	if err != nil {
		return c.sent.change, err
	}
	c.sent.answered = true
	var got repackResult
	if err := json.Unmarshal(answer, &got); err != nil || !reflect.DeepEqual(got, c.sent.want) {
		w.t.Errorf("repack answered %s, %v, want %+v", answer, err, c.sent.want)
	}
	return c.sent.change, nil
}

func (c *crashVger) found(w *crashWorker) (map[string][]byte, error) {
	found, err := c.listed(w)
	if err != nil {
		return nil, err
	}
	if err := c.withoutSources(w, found); err != nil {
		return nil, err
	}
	return found, c.locks(w, found)
}

// listed reads all objects that are listed.
func (c *crashVger) listed(w *crashWorker) (map[string][]byte, error) {
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
	return found, nil
}

// withoutSources takes out of found what earlier repacks have replaced and the server has still, and removes it, as a
// client does at its next compaction. The sources of the last repack stay, as it may be sent again. What the
// server keeps after compactions is given back, so that no files are left but those of items.
func (c *crashVger) withoutSources(w *crashWorker, found map[string][]byte) error {
	c.open = make(map[string][]byte)
	unused := []string{}
	for name, value := range c.sources {
		got, there := found[name]
		ofLast := c.sent != nil && c.sent.replaces(name)
		if _, used := w.items[name]; !there || used && !(ofLast && c.sent.happened(found)) {
			continue
		}
		if !bytes.Equal(got, value) {
			w.t.Errorf("%s, which a repack has replaced, has %d bytes that are not its %d", name, len(got), len(value))
		}
		delete(found, name)
		if ofLast {
			c.open[name] = value
		} else {
			unused = append(unused, name)
		}
	}
	body, err := json.Marshal(unused)
	if err != nil {
		return err
	}
	if _, err := c.do("POST", w.repository+"?batch-delete", body, map[string]string{"Content-Type": "application/json"}); err != nil {
		return err
	}
	run(w.t, nil, packhouse(), "trash", "empty", w.repository, "--compactions", "--yes", "--data-dir", c.data)
	c.removed += len(unused)
	return nil
}

// replaces tells whether the repack removes the pack.
func (s *sentRepack) replaces(name string) bool {
	made, changed := s.change[name]
	return changed && made == nil
}

// happened tells whether all packs that the repack makes are among the objects.
func (s *sentRepack) happened(found map[string][]byte) bool {
	for name, made := range s.change {
		if _, there := found[name]; made != nil && !there {
			return false
		}
	}
	return true
}

// locks adds the TTL locks to found, and tries that each is held.
func (c *crashVger) locks(w *crashWorker, found map[string][]byte) error {
	answer, err := c.do("GET", w.repository+"/locks", nil, nil)
	if err != nil {
		return err
	}
	var locks []struct{ ID, Hostname string }
	if err := json.Unmarshal(answer, &locks); err != nil {
		return err
	}
	for _, lock := range locks {
		found[ttlLock+lock.ID] = []byte(lock.Hostname)
		_, err := c.do("POST", w.repository+"/locks/"+lock.ID, []byte(`{"hostname":"another","pid":7}`), map[string]string{"Content-Type": "application/json"})
		var status *statusError
		if !errors.As(err, &status) || status.status != http.StatusConflict {
			w.t.Errorf("lock %s, which %s holds, asked for by another: got %v, want 409", lock.ID, lock.Hostname, err)
		}
	}
	return nil
}

// left is how many packs the server has beside the worker's items.
func (c *crashVger) left() int { return len(c.open) }

func (c *crashVger) usage(w *crashWorker) (int64, error) {
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
	for _, value := range c.open {
		stats.Total -= int64(len(value)) // nor does it count these, which are there
	}
	for name, value := range w.items {
		if strings.HasPrefix(name, "locks/") || strings.HasPrefix(name, "sessions/") {
			stats.Used += int64(len(value)) // the quota does not count them
		}
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

// digest is the hash of what is stored, in hexadecimal.
func (c *crashVger) digest(value []byte) string {
	sum := blake2b.Sum256(value)
	if c.hash == "blake3" {
		sum = blake3.Sum256(value)
	}
	return hex.EncodeToString(sum[:])
}

// packKey is the name of a pack.
func (c *crashVger) packKey(pack []byte) string {
	name := c.digest(pack)
	return "packs/" + name[:2] + "/" + name
}
