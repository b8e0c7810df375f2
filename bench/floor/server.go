package floor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// Paths of the requests; doc.go describes them.
const (
	LogPath    = "/log/"
	FilePath   = "/files/"
	ListPath   = "/list/"
	DeletePath = "/delete"
	CopyPath   = "/copy"
)

// maxLogged is the most bytes of an item in the log.
const maxLogged = 4 << 20

// Server is a floor in a directory. It is safe for concurrent use.
type Server struct {
	dir   string
	log   *log
	names *bbolt.DB // nil: nothing to list

	removing sync.WaitGroup // of files whose deletion was acknowledged
}

// Open opens a floor in dir, which is created if missing.
func Open(dir string) (*Server, error) {
	if err := os.MkdirAll(filepath.Join(dir, "files"), 0o700); err != nil {
		return nil, err
	}
	s := &Server{dir: dir}
	path := filepath.Join(dir, listFile)
	if _, err := os.Stat(path); err == nil {
		if s.names, err = bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true}); err != nil {
			return nil, err
		}
	}
	var err error
	s.log, err = openLog(filepath.Join(dir, "log"))
	return s, err
}

// Close closes the floor. No request may be running.
func (s *Server) Close() error {
	s.removing.Wait()
	err := s.log.close()
	if s.names != nil {
		err = errors.Join(err, s.names.Close())
	}
	return err
}

// Serve serves l, over TLS if certificate and key are files, until ctx ends and the running requests are done.
func (s *Server) Serve(ctx context.Context, l net.Listener, certificate, key string) error {
	server := &http.Server{Handler: s.handler()}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() { stopped <- server.Shutdown(context.WithoutCancel(ctx)) })
	var err error
	if certificate != "" {
		err = server.ServeTLS(l, certificate, key)
	} else {
		err = server.Serve(l)
	}
	if stop() || !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return <-stopped
}

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	handle := func(pattern string, do func(*http.Request) error) {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			if err := do(r); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
			}
		})
	}
	handle("PUT "+LogPath+"{name}", s.putLogged)
	handle("PUT "+FilePath+"{name}", s.putFile)
	handle("POST "+DeletePath, s.delete)
	handle("POST "+CopyPath, s.copy)
	mux.HandleFunc("GET "+FilePath+"{name}", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, s.path(r.PathValue("name")))
	})
	mux.HandleFunc("GET "+ListPath, s.list)
	return mux
}

func (s *Server) path(name string) string { return filepath.Join(s.dir, "files", filepath.Base(name)) }

var bodies = sync.Pool{New: func() any { return new([]byte) }}

func (s *Server) putLogged(r *http.Request) error {
	if r.ContentLength < 0 || r.ContentLength > maxLogged {
		return fmt.Errorf("a body of %d bytes", r.ContentLength)
	}
	b := bodies.Get().(*[]byte)
	defer bodies.Put(b)
	if int64(cap(*b)) < r.ContentLength {
		*b = make([]byte, r.ContentLength)
	}
	body := (*b)[:r.ContentLength]
	if _, err := io.ReadFull(r.Body, body); err != nil {
		return err
	}
	if sum := sha256.Sum256(body); hex.EncodeToString(sum[:]) != r.PathValue("name") {
		return errors.New("the body is not what its name says")
	}
	return s.log.append(body)
}

// buffers are large, so that a file takes few system calls.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

func (s *Server) putFile(r *http.Request) error {
	return s.write(s.path(r.PathValue("name")), r.PathValue("name"), r.Body)
}

// write makes a durable file of what body has. With a name its SHA-256 must be that.
func (s *Server) write(path, name string, body io.Reader) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	h := sha256.New()
	// Without its ReadFrom the file takes the buffer, not one of its own.
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(h, file)}, struct{ io.Reader }{body}, buffer[:]); err != nil {
		return err
	}
	if name != "" && hex.EncodeToString(h.Sum(nil)) != name {
		return errors.Join(errors.New("the body is not what its name says"), os.Remove(path))
	}
	if err := unix.Fdatasync(int(file.Fd())); err != nil {
		return err
	}
	directory, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	return errors.Join(directory.Sync(), directory.Close())
}

func (s *Server) delete(r *http.Request) error {
	var names []string
	if err := json.NewDecoder(r.Body).Decode(&names); err != nil {
		return err
	}
	if err := s.log.append([]byte(strings.Join(names, "\n"))); err != nil {
		return err
	}
	// The record is what is durable; the files can go when the answer is out.
	s.removing.Go(func() {
		for _, name := range names {
			_ = os.Remove(s.path(name)) // a file that stays is nobody's, here
		}
	})
	return nil
}

// Copy is the body of a request to CopyPath.
type Copy struct {
	Source string
	Keep   [][2]int64 // offset and length, in bytes
}

func (s *Server) copy(r *http.Request) error {
	var c Copy
	if err := json.NewDecoder(r.Body).Decode(&c); err != nil {
		return err
	}
	source, err := os.Open(s.path(c.Source))
	if err != nil {
		return err
	}
	defer source.Close()
	var parts []io.Reader
	for _, k := range c.Keep {
		parts = append(parts, io.NewSectionReader(source, k[0], k[1]))
	}
	if err := s.write(s.path(c.Source+".new"), "", io.MultiReader(parts...)); err != nil {
		return err
	}
	return os.Remove(source.Name())
}
