package restic_test

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/api/borgstore"
	"packhouse/api/restic"
	"packhouse/api/vger"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// world is a server of all dialects, and its users: "all" may do everything, each other has the role of its name.
type world struct {
	*apitest.Fixture
	t       *testing.T
	dialect *restic.Dialect
}

func start(t *testing.T, o api.Options, set datadir.Options) *world {
	t.Helper()
	return startDialect(t, restic.Options{Object: 1 << 20}, o, set)
}

func startDialect(t *testing.T, dialect restic.Options, o api.Options, set datadir.Options) *world {
	t.Helper()
	w := &world{t: t, dialect: restic.New(dialect)}
	users := []api.User{}
	for _, name := range []string{"all", "write-only", "read", "backup", "maintain", "none"} {
		users = append(users, api.User{Name: name, Password: "secret"})
	}
	auth, err := api.NewAuth(api.AuthOptions{Users: users})
	if err != nil {
		t.Fatal(err)
	}
	o.Auth = auth
	o.Authorize = func(_ string, d api.Dialect, p repo.Principal, _ bool) repo.Principal {
		switch p.Name {
		case "all":
		case "none":
			p.Permissions = policy.Nothing()
		default:
			p.Permissions = policy.Role(p.Name).Permissions(restic.Name)
		}
		return p
	}
	if set.Dir == "" {
		set.Dir = t.TempDir()
	}
	o.Set = datadir.Open(set)
	t.Cleanup(func() {
		if err := o.Set.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	o.Dialects = []api.Dialect{borgstore.New(borgstore.Options{}), w.dialect, vger.New(vger.Options{})}
	w.Fixture = apitest.Start(t, o)
	return w
}

// answer is what came back.
type answer struct {
	*http.Response
	body string
}

// call sends a request of a user with restic's media type.
func (w *world) call(user, method, path, body string, header ...string) answer {
	w.t.Helper()
	return w.send(user, method, path, strings.NewReader(body), append([]string{"Accept", "application/vnd.x.restic.rest.v2"}, header...)...)
}

func (w *world) send(user, method, path string, body io.Reader, header ...string) answer {
	w.t.Helper()
	r, err := http.NewRequest(method, "http://"+w.Addr+path, body)
	if err != nil {
		w.t.Fatal(err)
	}
	r.SetBasicAuth(user, "secret")
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return answer{resp, string(text)}
}

// want sends a request and compares the status.
func (w *world) want(status int, user, method, path, body string, header ...string) answer {
	w.t.Helper()
	a := w.call(user, method, path, body, header...)
	if a.StatusCode != status {
		w.t.Errorf("%s %s by %s: got %s %q, want %d", method, path, user, a.Status, a.body, status)
	}
	return a
}

// create creates a repository.
func (w *world) create(name string) {
	w.t.Helper()
	if a := w.send("all", "POST", "/"+name+"/?create=true", nil); a.StatusCode != 200 || a.body != "" {
		w.t.Fatalf("create %s: %s %q", name, a.Status, a.body)
	}
}

// store stores an object under the name that it must have, and returns its path.
func (w *world) store(user, name, kind, content string) string {
	w.t.Helper()
	path := "/" + name + "/" + kind + "/" + id(content)
	w.want(200, user, "POST", path, content)
	return path
}

func id(content string) string {
	sum := sha256.Sum256([]byte(content))
	return hex.EncodeToString(sum[:])
}
