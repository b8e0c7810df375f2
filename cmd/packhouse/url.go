package main

import (
	"net"
	"os"
	"strings"
)

// urlOf is how a client on this machine or another reaches a listener.
func urlOf(l net.Listener, secure bool) string {
	address := l.Addr()
	if address.Network() == "unix" {
		return "unix:" + address.String()
	}
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		return address.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		if host, err = os.Hostname(); err != nil || host == "" {
			host = "localhost"
		}
	}
	scheme := "http"
	if secure {
		scheme = "https"
	}
	return scheme + "://" + net.JoinHostPort(strings.TrimSuffix(host, "."), port)
}
