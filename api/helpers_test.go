package api_test

import (
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"packhouse/api"
	"packhouse/api/apitest"
)

// echo is a dialect that answers with what the server made of a request. Requests with the header
// X-Marked are its own.
type echo struct {
	name   string
	marked bool                                                                      // claims only marked requests, and all their paths
	serve  func(w http.ResponseWriter, r *http.Request, t api.Target) (handled bool) // nil: echo
}

func (e echo) Name() string { return e.name }

func (e echo) Claims(r *http.Request) bool { return !e.marked || r.Header.Get("X-Marked") != "" }

func (e echo) OwnsPath(r *http.Request) bool { return e.marked && e.Claims(r) }

func (e echo) Serve(w http.ResponseWriter, r *http.Request, t api.Target) {
	t.Log.Operation, t.Log.Key = "echo", t.Path
	if e.serve != nil && e.serve(w, r, t) {
		return
	}
	api.WriteText(w, r, http.StatusOK, fmt.Sprintf("%s repository=%q path=%q query=%q principal=%s permissions=%s",
		e.name, t.Name, t.Path, t.Query, t.Principal.Name, t.Principal.Permissions))
}

// get sends a request whose target goes onto the wire as it is.
func get(t testing.TB, address, method, target string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, "http://"+address, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.URL.Opaque = target
	if strings.HasPrefix(target, "//") {
		// net/http would take it for a host.
		r.URL.Opaque = "http://" + address + target
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	return roundTrip(t, r)
}

// roundTrip sends a request and reads the answer.
func roundTrip(t testing.TB, r *http.Request) (*http.Response, string) {
	t.Helper()
	response, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", r.Method, r.URL, err)
	}
	return response, string(body)
}

func newAuth(t testing.TB, o api.AuthOptions) *api.Auth {
	t.Helper()
	auth, err := api.NewAuth(o)
	if err != nil {
		t.Fatalf("NewAuth: %v", err)
	}
	return auth
}

func startEcho(t testing.TB, o api.Options) *apitest.Fixture {
	t.Helper()
	if o.Dialects == nil {
		o.Dialects = []api.Dialect{echo{name: "marked", marked: true}, echo{name: "plain"}}
	}
	return apitest.Start(t, o)
}

func itoa(n int) string { return strconv.Itoa(n) }
