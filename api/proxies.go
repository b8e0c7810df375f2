package api

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// Proxies are the peers of which the server believes for whom they ask: what they say in X-Forwarded-For and X-Forwarded-Proto.
// The zero value is nobody.
type Proxies struct {
	networks []netip.Prefix
	unix     bool // whoever may connect to a Unix socket
}

// DefaultProxies are the peers on this machine.
var DefaultProxies = []string{"127.0.0.0/8", "::1", "unix"}

// ParseProxies reads addresses ("192.0.2.1"), networks ("10.1.0.0/16"), the word "unix", for peers on Unix sockets, and the word "none".
func ParseProxies(texts []string) (p Proxies, err error) {
	for _, text := range texts {
		switch text {
		case "unix":
			p.unix = true
			continue
		case "none":
			continue
		}
		network, err := netip.ParsePrefix(text)
		if address, isAddress := netip.ParseAddr(text); isAddress == nil {
			network, err = netip.PrefixFrom(address, address.BitLen()), nil
		}
		if err != nil {
			return Proxies{}, fmt.Errorf(`%q is neither an address, a network such as 10.1.0.0/16, "unix" nor "none"`, text)
		}
		p.networks = append(p.networks, network.Masked())
	}
	return p, nil
}

// trusts tells whether a peer is one of them; one without an address is on a Unix socket.
func (p *Proxies) trusts(peer netip.Addr) bool {
	if !peer.IsValid() {
		return p.unix
	}
	for _, network := range p.networks {
		if network.Contains(peer) {
			return true
		}
	}
	return false
}

// client returns the address of a request's client: the peer, or whom trusted proxies name, the last one that is none of them.
// secure tells that a trusted proxy was asked by TLS.
func (p *Proxies) client(r *http.Request) (address string, secure bool) {
	secure = p.trusts(peerAddress(r)) && strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https")
	return shownAddress(p.clientAddress(r)), secure
}

// clientAddress is the whole address of client; invalid: there is none.
func (p *Proxies) clientAddress(r *http.Request) netip.Addr {
	client := peerAddress(r)
	trusted := p.trusts(client)
	if named := r.Header.Values("X-Forwarded-For"); trusted && len(named) > 0 {
		hops := strings.Split(strings.Join(named, ","), ",")
		for i := len(hops) - 1; i >= 0 && p.trusts(client); i-- {
			hop, err := netip.ParseAddr(strings.TrimSpace(hops[i]))
			if err != nil {
				break
			}
			client = plainAddress(hop)
		}
	}
	return client
}

// plainAddress gives an address one spelling: a zone may be any text, and an address of IPv4 may be written as one of IPv6.
func plainAddress(address netip.Addr) netip.Addr { return address.Unmap().WithZone("") }

// shownAddress is an address as text. For IPv6 it is the network of 64 bits, because a client that has one address in it has them all.
func shownAddress(address netip.Addr) string {
	switch {
	case !address.IsValid():
		return "local" // a Unix socket without a proxy that names anyone
	case address.Is6():
		if network, err := address.Prefix(64); err == nil {
			return network.Addr().String() + "/64"
		}
	}
	return address.String()
}

// peerAddress is the other end of a request's connection; invalid: it has no address.
func peerAddress(r *http.Request) netip.Addr { return addressOf(r.RemoteAddr) }

// addressOf is the address of an end of a connection, with or without a port; invalid: it has none.
func addressOf(end string) netip.Addr {
	host, _, err := net.SplitHostPort(end)
	if err != nil {
		host = end
	}
	address, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}
	}
	return plainAddress(address)
}
