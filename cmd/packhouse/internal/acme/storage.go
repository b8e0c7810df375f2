package acme

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/caddyserver/certmagic"

	"packhouse/blobstore/vfs"
)

// storage keeps what certmagic stores as files below a directory, under the names that certmagic gives them:
//
//	acme/<authority>/users/<e-mail or "default">/   the account and its key
//	certificates/<authority>/<domain>/              <domain>.crt, <domain>.key, and <domain>.json: where it came from
//
// Files have mode 0600, directories 0700. A file is replaced as a whole, and durable when Store returns nil. The files of a certificate, and
// those of an account, are stored one after the other: a crash between them can leave a key of another certificate, see pair, or half an
// account, see List. Locks are in memory, because the process has the data directory for itself, so that a crash leaves none behind.
type storage struct {
	dir      string
	mayWrite func() error // nil: always

	// mu is held for a look at what follows, and over each write, so that none begins after close.
	mu     sync.Mutex
	locks  map[string]chan struct{} // closed when the lock is released
	closed bool
}

var (
	_ certmagic.Storage   = (*storage)(nil)
	_ certmagic.TryLocker = (*storage)(nil)
)

func newStorage(dir string, mayWrite func() error) *storage {
	return &storage{dir: dir, mayWrite: mayWrite, locks: make(map[string]chan struct{})}
}

var (
	errUnusable = errors.New("certificate and key cannot be used")
	errClosed   = errors.New("the server is stopping")
)

// pair reads the certificate of a domain. Errors: fs.ErrNotExist if one of its files is missing, errUnusable if they do not fit together, else I/O.
func (s *storage) pair(issuer, domain string) (tls.Certificate, error) {
	var texts [3][]byte
	for i, key := range []string{
		certmagic.StorageKeys.SiteCert(issuer, domain), certmagic.StorageKeys.SitePrivateKey(issuer, domain), certmagic.StorageKeys.SiteMeta(issuer, domain),
	} {
		var err error
		if texts[i], err = s.Load(context.Background(), key); err != nil {
			return tls.Certificate{}, err
		}
	}
	pair, err := tls.X509KeyPair(texts[0], texts[1])
	if err == nil {
		err = pair.Leaf.VerifyHostname(domain)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("%w: %w", errUnusable, err)
	}
	return pair, nil
}

// probePrefix begins the names of files by which certmagic finds out whether it can write.
const probePrefix = "rw_test_"

// tidy removes files that a crash has left half-written. Whatever cannot be removed stays: it is in nobody's way.
func (s *storage) tidy() error {
	err := filepath.WalkDir(s.dir, func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !entry.IsDir() && (strings.HasPrefix(entry.Name(), ".new-") || strings.HasPrefix(entry.Name(), probePrefix)) {
			_ = s.Delete(context.Background(), strings.TrimPrefix(name, s.dir+"/"))
		}
		return nil
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// close lets nothing be written any more.
func (s *storage) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
}

// file is the path of a key.
func (s *storage) file(key string) (string, error) {
	if name := filepath.FromSlash(key); filepath.IsLocal(name) && path.Clean(key) != "." {
		return filepath.Join(s.dir, name), nil
	}
	return "", fmt.Errorf("%q is no key: %w", key, fs.ErrInvalid)
}

// writableLocked tells whether something may be written.
func (s *storage) writableLocked() error {
	if s.closed {
		return errClosed
	}
	if s.mayWrite != nil {
		return s.mayWrite()
	}
	return nil
}

// Store implements certmagic.Storage.
func (s *storage) Store(_ context.Context, key string, value []byte) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writableLocked(); err != nil {
		return err
	}
	if err := makeAll(filepath.Dir(name)); err != nil {
		return err
	}
	return vfs.Replace(vfs.OS(), name, value)
}

// makeAll makes a directory and those above it, durably.
func makeAll(dir string) error {
	err := os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) {
		if err := makeAll(filepath.Dir(dir)); err != nil {
			return err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return vfs.OS().SyncDir(filepath.Dir(dir))
}

// Load implements certmagic.Storage.
func (s *storage) Load(_ context.Context, key string) ([]byte, error) {
	name, err := s.file(key)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(name)
}

// Delete implements certmagic.Storage. It is durable, too.
func (s *storage) Delete(_ context.Context, key string) error {
	name, err := s.file(key)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.writableLocked(); err != nil {
		return err
	}
	if _, err := os.Lstat(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(name); err != nil {
		return err
	}
	return vfs.OS().SyncDir(filepath.Dir(name))
}

// Exists implements certmagic.Storage.
func (s *storage) Exists(_ context.Context, key string) bool {
	name, err := s.file(key)
	if err != nil {
		return false
	}
	_, err = os.Stat(name)
	return err == nil
}

// List implements certmagic.Storage. A directory of an account that lacks a file is left out, as a crash or a full disk between the two can leave it:
// certmagic would take its name for the e-mail address of an account, and with "default", which is none, no authority would register it.
func (s *storage) List(ctx context.Context, prefix string, recursive bool) (keys []string, err error) {
	name, err := s.file(prefix)
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		key := path.Join(prefix, entry.Name())
		if path.Base(prefix) == "users" && !completeAccount(filepath.Join(name, entry.Name())) {
			continue
		}
		keys = append(keys, key)
		if recursive && entry.IsDir() {
			below, err := s.List(ctx, key, true)
			if err != nil {
				return nil, err
			}
			keys = append(keys, below...)
		}
	}
	return keys, nil
}

// completeAccount tells whether a directory has both files of an account.
func completeAccount(dir string) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	has := func(suffix string) bool {
		return slices.ContainsFunc(entries, func(entry fs.DirEntry) bool { return strings.HasSuffix(entry.Name(), suffix) })
	}
	return has(".json") && has(".key")
}

// Stat implements certmagic.Storage.
func (s *storage) Stat(_ context.Context, key string) (certmagic.KeyInfo, error) {
	name, err := s.file(key)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return certmagic.KeyInfo{}, err
	}
	return certmagic.KeyInfo{Key: key, Modified: info.ModTime(), Size: info.Size(), IsTerminal: !info.IsDir()}, nil
}

// Lock implements certmagic.Locker.
func (s *storage) Lock(ctx context.Context, name string) error {
	for {
		held := s.take(name)
		if held == nil {
			return nil
		}
		select {
		case <-held:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// TryLock implements certmagic.TryLocker.
func (s *storage) TryLock(_ context.Context, name string) (bool, error) {
	return s.take(name) == nil, nil
}

// take takes a lock and returns nil, or else returns what is closed when another one lets go of it.
func (s *storage) take(name string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if held, ok := s.locks[name]; ok {
		return held
	}
	s.locks[name] = make(chan struct{})
	return nil
}

// Unlock implements certmagic.Locker.
func (s *storage) Unlock(_ context.Context, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	held, ok := s.locks[name]
	if !ok {
		return fmt.Errorf("lock %q: %w", name, fs.ErrNotExist)
	}
	delete(s.locks, name)
	close(held)
	return nil
}
