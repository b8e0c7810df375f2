package api_test

import (
	"net/http"
	"testing"

	"packhouse/api"
)

// TestNameless: what the URL should look like is what the client uses.
func TestNameless(t *testing.T) {
	for _, c := range []struct {
		remote, host, forwarded string
		want                    string
	}{
		{"192.0.2.1:99", "backup.example.org:8484", "", "http://backup.example.org:8484/NAME"},
		{"192.0.2.1:99", "backup.example.org", "https", "http://backup.example.org/NAME"}, // it is no proxy of ours
		{"127.0.0.1:99", "backup.example.org", "https", "https://backup.example.org/NAME"},
		{"@", "[2001:db8::1]:8484", "https", "https://[2001:db8::1]:8484/NAME"},
		{"127.0.0.1:99", "<b>\n", "", "http://HOST/NAME"},
		{"127.0.0.1:99", "", "", "http://HOST/NAME"},
	} {
		r := &http.Request{RemoteAddr: c.remote, Host: c.host, Header: http.Header{"X-Forwarded-Proto": {c.forwarded}}}
		if got, err := api.NamelessURL(r); got != c.want || err != nil {
			t.Errorf("%+v: got %s, %v", c, got, err)
		}
	}
}
