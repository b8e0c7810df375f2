package api

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// PasswordFile is a file of users as htpasswd writes it and rest-server reads it: a line "name:hash" for each; what follows a second
// colon, lines that begin with '#', and empty ones say nothing. It can be reloaded, and is safe for concurrent use.
//
// A line that cannot be used is left out, and a remark says so: it must not lock out the users of the others. A file without any
// user that can log in is an error.
type PasswordFile struct {
	path  string
	known atomic.Pointer[passwords] // replaced, never modified: who asks for a user does not wait for the disk

	mu      sync.Mutex // held over a look at the file, which may be on a disk that does not answer
	applied fileState  // that known was read in; guarded by mu
	seen    fileState  // by the last look; guarded by mu
	fault   string     // of the last look that failed; guarded by mu
}

// passwords are what one reading of the file has found.
type passwords struct {
	users   []User // in the order of the file
	names   map[string]bool
	remarks []string
}

// fileState is by what a change of a file is noticed.
type fileState struct {
	changed time.Time
	size    int64
	info    os.FileInfo // which file it is
}

func (s fileState) is(other fileState) bool {
	return s.info != nil && other.info != nil && s.size == other.size && s.changed.Equal(other.changed) && os.SameFile(s.info, other.info)
}

// maxPasswords is the size of a file above which it is surely not one of passwords.
const maxPasswords = 16 << 20

// userNameForm is that of names in rest-server. Others could not be the first part of a path, or of credentials.
var userNameForm = regexp.MustCompile(`^[\p{L}\d@._-]+$`)

// LoadPasswordFile reads a file. Its error has the path.
func LoadPasswordFile(path string) (*PasswordFile, error) {
	f := &PasswordFile{path: path}
	if err := f.Reload(); err != nil {
		return nil, err
	}
	return f, nil
}

// Users are those that can log in.
func (f *PasswordFile) Users() []User { return f.known.Load().users }

// Path is that of the file.
func (f *PasswordFile) Path() string { return f.path }

// Has tells whether a user of that name can log in. A nil file has none.
func (f *PasswordFile) Has(name string) bool {
	if f == nil {
		return false
	}
	return f.known.Load().names[name]
}

// Remarks are what is wrong with lines that were left out, a text for each, without the path.
func (f *PasswordFile) Remarks() []string { return f.known.Load().remarks }

// Reload reads the file again. After an error the old users stay.
func (f *PasswordFile) Reload() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.reloadLocked()
}

func (f *PasswordFile) reloadLocked() error {
	known, state, err := readPasswords(f.path)
	if err != nil {
		return err
	}
	f.known.Store(&known)
	f.applied, f.seen, f.fault = state, state, ""
	return nil
}

// Look reads the file again if it is not what it was, and has been the same for two looks: while it is being written it may be half of what it
// will be. changed tells that there are other users now. After a look that failed the old users stay, and the next one tries again;
// the error is returned once, until another thing is wrong or the file was read.
func (f *PasswordFile) Look() (changed bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	state, err := stateOfFile(f.path)
	switch {
	case err != nil:
	case state.is(f.applied):
		f.seen, f.fault = state, ""
		return false, nil
	case !state.is(f.seen):
		f.seen = state
		return false, nil
	default:
		if err = f.reloadLocked(); err == nil {
			return true, nil
		}
	}
	if err.Error() == f.fault {
		return false, nil
	}
	f.fault = err.Error()
	return false, err
}

func stateOfFile(path string) (fileState, error) {
	info, err := os.Stat(path)
	if err != nil {
		return fileState{}, passwordsError(path, err)
	}
	return fileState{info.ModTime(), info.Size(), info}, nil
}

// passwordsError says what is wrong with a file, and where it is, once.
func passwordsError(path string, err error) error {
	if tried := new(os.PathError); errors.As(err, &tried) {
		err = tried.Err
	}
	return fmt.Errorf("password file %s: %w", path, err)
}

// readPasswords reads a file. What it is said to be was so before it was read: a change after that is found by the next look.
func readPasswords(path string) (known passwords, state fileState, err error) {
	file, err := os.Open(path)
	if err != nil {
		return known, state, passwordsError(path, err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return known, state, passwordsError(path, err)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxPasswords+1))
	switch {
	case err != nil:
		return known, state, passwordsError(path, err)
	case len(data) > maxPasswords:
		return known, state, fmt.Errorf("password file %s: larger than 16 MiB; is it the right file?", path)
	}
	known = parsePasswords(data)
	if len(known.users) == 0 {
		return known, state, fmt.Errorf("password file %s has no user that can log in; htpasswd -B %s NAME adds one%s", path, path, detail(known.remarks))
	}
	return known, fileState{info.ModTime(), info.Size(), info}, nil
}

func detail(remarks []string) string {
	if len(remarks) == 0 {
		return ""
	}
	return ":\n" + strings.Join(remarks, "\n")
}

// parsePasswords reads the lines of a file. Nothing of a hash, or of a line that has no name, is repeated in a remark.
func parsePasswords(data []byte) (known passwords) {
	remark := func(line int, format string, args ...any) {
		known.remarks = append(known.remarks, fmt.Sprintf("line %d: ", line)+fmt.Sprintf(format, args...))
	}
	type entry struct {
		line int
		hash string // "": it cannot be used
	}
	entries := make(map[string]entry)
	var order []string
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, maxPasswords+1)
	for n := 1; lines.Scan(); n++ {
		text := strings.TrimSpace(strings.TrimPrefix(lines.Text(), "\ufeff"))
		if text == "" || text[0] == '#' {
			continue
		}
		name, rest, ok := strings.Cut(text, ":")
		if !ok {
			remark(n, "no colon between a name and a hash; the line is ignored")
			continue
		}
		if !userNameForm.MatchString(name) || len(name) > maxUserName {
			remark(n, "%.100q cannot be a user's name, which is up to %d bytes of letters, digits, '@', '.', '_' and '-'; the line is ignored", name, maxUserName)
			continue
		}
		before, twice := entries[name]
		if twice {
			remark(n, "user %q has line %d already; this one counts", name, before.line)
		} else {
			order = append(order, name)
		}
		hash, _, _ := strings.Cut(rest, ":")
		if hash = strings.TrimSpace(hash); CheckHash(hash) != nil {
			remark(n, "user %q cannot log in: the hash is %v; htpasswd -B makes one that can be used", name, CheckHash(hash))
			hash = ""
		}
		entries[name] = entry{n, hash}
	}
	known.names = make(map[string]bool)
	for _, name := range order {
		if hash := entries[name].hash; hash != "" {
			known.users = append(known.users, User{Name: name, Hash: hash})
			known.names[name] = true
		}
	}
	return known
}
