package alert

import (
	"encoding/json"
	"fmt"
	"sync/atomic"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/internal/jsonfile"
)

// The file is JSON: {"version": 1, "alerts": [ALERT …], "receivers": {NAME: STATE …}}. Nothing in it cannot be lost: without the file, or with a damaged one,
// receivers are told again of what is wrong.

const fileVersion = 1

// maxFile is the size of a file above which it is surely none of ours.
const maxFile = 64 << 20

type stateFile struct {
	Version   int                      `json:"version"`
	Alerts    []Alert                  `json:"alerts"`
	Receivers map[string]receiverState `json:"receivers"`
}

// receiverState is what the file keeps of a receiver.
type receiverState struct {
	Told    []toldAlert  `json:"told,omitempty"`
	Ended   []endedAlert `json:"ended,omitempty"` // of which it is still to be told
	Sent    time.Time    `json:"last_sent,omitzero"`
	Summary time.Time    `json:"last_summary,omitzero"`
}

type toldAlert struct {
	Key
	Level Level     `json:"level"`
	At    time.Time `json:"at"`
}

type endedAlert struct {
	Alert
	Told bool `json:"told,omitempty"` // of its beginning
}

// store writes the file behind those who change something: no delivery waits for a disk.
type store struct {
	o       Options
	next    chan stateFile // at most the last one
	closing chan struct{}
	closed  chan struct{}
	started bool
	failed  bool        // the last write has, and that was logged
	unsaved atomic.Bool // the last state is not in the file: it is to be saved again
}

func newStore(o Options) *store {
	return &store{o: o, next: make(chan stateFile, 1), closing: make(chan struct{}), closed: make(chan struct{})}
}

func (s *store) start() {
	s.started = true
	go func() {
		defer close(s.closed)
		for {
			select {
			case f := <-s.next:
				s.write(f)
			case <-s.closing:
				select {
				case f := <-s.next:
					s.write(f)
				default:
				}
				return
			}
		}
	}()
}

// save has a state written, in place of one that waits. Callers take turns.
func (s *store) save(f stateFile) {
	select {
	case <-s.next:
	default:
	}
	s.next <- f
}

// storePatience is how long the end waits for the disk.
const storePatience = 2 * time.Second

// close writes what waits.
func (s *store) close() {
	if !s.started {
		return
	}
	close(s.closing)
	select {
	case <-s.closed:
	case <-time.After(storePatience):
	}
}

func (s *store) write(f stateFile) {
	if s.o.MayRecord != nil && s.o.MayRecord() != nil {
		s.unsaved.Store(true) // not into a directory that is not the one that was opened
		return
	}
	data, err := json.Marshal(f)
	if err == nil {
		err = vfs.Replace(s.o.FS, s.o.Path, append(data, '\n'))
	}
	if err != nil && !s.failed {
		s.o.Logger.Warn("what was told to the receivers of alerts could not be stored; after a restart they may be told again", "error", err)
	}
	s.failed = err != nil
	s.unsaved.Store(err != nil)
}

// read returns what the file has; a file that is not there or damaged has nothing.
func (s *store) read() stateFile {
	f, err := decodeFile(s.o.Path)
	if err != nil {
		s.o.Logger.Warn("what was told to the receivers of alerts could not be read; they may be told again", "error", err)
		return stateFile{}
	}
	return f
}

func decodeFile(path string) (f stateFile, err error) {
	found, err := jsonfile.Read(path, maxFile, &f)
	if err == nil && found && f.Version != fileVersion {
		err = fmt.Errorf("%s is of another version", path)
	}
	if err != nil {
		return stateFile{}, err
	}
	return f, nil
}
