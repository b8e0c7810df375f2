package client

import (
	"crypto/tls"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Remote returns a client of a server on another machine, at a URL such as https://backup.example:8484. It authenticates with
// token, with certificate, or with both; "" and nil: without.
func Remote(address, token string, certificate *tls.Certificate) (*Client, error) {
	base, err := url.Parse(address)
	if err != nil || base.Scheme != "http" && base.Scheme != "https" || base.Host == "" || strings.Trim(base.Path, "/") != "" {
		return nil, fmt.Errorf("the server's address must be a URL such as https://backup.example:8484, not %q", address)
	}
	if certificate == nil {
		return &Client{Far: true, HTTP: &http.Client{Transport: elsewhere{base, token, http.DefaultTransport}}}, nil
	}
	if base.Scheme != "https" {
		return nil, fmt.Errorf("a certificate is only for https, not for %s", address)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}}
	return &Client{Far: true, HTTP: &http.Client{Transport: elsewhere{base, token, transport}}}, nil
}

// elsewhere is a transport that sends requests to a server, with its token.
type elsewhere struct {
	base  *url.URL
	token string // "": none
	next  http.RoundTripper
}

func (e elsewhere) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL.Scheme, r.URL.Host, r.Host = e.base.Scheme, e.base.Host, ""
	if e.token != "" {
		r.Header.Set("Authorization", "Bearer "+e.token)
	}
	return e.next.RoundTrip(r)
}
