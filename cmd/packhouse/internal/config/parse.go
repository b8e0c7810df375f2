package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"sort"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Problem is one thing that is wrong with a file, or with what flags and environment say.
type Problem struct {
	File string // empty: there is none
	Line int    // 1-based; 0: the file as a whole
	Text string
}

func (p *Problem) Error() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return fmt.Sprintf("%s: %s", p.File, p.Text)
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
}

// maxFile is the size of a file above which it is surely not a configuration.
const maxFile = 1 << 20

// Load returns the defaults with what the file says (an empty name: no file) and, over both,
// what overrides sets from flags and environment (nil: nothing). Repositories take what they do
// not set from the result. The error is a *Problem for each thing that is wrong, joined; or that of reading the file.
func Load(file string, overrides func(*Config)) (Config, error) {
	if file == "" {
		return Parse("", nil, overrides)
	}
	info, err := os.Stat(file)
	if err == nil && info.Size() > maxFile {
		return Config{}, &Problem{File: file, Text: "larger than 1 MiB; is it the right file?"}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return Config{}, fmt.Errorf("%s: %w", file, err)
	}
	return Parse(file, data, overrides)
}

// Parse is Load for the contents of a file; its name is for messages.
func Parse(file string, data []byte, overrides func(*Config)) (Config, error) {
	var document map[string]any
	if err := toml.Unmarshal(data, &document); err != nil {
		var syntax *toml.DecodeError
		if errors.As(err, &syntax) {
			line, _ := syntax.Position()
			return Config{}, &Problem{file, line, strings.TrimPrefix(syntax.Error(), "toml: ")}
		}
		return Config{}, &Problem{File: file, Text: strings.TrimPrefix(err.Error(), "toml: ")}
	}
	p := &parser{file: file, lines: linesOf(data)}
	c := Defaults()
	c.Empty = file != "" && len(document) == 0
	p.document(document, &c, overrides)
	if len(p.problems) > 0 {
		sort.SliceStable(p.problems, func(i, j int) bool { return p.problems[i].Line < p.problems[j].Line })
		all := make([]error, len(p.problems))
		for i, problem := range p.problems {
			all[i] = problem
		}
		return Config{}, errors.Join(all...)
	}
	return c, nil
}

type parser struct {
	file     string
	lines    map[string]int // "server.listen", "repository[0].name", "repository[0]"
	problems []*Problem
}

func (p *parser) add(where, format string, args ...any) {
	p.problems = append(p.problems, &Problem{p.file, p.line(where), fmt.Sprintf(format, args...)})
}

// line is where a key stands, or the nearest table around it.
func (p *parser) line(where string) int {
	for where != "" {
		if line, ok := p.lines[where]; ok {
			return line
		}
		where = where[:max(strings.LastIndexByte(where, '.'), 0)]
	}
	return 0
}

func (p *parser) document(document map[string]any, c *Config, overrides func(*Config)) {
	known := []string{"server", "repository", "user", "maintenance", "alert", "monitoring"}
	server, _ := document["server"].(map[string]any)
	if value, ok := document["server"]; ok && server == nil {
		p.add("server", "server: %v", expected("a table, [server]", value))
	}
	apply(p, "server", server, serverKeys(), c)
	p.exclusive("server", server)
	if overrides != nil {
		overrides(c)
	}
	c.warnOfGrace("", server, c.Policy)
	if err := checkGuard(c.Policy.Guard); err != nil {
		p.add("server.guard", "server: %v", err)
	}

	for i, entry := range p.entries(document, "repository") {
		r := Repository{Policy: c.Policy, Backups: c.Backups}
		where := fmt.Sprintf("repository[%d]", i)
		apply(p, where, entry, repositoryKeys(), &r)
		p.exclusive(where, entry)
		c.warnOfGrace(fmt.Sprintf("repository %q: ", r.Name), entry, r.Policy)
		if err := checkGuard(r.Guard); err != nil && r.Guard != c.Policy.Guard {
			p.add(where+".guard", "repository %q: %v", r.Name, err)
		}
		c.Repositories = append(c.Repositories, r)
	}
	p.repositories(c.Repositories)

	for i, entry := range p.entries(document, "user") {
		var u User
		apply(p, fmt.Sprintf("user[%d]", i), entry, userKeys(), &u)
		c.Users = append(c.Users, u)
	}
	p.users(c)

	housekeeping, _ := document["maintenance"].(map[string]any)
	if value, ok := document["maintenance"]; ok && housekeeping == nil {
		p.add("maintenance", "maintenance: %v", expected("a table, [maintenance]", value))
	}
	apply(p, "maintenance", housekeeping, maintenanceKeys(), &c.Maintenance)

	p.alerts(document, c)

	p.unknown(document, known)
	p.tls(c)
	p.acme(c)
}

// unknown reports tables that there are none of.
func (p *parser) unknown(document map[string]any, known []string) {
	for key := range document {
		if slices.Contains(known, key) {
			continue
		}
		hint := ""
		if tables := home(key); tables != "" {
			hint = "; it belongs below " + tables
		} else if near := Nearest(key, known); near != "" {
			hint = fmt.Sprintf("; did you mean [%s]?", near)
		}
		p.add(key, "unknown key %q%s", key, hint)
	}
}

// tls checks settings that need each other.
func (p *parser) tls(c *Config) {
	if c.ProxyUserHeader != "" && len(c.Proxies) == 1 && c.Proxies[0] == "none" {
		p.add("server.proxy_user_header", "proxy_user_header has no effect without trusted_proxies, of which there are none")
	}
	switch {
	case (c.TLSCert == "") != (c.TLSKey == ""):
		p.add("server", "tls_cert and tls_key belong together; one of them is missing")
	case c.TLSSelfSigned && c.TLSCert != "":
		p.add("server.tls_self_signed", "tls_self_signed and tls_cert exclude each other: the server has one certificate")
	case c.ACME.Wanted() && (c.TLSCert != "" || c.TLSSelfSigned):
		p.add("server.acme_domains", "acme_domains excludes tls_cert and tls_self_signed: the server has its certificate from one place")
	case c.TLSClientCA != "" && !c.TLS():
		p.add("server.tls_client_ca", "tls_client_ca needs tls_cert and tls_key, tls_self_signed or acme_domains: clients show certificates only over TLS")
	case c.TLSMinVersion != "" && !c.TLS():
		p.add("server.tls_min_version", "tls_min_version needs tls_cert and tls_key, tls_self_signed or acme_domains")
	case c.TLSClientAuth != "" && c.TLSClientCA == "":
		p.add("server.tls_client_auth", "tls_client_auth needs tls_client_ca, the file of the authorities whose certificates are accepted")
	}
}

// acme checks the settings of ACME, which need each other as well.
func (p *parser) acme(c *Config) {
	a := &c.ACME
	if !a.Wanted() {
		for _, setting := range []struct {
			name string
			set  bool
		}{{"acme_email", a.Email != ""}, {"acme_agree", a.Agree}, {"acme_directory", a.Directory != ""}, {"acme_root", a.Root != ""}, {"acme_http_listen", a.HTTPListen != ""}} {
			if set := "server." + setting.name; setting.set {
				p.add(set, "%s has no effect without acme_domains, the names for which certificates are to be obtained", setting.name)
			}
		}
		return
	}
	sorted := slices.Sorted(slices.Values(a.Domains))
	if len(slices.Compact(sorted)) < len(a.Domains) {
		p.add("server.acme_domains", "acme_domains has a name twice")
	}
	if len(a.Domains) > MaxDomains {
		p.add("server.acme_domains", "acme_domains has %d names; the maximum is %d", len(a.Domains), MaxDomains)
	}
	if !a.Agree {
		p.add("server.acme_domains", "acme_domains needs acme_agree = true (--acme-agree): it says that you have read the terms of the certificate authority, and agree to them")
	}
}

// MaxDomains is how many names a server obtains certificates for: it is one server, not a host of many sites.
const MaxDomains = 20

// apply stores what a table of the file says.
func apply[T any](p *parser, where string, values map[string]any, keys table[T], target *T) {
	for key, value := range values {
		set, ok := keys[key]
		if !ok {
			hint := ""
			if tables := home(key); tables != "" {
				hint = "; it belongs below " + tables
			} else if near := Nearest(key, keys.keys()); near != "" {
				hint = fmt.Sprintf("; did you mean %q?", near)
			}
			p.add(where+"."+key, "unknown key %q%s", key, hint)
			continue
		}
		if err := set(target, value); err != nil {
			p.add(where+"."+key, "%s: %v", key, err)
		}
	}
}

// exclusive refuses two spellings of one setting: which one holds would be chance.
func (p *parser) exclusive(where string, values map[string]any) {
	for _, pair := range [][2]string{{"quota", "quota_bytes"}, {"lock_ttl", "lock_ttl_seconds"}, {"token", "token_file"}, {"password", "password_file"}} {
		_, first := values[pair[0]]
		_, second := values[pair[1]]
		if first && second {
			p.add(where+"."+pair[1], "%s and %s are the same setting; keep one", pair[0], pair[1])
		}
	}
}

// warnOfGrace warns of a compact_grace in a table that is shorter than the time that is used instead.
func (c *Config) warnOfGrace(where string, values map[string]any, p Policy) {
	if _, set := values["compact_grace"]; set && p.CompactGrace < p.Grace {
		c.Warnings = append(c.Warnings, fmt.Sprintf("%scompact_grace has no effect: grace is longer (%s), and also holds for packs that compactions remove", where, p.Grace))
	}
}

// entries returns the tables of [[name]].
func (p *parser) entries(document map[string]any, name string) []map[string]any {
	value, ok := document[name]
	if !ok {
		return nil
	}
	list, ok := value.([]any)
	if !ok {
		p.add(name, "%s: expected a list of tables; write [[%s]] with two brackets", name, name)
		return nil
	}
	entries := make([]map[string]any, 0, len(list))
	for _, v := range list {
		entry, ok := v.(map[string]any)
		if !ok {
			p.add(name, "%s: %v", name, expected("tables, [["+name+"]]", v))
			return nil
		}
		entries = append(entries, entry)
	}
	return entries
}

func (p *parser) repositories(list []Repository) {
	seen, mounted := make(map[string]bool), ""
	for i, r := range list {
		where := fmt.Sprintf("repository[%d]", i)
		switch {
		case r.Name == "":
			if !p.reported(where + ".name") {
				p.add(where, `[[repository]] needs a name, such as name = "laptop"`)
			}
		case seen[r.Name]:
			p.add(where+".name", "repository %q is configured twice", r.Name)
		}
		seen[r.Name] = true
		if r.Mount != "" {
			if mounted != "" {
				p.add(where+".mount", "%q is mounted at / already; there can be one", mounted)
			}
			mounted = r.Name
		}
	}
}

func (p *parser) users(c *Config) {
	seen := make(map[string]bool)
	for i, u := range c.Users {
		where := fmt.Sprintf("user[%d]", i)
		switch {
		case u.Name == "":
			if !p.reported(where + ".name") {
				p.add(where, `[[user]] needs a name, such as name = "alice"`)
			}
		case seen[u.Name]:
			p.add(where+".name", "user %q is configured twice", u.Name)
		}
		seen[u.Name] = true
		if u.PasswordHash == "" && c.TLSClientCA == "" && !p.reported(where+".password_hash") {
			p.add(where, "user %q needs a password_hash; make one with: htpasswd -nbB USER PASSWORD", u.Name)
		}
	}
}

// reported tells whether a key's value was refused already.
func (p *parser) reported(where string) bool {
	line, ok := p.lines[where]
	if !ok {
		return false
	}
	for _, problem := range p.problems {
		if problem.Line == line {
			return true
		}
	}
	return false
}

// linesOf finds the line of every key and table of a document that has been parsed without error.
func linesOf(data []byte) map[string]int {
	lines := make(map[string]int)
	counts := make(map[string]int) // entries of each [[table]] so far
	prefix := ""
	var p unstable.Parser
	p.Reset(data)
	for p.NextExpression() {
		node := p.Expression()
		var parts []string
		line := 0
		for it := node.Key(); it.Next(); {
			key := it.Node()
			parts = append(parts, string(key.Data))
			if line == 0 {
				line = p.Shape(key.Raw).Start.Line
			}
		}
		name := strings.Join(parts, ".")
		switch node.Kind {
		case unstable.Table:
			prefix = name
			// [repository.x] below [[repository]] belongs to its last entry.
			if n := counts[parts[0]]; n > 0 {
				prefix = fmt.Sprintf("%s[%d]%s", parts[0], n-1, strings.TrimPrefix(name, parts[0]))
			}
			lines[prefix] = line
		case unstable.ArrayTable:
			prefix = fmt.Sprintf("%s[%d]", name, counts[name])
			counts[name]++
			lines[prefix] = line
			if _, ok := lines[name]; !ok {
				lines[name] = line
			}
		case unstable.KeyValue:
			if prefix != "" {
				name = prefix + "." + name
			}
			// a.b.c = 1 makes a and a.b too.
			for i, c := range name {
				if c == '.' {
					if _, ok := lines[name[:i]]; !ok {
						lines[name[:i]] = line
					}
				}
			}
			lines[name] = line
		}
	}
	return lines
}
