package vger

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"packhouse/repo"
)

// TestErrorTable: every error a repository can return has a status of its own, and its text names nothing of the server's.
func TestErrorTable(t *testing.T) {
	for _, err := range repo.All {
		if !table.Has(err) {
			t.Errorf("no line for %v", err)
		}
		code, text := answer(fmt.Errorf("open /var/lib/secret: %w", err))
		if code < 400 || code == http.StatusInternalServerError && !errors.Is(err, repo.ErrCorrupt) {
			t.Errorf("%v: status %d", err, code)
		}
		if text == "" || strings.Contains(text, "\n") {
			t.Errorf("%v: text %q", err, text)
		}
		if strings.Contains(text, "secret") && !errors.Is(err, repo.ErrDigest) && !errors.Is(err, repo.ErrDialect) {
			t.Errorf("%v: the text names a path: %q", err, text)
		}
	}
	if code, text := answer(&repo.ForeignError{Found: "found salary.xls"}); code != 409 || strings.Contains(text, "salary") {
		t.Errorf("foreign files: got %d %q, want 409 without their names", code, text)
	}
	if code, text := answer(errors.New("open /var/lib/secret")); code != 500 || text != "internal server error" {
		t.Errorf("an unlisted error: got %d %q", code, text)
	}
}

// TestRetriedErrors: clients retry every 5xx for about 70 s and no 4xx; 5xx is for what may pass by itself.
func TestRetriedErrors(t *testing.T) {
	transient := []error{repo.ErrReadOnly, repo.ErrBusy, repo.ErrCorrupt, repo.ErrLoss, repo.ErrDetached}
	for _, err := range repo.All {
		want := false
		for _, other := range transient {
			want = want || err == other
		}
		if code, _ := answer(err); (code >= 500) != want {
			t.Errorf("%v: got %d", err, code)
		}
	}
}
