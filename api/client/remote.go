package client

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Remote returns a client of a server on another machine, at a URL such as https://backup.example:8484. It authenticates with
// token.
func Remote(address, token string) (*Client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("the server's address must be a URL such as https://backup.example:8484, not %q", address)
	}
	return &Client{HTTP: &http.Client{Transport: elsewhere{base, token}}}, nil
}

// elsewhere is a transport that sends requests to a server, with its token.
type elsewhere struct {
	base  *url.URL
	token string
}

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = e.base.Scheme, e.base.Host, ""
	r.Header.Set("Authorization", "Bearer "+e.token)
	return http.DefaultTransport.RoundTrip(r)
}
