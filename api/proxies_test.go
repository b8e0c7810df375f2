package api_test

import (
	"bytes"
	"net/http"
	"testing"

	"packhouse/api"
)

// Who is believed to name the client, and whom the log then names.
func TestTrustedProxies(t *testing.T) {
	for _, tt := range []struct {
		name      string
		proxies   []string
		forwarded []string
		want      string
	}{
		{"a proxy on this machine", api.DefaultProxies, []string{"192.0.2.1"}, "192.0.2.1"},
		{"the last one", api.DefaultProxies, []string{"198.51.100.1, 192.0.2.1"}, "192.0.2.1"},
		{"of several headers", api.DefaultProxies, []string{"198.51.100.1", "192.0.2.1"}, "192.0.2.1"},
		{"behind another trusted one", []string{"127.0.0.1", "10.1.0.0/16"}, []string{"198.51.100.1, 192.0.2.1, 10.1.2.3"}, "192.0.2.1"},
		{"trusted ones only", []string{"127.0.0.1", "10.1.0.0/16"}, []string{"10.1.2.4, 10.1.2.3"}, "10.1.2.4"},
		{"no address", api.DefaultProxies, []string{"192.0.2.1, unknown"}, "127.0.0.1"},
		{"nobody is trusted", []string{"none"}, []string{"192.0.2.1"}, "127.0.0.1"},
		{"only others", []string{"10.1.0.0/16"}, []string{"192.0.2.1"}, "127.0.0.1"},
		{"IPv4 as IPv6", api.DefaultProxies, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"IPv6", api.DefaultProxies, []string{"2001:db8:1:2:3::4"}, "2001:db8:1:2::/64"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			proxies, err := api.ParseProxies(tt.proxies)
			if err != nil {
				t.Fatal(err)
			}
			f := startEcho(t, api.Options{Proxies: &proxies})
			req, err := http.NewRequest("GET", "http://"+f.Addr+"/r", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header["X-Forwarded-For"] = tt.forwarded
			response, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if !bytes.Contains([]byte(f.Logged(t)), []byte("remote="+tt.want)) {
				t.Errorf("the log does not have %s: %s", tt.want, f.Logged(t))
			}
		})
	}
	for _, wrong := range []string{"", "localhost", "10.1.0.0/33", "10.1"} {
		if _, err := api.ParseProxies([]string{wrong}); err == nil {
			t.Errorf("%q was accepted", wrong)
		}
	}
}
