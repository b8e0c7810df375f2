package bench

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Server is a server that can be measured: how to start it, and how to send it requests. A zero field means that it does not support
// this.
type Server struct {
	Info ServerInfo
	Peer bool     // of another project
	Slow []string // kinds of workloads that take it so long that only a long run has them
	Hash string   // the algorithm of package digest whose digests name its items

	// Command starts it on a store. What is not to be shown to other users of the machine goes into the environment.
	Command func(Start) (Command, error)
	Path    string      // of the repository below the server's address; begins with a slash, or is empty
	Header  http.Header // goes with each request, such as for authentication
	Driver  func(*Client) Driver
	TLS     bool
	// Profiles: it knows Start.Profile.
	Profiles bool

	// Seed makes items of these names, without bytes, in a store that Create made and that is not served now.
	Seed func(ctx context.Context, dir string, names []string) error
	// Snapshots tells when snapshots of the index were made in a store.
	Snapshots func(dir string) ([]Snapshot, error)
	// Scrub lets the server read everything it has; it returns when that is done.
	Scrub func(context.Context, *Client) error
}

// Start has the parameters of a Command.
type Start struct {
	Dir              string // of the store; may be missing
	Addr             string // host:port of loopback
	Certificate, Key string // files, if TLS is wanted
	// SnapshotEvery is the time between two snapshots of the index; 0: none.
	SnapshotEvery time.Duration
	// Profile is a directory for profiles as package profile has them made; "": none.
	Profile string
}

// Command is a program with its arguments and additional environment variables.
type Command struct{ Args, Env []string }

// Snapshot is one copy of an index, made from Begin to End.
type Snapshot struct{ Begin, End time.Time }

// secret is the password of all servers: they listen on loopback, where others of the machine can reach them.
const secret = "0123456789abcdef"

// peers are the servers of others that the bench knows, by the names of --peer.
var peers = map[string]func(path, version string) Server{
	"borgstore":   BorgStoreServer,
	"rest-server": RestServer,
	"vykar":       VykarServer,
}

// PeerNames lists the names that Peer accepts.
func PeerNames() []string { return slices.Sorted(maps.Keys(peers)) }

// Peer returns the server of another project, whose program is at path.
func Peer(ctx context.Context, name, path string) (Server, error) {
	make, ok := peers[name]
	if !ok {
		return Server{}, fmt.Errorf("there is no peer %q, only %s", name, strings.Join(PeerNames(), ", "))
	}
	path, err := exec.LookPath(path)
	if err != nil {
		return Server{}, fmt.Errorf("peer %s: %w", name, err)
	}
	s := make(path, programVersion(ctx, path))
	s.Peer = true
	return s, nil
}

// programVersion is what a program says of its version, as far as it does. borgstore's does not, but its library does.
func programVersion(ctx context.Context, path string) string {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		python := filepath.Join(filepath.Dir(path), "python")
		if out, err = exec.CommandContext(ctx, python, "-c", "import borgstore; print(borgstore.__version__)").Output(); err != nil {
			return ""
		}
	}
	for _, word := range strings.Fields(string(out)) {
		if word = strings.TrimPrefix(word, "v"); word != "" && word[0] >= '0' && word[0] <= '9' {
			return word
		}
	}
	return ""
}
