package borgstore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/api/borgstore"
	"packhouse/repo"
)

// Every error of the repository has a line of its own: a new one must be given a status.
func TestErrorTableIsComplete(t *testing.T) {
	for _, err := range repo.All {
		if !borgstore.ErrorTable.Has(err) {
			t.Errorf("no status for %q", err)
		}
	}
}

func TestErrors(t *testing.T) {
	path := errors.New("open /srv/packhouse/blobs/ab/cd: input/output error")
	tests := []struct {
		err    error
		status int
		text   string // "": any
	}{
		{&repo.QuotaError{Wanted: 1100, Limit: 1000}, 507, "Quota exceeded: 1100 > 1000"},
		{&repo.TrashError{Trash: 100, Limit: 90}, 507, (&repo.TrashError{Trash: 100, Limit: 90}).Error()},
		{&repo.ChargesError{Charges: 100, Limit: 90}, 507, (&repo.ChargesError{Charges: 100, Limit: 90}).Error()},
		{&repo.SpaceError{Of: repo.ShortDisk, Trash: 7}, 507, (&repo.SpaceError{Of: repo.ShortDisk, Trash: 7}).Error()},
		{&repo.DeniedError{Letters: "wW", Key: "packs/x"}, 403, "One of permissions 'wW' required for 'packs/x'"},
		{&repo.DigestError{Algorithm: "sha256"}, 422, "Content hash verification failed, please retry"},
		{&api.DialectError{Name: "r", Has: "vger", Asked: "borgstore"}, 400,
			`repository "r" was created by clients of the vger dialect, but the request is of the borgstore dialect`},
		{borgstore.About("a/b", repo.ErrNotFound), 404, "a/b"},
		{borgstore.About("a\r\nb", repo.ErrNotFound), 404, `a\r\nb`},
		{repo.ErrNoRepository, 410, ""},
		{repo.ErrTooLarge, 413, ""},
		{repo.ErrBusy, 503, ""},
		{context.Canceled, 503, ""},
		// What may name a file of the server is never shown.
		{path, 500, api.InternalError},
		{fmt.Errorf("%w: %w", repo.ErrCorrupt, path), 500, ""},
		{fmt.Errorf("%w: %w", repo.ErrReadOnly, path), 503, ""},
		{fmt.Errorf("%w: %w", repo.ErrIncomplete, path), 400, ""},
		{fmt.Errorf("%w: %w", repo.ErrBusy, path), 503, ""},
		{fmt.Errorf("%w: %w", repo.ErrConflict, path), 503, ""},
		{fmt.Errorf("%w: %w", repo.ErrNoSpace, path), 507, ""},
		{&repo.ForeignError{Found: "found /srv/salary.xls"}, 409, ""},
	}
	for _, tt := range tests {
		status, text := borgstore.ErrorTable.Find(tt.err)
		if status != tt.status || tt.text != "" && text != tt.text {
			t.Errorf("%v: got %d %q, want %d %q", tt.err, status, text, tt.status, tt.text)
		}
		if strings.Contains(text, "/srv") {
			t.Errorf("%v: the answer names a path: %q", tt.err, text)
		}
		if http.StatusText(status) == "" {
			t.Errorf("%v: status %d has no standard phrase", tt.err, status)
		}
	}
}

// Foreign files are named to a process on the trusted side, whose user has the directory, and to nobody on the network.
func TestForeignFilesAreNamedToTheirOwner(t *testing.T) {
	f := apitest.Start(t, api.Options{Dialects: []api.Dialect{borgstore.New(borgstore.Options{})}})
	if err := os.MkdirAll(filepath.Join(f.Dir, "private", "salary"), 0o700); err != nil {
		t.Fatal(err)
	}
	for address, named := range map[string]bool{f.Addr: false, f.Serve(t, f.Server, true): true} {
		r, err := http.NewRequest("POST", "http://"+address+"/private/?cmd=create", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Accept", "application/vnd.x.borgstore.rest.v1")
		response, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		text, err := io.ReadAll(response.Body)
		if err != nil || response.StatusCode != 409 || strings.Contains(string(text), "salary") != named {
			t.Errorf("trusted %t: got %d %s, %v", named, response.StatusCode, text, err)
		}
	}
	if !strings.Contains(f.Logged(t), "salary") {
		t.Error("the log does not say what lies there")
	}
}
