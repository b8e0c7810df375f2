package api_test

import (
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"packhouse/api"
	"packhouse/api/apitest"
	"packhouse/repo/policy"
)

// mutual is a server that asks its clients for certificates. It has the users alice and laptop.lan, who have only certificates,
// bob with a password, and a token of the name token.
type mutual struct {
	*apitest.Fixture
	t         *testing.T
	authority *apitest.Authority // of clients
	file      string             // of authorities
	clients   *api.ClientCAs
	servers   *apitest.Authority
	audit     auditFile
	later     atomic.Int64 // ns that requests are behind now
	addr      string       // with TLS
	resumed   bool         // the connection of the last answer had resumed a session
}

const secret = "a token that nobody guesses, as it is long"

const bobs = "a password that is long enough to need no patience"

func startMutual(t *testing.T, required bool) *mutual {
	m := &mutual{t: t, authority: apitest.NewAuthority(t, "clients"), servers: apitest.NewAuthority(t, "servers")}
	m.file = filepath.Join(t.TempDir(), "clients.pem")
	m.write(m.authority.PEM())
	var err error
	if m.clients, err = api.LoadClientCAs(m.file, required); err != nil {
		t.Fatal(err)
	}
	m.Fixture = startEcho(t, api.Options{Auth: m.auth("alice", "laptop.lan"), Audit: slog.NewJSONHandler(&m.audit, nil)})
	certificate, err := api.LoadCertificate(apitest.Files(t, m.servers.Issue(t, x509.Certificate{IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}})))
	if err != nil {
		t.Fatal(err)
	}
	m.addr = m.ServeOn(t, m.Server, false, func(l net.Listener) net.Listener {
		return api.TLS{Certificate: certificate.Get, Clients: m.clients}.Wrap(l)
	})
	return m
}

// auth has users with nothing but certificates, besides bob.
func (m *mutual) auth(users ...string) *api.Auth {
	read, err := policy.Parse(`{"": "lr"}`)
	if err != nil {
		m.t.Fatal(err)
	}
	o := api.AuthOptions{
		Clients: m.clients, Users: []api.User{{Name: "bob", Password: bobs}}, Tokens: []api.Token{{Name: "token", Secret: secret}},
		Now: func() time.Time { return time.Now().Add(time.Duration(m.later.Load())) },
	}
	for _, name := range users {
		o.Users = append(o.Users, api.User{Name: name, Permissions: read})
	}
	return newAuth(m.t, o)
}

func (m *mutual) write(text string) {
	m.t.Helper()
	if err := os.WriteFile(m.file, []byte(text), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

// trust replaces the authorities of clients.
func (m *mutual) trust(authority *apitest.Authority) {
	m.t.Helper()
	m.write(authority.PEM())
	if err := m.clients.Reload(); err != nil {
		m.t.Fatal(err)
	}
}

// client has the certificate, if there is one, and keeps its connection.
func (m *mutual) client(certificates ...tls.Certificate) *http.Client {
	transport := &http.Transport{TLSClientConfig: &tls.Config{
		RootCAs: m.servers.Pool(), Certificates: certificates, ClientSessionCache: tls.NewLRUClientSessionCache(8),
	}}
	m.t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

// ask sends a request, and returns status and text; 0: there was no connection.
func (m *mutual) ask(client *http.Client, method string, headers ...string) (int, string) {
	m.t.Helper()
	r, err := http.NewRequestWithContext(m.t.Context(), method, "https://"+m.addr+"/laptop/packs/a", nil)
	if err != nil {
		m.t.Fatal(err)
	}
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	response, err := client.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	m.resumed = response.TLS.DidResume
	text, err := io.ReadAll(response.Body)
	if err != nil {
		m.t.Fatal(err)
	}
	if response.StatusCode == http.StatusUnauthorized && len(response.Header.Values("Www-Authenticate")) == 0 {
		m.t.Error("a 401 without a challenge")
	}
	return response.StatusCode, string(text)
}

// want asks, and compares the answer.
func (m *mutual) want(client *http.Client, status int, part string, headers ...string) {
	m.t.Helper()
	if got, text := m.ask(client, "GET", headers...); got != status || !strings.Contains(text, part) {
		m.t.Errorf("got %d %q, want %d %q", got, text, status, part)
	}
}

// TestClientCertificates: who has a certificate is the user of its one name.
func TestClientCertificates(t *testing.T) {
	for _, required := range []bool{false, true} {
		m := startMutual(t, required)
		none := 401
		if required {
			none = 0 // no connection
		}
		named := func(name string) x509.Certificate { return x509.Certificate{Subject: pkix.Name{CommonName: name}} }
		twoNames := named("")
		twoNames.Subject.ExtraNames = []pkix.AttributeTypeAndValue{{Type: []int{2, 5, 4, 3}, Value: "mallory"}, {Type: []int{2, 5, 4, 3}, Value: "alice"}}
		past, ofServers := named("alice"), named("alice")
		past.NotAfter = time.Now().Add(-time.Minute)
		ofServers.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
		other := named("alice")
		other.DNSNames = []string{"bob"}
		same := named("laptop.lan")
		same.DNSNames = []string{"laptop.lan"}
		withURI, withAddress := named("alice"), named("alice")
		withURI.URIs, withAddress.IPAddresses = []*url.URL{{Scheme: "spiffe", Host: "bob"}}, []net.IP{net.IPv4(192, 0, 2, 1)}
		for _, test := range []struct {
			name     string
			template x509.Certificate
			status   int
			text     string
		}{
			{"common name", named("alice"), 200, `principal=alice permissions={"":"lr"}`},
			{"DNS name", x509.Certificate{DNSNames: []string{"laptop.lan"}}, 200, "principal=laptop.lan "},
			{"both", same, 200, "principal=laptop.lan "},
			{"e-mail address", x509.Certificate{EmailAddresses: []string{"alice"}}, 200, "principal=alice "},
			{"a user with a password", named("bob"), 200, "principal=bob "},
			{"no user", named("mallory"), 403, `the client certificate is of "mallory", who is no user`},
			{"a name of a token", named("token"), 403, "who is no user"},
			{"another case", named("Alice"), 403, "who is no user"},
			{"without a name", x509.Certificate{Subject: pkix.Name{Organization: []string{"alice"}}}, 403, "has no name"},
			{"two names", other, 403, "has 2 names"},
			{"two common names", twoNames, 403, "has 2 names"},
			{"two DNS names", x509.Certificate{DNSNames: []string{"alice", "laptop.lan"}}, 403, "has 2 names"},
			{"a URI besides", withURI, 403, "has 2 names"},
			{"an address besides", withAddress, 403, "has 2 names"},
			{"expired", past, 0, "tls: "},
			{"for servers", ofServers, 0, "tls: "},
		} {
			certificate := m.authority.Issue(t, test.template)
			if got, text := m.ask(m.client(certificate), "GET"); got != test.status || !strings.Contains(text, test.text) {
				t.Errorf("required %v: %s: got %d %q, want %d %q", required, test.name, got, text, test.status, test.text)
			}
			// A refused certificate is refused with good credentials, too.
			if test.status == 403 {
				m.want(m.client(certificate), 403, test.text, "Authorization", "Bearer "+secret)
			}
		}
		m.want(m.client(apitest.NewAuthority(t, "clients").Named(t, "alice")), 0, "")
		m.want(m.client(), none, "")
		if required {
			m.want(m.client(), 0, "", "Authorization", "Bearer "+secret)
		} else {
			m.want(m.client(), 200, "principal=token ", "Authorization", "Bearer "+secret)
			m.want(m.client(), 401, "", "Authorization", basic("alice", "x"))
			m.want(m.client(), 401, "", "Authorization", basic("alice", ""))
		}
		alice := m.client(m.authority.Named(t, "alice"))
		for _, test := range []struct {
			header string
			status int
			text   string
		}{
			{basic("bob", bobs), 403, `the credentials of "bob" and the client certificate of "alice"`},
			{"Bearer " + secret, 403, `the credentials of "token" and the client certificate of "alice"`},
			{basic("alice", secret), 403, `the credentials of "token"`}, // a token is right with any name
			{basic("bob", "wrong"), 401, ""}, {"Bearer wrong", 401, ""}, {"Nonsense", 401, ""},
			{"", 200, "principal=alice "},
		} {
			m.want(alice, test.status, test.text, "Authorization", test.header)
		}
		m.want(m.client(m.authority.Named(t, "bob")), 200, "principal=bob ", "Authorization", basic("bob", bobs))
		// No header proves anything, also not from a proxy on this machine.
		for _, name := range []string{"X-Ssl-Client-Cert", "X-Forwarded-Client-Cert", "X-Client-Verify", "X-Remote-User", "X-Packhouse-Principal"} {
			if response, _ := get(t, m.Addr, "GET", "/laptop/packs/a", name, "alice"); response.StatusCode != 401 {
				t.Errorf("%s: got %d", name, response.StatusCode)
			}
		}
	}
}

// TestRefusedCertificates: the audit log has each request whose sender had a certificate and was refused.
func TestRefusedCertificates(t *testing.T) {
	m := startMutual(t, false)
	mallory := m.client(m.authority.Named(t, "mallory"))
	m.want(mallory, 403, "")
	m.ask(mallory, "PUT")
	m.want(m.client(m.authority.Named(t, "alice")), 403, "", "Authorization", basic("bob", bobs))
	m.want(m.client(m.authority.Named(t, "alice")), 200, "")
	lines := m.audit.lines(t, m.Fixture)
	if len(lines) != 3 {
		t.Fatalf("got %+v, want three lines", lines)
	}
	for i, reason := range []string{`of "mallory"`, `of "mallory"`, `of "bob" and the client certificate of "alice"`} {
		if l := lines[i]; l.What != "login" || l.Outcome != "refused" || l.Principal != "" || l.Status != 403 || l.Repository != "laptop" || !strings.Contains(l.Reason, reason) {
			t.Errorf("got %+v, want a login that was refused, because of %s", l, reason)
		}
	}
	if text := m.Logged(t); !strings.Contains(text, "principal=alice") || !strings.Contains(text, `who is no user`) {
		t.Errorf("request log:\n%s", text)
	}
}

// TestCertificateExpires: a connection outlives its certificate, but none of its requests do.
func TestCertificateExpires(t *testing.T) {
	m := startMutual(t, false)
	alice := m.client(m.authority.Named(t, "alice"))
	m.want(alice, 200, "principal=alice ")
	m.later.Store(int64(59 * time.Minute))
	m.want(alice, 200, "principal=alice ")
	m.later.Store(int64(61 * time.Minute))
	m.want(alice, 401, "has expired")
	m.want(alice, 401, "has expired", "Authorization", basic("bob", bobs)) // on a new connection, of a session of the last
	if !m.resumed {
		t.Error("no session was resumed")
	}
	m.later.Store(0)
	m.want(alice, 200, "principal=alice ")
}

// TestAuthoritiesReload: certificates of an authority that is not there any more are refused, on connections that are open,
// on new ones and on those that resume a session.
func TestAuthoritiesReload(t *testing.T) {
	m := startMutual(t, false)
	open, resumes := m.client(m.authority.Named(t, "alice")), m.client(m.authority.Named(t, "alice"))
	m.want(open, 200, "principal=alice ")
	m.want(resumes, 200, "principal=alice ")
	resumes.CloseIdleConnections()

	// A new certificate of the same authority disturbs nobody.
	m.trust(m.authority.Renewed(t, "clients"))
	m.want(open, 200, "principal=alice ")

	second := apitest.NewAuthority(t, "others")
	m.trust(second)
	m.want(open, 401, "not of an authority that this server accepts any more")
	for _, client := range []*http.Client{open, resumes} {
		if got, text := m.ask(client, "GET"); got == 200 {
			t.Errorf("a certificate of an authority that is gone: got %q", text)
		}
	}
	m.want(m.client(second.Named(t, "alice")), 200, "principal=alice ")

	for name, text := range map[string]string{
		"empty": "", "no PEM": "certificates\n", "cut": second.PEM() + m.authority.PEM()[:200], "no certificate": "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
		"damaged": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "large": strings.Repeat(" ", 1<<20+1),
	} {
		m.write(text)
		if err := m.clients.Reload(); err == nil {
			t.Errorf("%s: no error", name)
		}
		if _, err := api.LoadClientCAs(m.file, false); err == nil {
			t.Errorf("%s: no error of a start", name)
		}
		m.want(m.client(second.Named(t, "alice")), 200, "principal=alice ")
	}
	if _, err := api.LoadClientCAs(m.file+".none", false); err == nil {
		t.Error("no file: no error")
	}

	// A user that is gone.
	open = m.client(second.Named(t, "alice"))
	m.want(open, 200, "principal=alice ")
	m.Server.SetAuth(m.auth("laptop.lan"))
	m.want(open, 403, "who is no user")
	m.Server.SetAuth(m.auth("alice"))
	m.want(open, 200, "principal=alice ")
}

// TestCertificateOptions: what does not fit together is an error.
func TestCertificateOptions(t *testing.T) {
	if _, err := api.NewAuth(api.AuthOptions{Users: []api.User{{Name: "alice"}}}); err == nil {
		t.Error("a user without a password, where certificates say nothing: no error")
	}
	if _, err := api.NewAuth(api.AuthOptions{NoAuth: true, Clients: new(api.ClientCAs)}); err == nil {
		t.Error("NoAuth with certificates: no error")
	}
}
