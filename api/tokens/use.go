package tokens

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/internal/jsonfile"
)

// The last use of each token is kept in memory, exact to usedWithin, and written by a timer, so that no request waits for a disk: at
// most once in writeAfter, and when the store is closed. After a crash the uses of the time since the last write are not known.
//
// The file is JSON: {"version": 1, "since": TIME, "used": {ID: TIME …}}. There is nothing in it that cannot be lost: without the
// file, or with a damaged one, the record begins anew.
const (
	usedWithin = 5 * time.Minute
	writeAfter = time.Minute
)

// maxUses is the size of a file above which it is surely not one of uses: a token takes some 40 bytes of it.
const maxUses = 1 << 20

// Use is what is known of when a token was accepted.
type Use struct {
	Last  time.Time // up to five minutes before the last use; zero: not since Since
	Since time.Time // of which time on uses are known; zero: of none, as no server has recorded any
}

// uses is the record, and its timer.
type uses struct {
	failed bool // the last write has, and that was logged; of the write under way

	mu      sync.Mutex    // held over one look at what follows, or a change of it; never while the file is written
	since   time.Time     // when the record began; zero: it has not
	changed bool          // something is not written, and no write of it is under way
	timer   *time.Timer   // of the next write; nil: none waits
	running chan struct{} // closed when the write under way ends; nil: none is
	closed  bool
}

// usesFile is the file.
type usesFile struct {
	Version int                  `json:"version"`
	Since   time.Time            `json:"since"`
	Used    map[string]time.Time `json:"used"`
}

// used notes that a token was accepted.
func (s *Store) used(k *known, now time.Time) {
	if now.Sub(time.Unix(k.used.Load(), 0)).Abs() < usedWithin { // of a time ahead, too: the clock was set back
		return
	}
	k.used.Store(now.Unix())
	s.writeSoon()
}

// Use tells when a token was used.
func (s *Store) Use(t Token) (u Use) {
	s.uses.mu.Lock()
	u.Since = s.uses.since
	s.uses.mu.Unlock()
	if !u.Since.IsZero() && t.Created.After(u.Since) {
		u.Since = t.Created
	}
	s.mu.RLock()
	k := s.byID[t.ID]
	s.mu.RUnlock()
	if k != nil {
		if last := k.used.Load(); last != 0 {
			u.Last = time.Unix(last, 0).UTC()
		}
	}
	return u
}

// writeSoon has the record written, if this process writes it.
func (s *Store) writeSoon() {
	if s.o.MayRecord == nil {
		return
	}
	u := &s.uses
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.since.IsZero() {
		u.since = s.o.Now().UTC().Truncate(time.Second)
	}
	u.changed = true
	s.startTimerLocked()
}

// startTimerLocked starts the timer, if there is something to write and nobody is at it. uses.mu is held.
func (s *Store) startTimerLocked() {
	if u := &s.uses; u.changed && u.timer == nil && u.running == nil && !u.closed {
		u.timer = time.AfterFunc(writeAfter, func() { s.writeUses(false) })
	}
}

// writeUses writes the record, unless another is at it or everything is written. If it cannot, it is tried again later. last: also
// behind the end of the store.
func (s *Store) writeUses(last bool) {
	u := &s.uses
	u.mu.Lock()
	u.timer = nil
	if !u.changed || u.running != nil || u.closed && !last {
		u.mu.Unlock()
		return
	}
	u.changed, u.running = false, make(chan struct{})
	since := u.since
	u.mu.Unlock()
	stored := s.storeUses(since)
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed = u.changed || !stored
	close(u.running)
	u.running = nil
	s.startTimerLocked()
}

// storeUses replaces the file, if it may, and tells whether it has.
func (s *Store) storeUses(since time.Time) bool {
	if s.o.MayRecord() != nil {
		return false
	}
	f := usesFile{Version: fileVersion, Since: since, Used: make(map[string]time.Time)}
	s.mu.RLock()
	for id, k := range s.byID {
		if last := k.used.Load(); last != 0 {
			f.Used[id] = time.Unix(last, 0).UTC()
		}
	}
	s.mu.RUnlock()
	data, err := json.Marshal(f)
	if err == nil {
		err = vfs.Replace(s.o.FS, s.usesPath(), append(data, '\n'))
	}
	if err != nil && !s.uses.failed {
		s.o.Logger.Warn("the last uses of tokens could not be stored; they are kept in memory", "error", err)
	}
	s.uses.failed = err != nil
	return err == nil
}

func (s *Store) usesPath() string { return strings.TrimSuffix(s.o.Path, ".json") + "-used.json" }

// closeUses writes what is not written yet, and returns when nothing is being written any more.
func (s *Store) closeUses() {
	u := &s.uses
	u.mu.Lock()
	u.closed = true
	if u.timer != nil {
		u.timer.Stop()
	}
	running := u.running
	u.mu.Unlock()
	if running != nil {
		<-running
	}
	s.writeUses(true)
}

// readUses adds what the file knows to what is known, and begins the record if there is none and there are tokens.
func (s *Store) readUses() {
	f, err := decodeUses(s.usesPath())
	if err != nil {
		s.o.Logger.Warn("the last uses of tokens could not be read; they are recorded anew", "error", err)
	}
	s.mu.RLock()
	some := len(s.byID) > 0
	for id, last := range f.Used {
		if k := s.byID[id]; k != nil && last.Unix() > k.used.Load() {
			k.used.Store(last.Unix())
		}
	}
	s.mu.RUnlock()
	s.uses.mu.Lock()
	if !f.Since.IsZero() {
		s.uses.since = f.Since
	}
	begun := !s.uses.since.IsZero()
	s.uses.mu.Unlock()
	if some && !begun {
		s.writeSoon()
	}
}

// decodeUses reads a file; without one nothing is known.
func decodeUses(path string) (f usesFile, err error) {
	found, err := jsonfile.Read(path, maxUses, &f)
	if err == nil && found && (f.Version != fileVersion || f.Since.IsZero()) {
		err = fmt.Errorf("%s is damaged, or of another version", path)
	}
	if err != nil {
		return usesFile{}, err
	}
	return f, nil
}
