package client

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// Remote returns a client of a server on another machine, at a URL such as https://backup.example:8484. It authenticates with
// token, with certificate, or with both; "" and nil: without.
func Remote(address, token string, certificate *tls.Certificate) (*Client, error) {
	base, err := url.Parse(address)
	switch {
	case err == nil && base.User != nil: // which is not repeated, as it may be a secret
		return nil, errors.New("the server's address has a user or a password in it, which are not used: give a token besides, as a file or as PACKHOUSE_TOKEN")
	case err != nil, base.Scheme != "http" && base.Scheme != "https", base.Host == "", strings.Trim(base.Path, "/") != "", base.RawQuery != "", base.Fragment != "":
		return nil, fmt.Errorf("the server's address must be a URL such as https://backup.example:8484, not %q", address)
	}
	client := func(transport http.RoundTripper) *Client {
		return &Client{Far: true, Address: base.Scheme + "://" + base.Host, HTTP: &http.Client{
			Transport: elsewhere{base, token, transport},
			// The token is for this server, and a POST would become a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}}
	}
	if certificate == nil {
		return client(http.DefaultTransport), nil
	}
	if base.Scheme != "https" {
		return nil, fmt.Errorf("a certificate is only for https, not for %s", address)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{Certificates: []tls.Certificate{*certificate}}
	return client(transport), nil
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
