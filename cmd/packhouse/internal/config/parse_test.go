package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"packhouse/cmd/packhouse/internal/config"
)

// manual is the file printed in the V'Ger manual.
const manual = `[server]
listen = "127.0.0.1:8484"
data_dir = "/var/lib/vger"
token = "some-secret-token"
append_only = false # true = reject all deletes
log_format = "pretty" # "json" for structured logging
# quota_bytes = 5368709120 # 5 GiB per-repo quota. 0 = unlimited.
# lock_ttl_seconds = 3600 # auto-expire locks after 1 hour (default)
`

func TestParseManual(t *testing.T) {
	got, err := config.Parse("vger-server.toml", []byte(manual), nil)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Defaults()
	want.DataDir, want.Token = "/var/lib/vger", "some-secret-token"
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	got, err = config.Parse("vger-server.toml", []byte(strings.ReplaceAll(strings.ReplaceAll(manual, "# quota", "quota"), "# lock", "lock")), nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.Quota != 5<<30 || got.LockTTL != time.Hour {
		t.Errorf("quota and lock TTL: got %d and %s, want %d and 1h", got.Quota, got.LockTTL, int64(5<<30))
	}
}

func TestParseEverything(t *testing.T) {
	const text = `
[server]
listen = ["127.0.0.1:1", "unix:/run/p.sock"]
token_file = "/etc/token"
tls_cert = "c"
tls_key = "k"
tls_client_ca = "a"
tls_client_auth = "required"
quota = "10G"
trash_quota = "3G"
reserve = "1G"
grace = "14d"
compact_grace = "3w"
compact_young = "36h"
lock_ttl = "90s"
object_lock_ttl = "12h"
drain = "5s"
max_body = "2G"
verify_reads = "never"
log_level = "debug"
permissions = "no-delete"
rate_limit_rps = 0
rate_limit_mbps = 5

[[repository]]
name = "a"
quota = 0
trash_quota = "none"
append_only = true
mount = "/"

[[repository]]
name = "b"
grace = "0"
compact_grace = "1h"
compact_young = "1s"
[repository.permissions]
"" = "lr"
locks = "lrwD"

[[user]]
name = "alice"
password_hash = "$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe"
permissions = { "" = "l" }
repositories = ["a", "b"]

[[user]]
name = "laptop.lan"
role = "backup"
`
	c, err := config.Parse("f", []byte(text), func(c *config.Config) { c.Grace = time.Minute })
	if err != nil {
		t.Fatal(err)
	}
	for _, check := range []struct {
		what      string
		got, want any
	}{
		{"listen", c.Listen, []string{"127.0.0.1:1", "unix:/run/p.sock"}},
		{"authorities of clients", c.TLSClientCA + " " + c.TLSClientAuth, "a required"},
		{"user without a password", c.Users[1].PasswordHash, ""},
		{"server quota", c.Quota, int64(10 << 30)},
		{"max body", c.MaxBody, int64(2 << 30)},
		{"drain", c.Drain, 5 * time.Second},
		{"verify reads", c.VerifyReads, "never"},
		{"mounted", c.Mounted(), "a"},
		{"quota 0 is none", c.PolicyOf("a").Quota, int64(-1)},
		{"append only", c.PolicyOf("a").AppendOnly, true},
		{"overrides reach repositories", c.PolicyOf("a").Grace, time.Minute},
		{"unless they say otherwise", c.PolicyOf("b").Grace, time.Duration(0)},
		{"compact grace", c.PolicyOf("a").CompactGrace, 21 * 24 * time.Hour},
		{"compact young", c.PolicyOf("a").CompactYoung, 36 * time.Hour},
		{"compact grace of its own", c.PolicyOf("b").CompactGrace, time.Hour},
		{"compact young of its own", c.PolicyOf("b").CompactYoung, time.Second},
		{"trash quota", c.PolicyOf("b").TrashQuota, int64(3 << 30)},
		{"no trash quota", c.PolicyOf("a").TrashQuota, int64(-1)},
		{"inherited quota", c.PolicyOf("b").Quota, int64(10 << 30)},
		{"inherited lock TTL", c.PolicyOf("b").LockTTL, 90 * time.Second},
		{"of no repository", c.PolicyOf("other").Reserve, int64(1 << 30)},
		{"permissions table", c.PolicyOf("b").Permissions.String(), `{"":"lr","locks":"lrwD"}`},
		{"preset", c.Permissions.Allows("packs/00/11", "D"), false},
		{"user", c.Users[0].Repositories, []string{"a", "b"}},
		{"warnings", c.Warnings, []string{"rate_limit_mbps has no effect: limit rates in the reverse proxy"}},
	} {
		if !reflect.DeepEqual(check.got, check.want) {
			t.Errorf("%s: got %v, want %v", check.what, check.got, check.want)
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, test := range []struct {
		name, text string
		want       []string // one for each line of the error
	}{
		{"unknown key", "[server]\n\nlisten_addr = 1\n", []string{`f:3: unknown key "listen_addr"; did you mean "listen"?`}},
		{"slip", "[server]\ndata_dri = '/x'", []string{`f:2: unknown key "data_dri"; did you mean "data_dir"?`}},
		{"dashes", "[server]\nappend-only = true", []string{`f:2: unknown key "append-only"; did you mean "append_only"?`}},
		{"nothing near", "[server]\nzzz = 1", []string{`f:2: unknown key "zzz"`}},
		{"key above its table", "listen = '127.0.0.1:1'", []string{`f:1: unknown key "listen"; it belongs below [server]`}},
		{"maintenance above its table", "scrub = 'off'", []string{`f:1: unknown key "scrub"; it belongs below [maintenance]`}},
		{"server's key in another table", "[maintenance]\nobject_lock_ttl = '12h'", []string{`f:2: unknown key "object_lock_ttl"; it belongs below [server]`}},
		{"key of two tables in a third", "[maintenance]\nquota = 1", []string{`f:2: unknown key "quota"; it belongs below [server] or [[repository]]`}},
		{"maintenance in the server's table", "[server]\nscrub = '@daily'", []string{`f:2: unknown key "scrub"; it belongs below [maintenance]`}},
		{"object locks", "[server]\nobject_lock_ttl = '1s'", []string{
			`f:2: object_lock_ttl: "1s" is too short; the minimum is 6h0m0s, after which clients consider a lock stale (0: never removed)`,
		}},
		{"schedule", "[maintenance]\nscrub = 'sometimes'", []string{
			`f:2: scrub: schedule "sometimes": expected exactly 5 fields, found 1: [sometimes]; ` +
				`write minute, hour, day, month and weekday, such as "30 2 * * SUN", or "@daily", "@every 36h" or "off"`,
		}},
		{"table slip", "[sever]\nlisten = 'x'", []string{`f:1: unknown key "sever"; did you mean [server]?`}},
		{"one bracket", "[repository]\nname = 'x'", []string{`f:1: repository: expected a list of tables; write [[repository]] with two brackets`}},
		{"syntax", "[server]\nlisten = \n", []string{`f:2: `}},
		{"type", "[server]\nappend_only = 'yes'", []string{`f:2: append_only: expected true or false, got the string "yes"`}},
		{"size", "[server]\nquota = '10X'", []string{`f:2: quota: "10X" is not a size; write bytes or a number with K, M, G or T, such as 500M or 10G`}},
		{"negative", "[server]\nquota_bytes = -1", []string{`f:2: quota_bytes: -1 is negative; a size is 0 or more bytes`}},
		{"twice", "[server]\nquota = 1\nquota_bytes = 1", []string{`f:3: quota and quota_bytes are the same setting; keep one`}},
		{"two tokens", "[server]\ntoken = 'a'\ntoken_file = 'b'", []string{`f:3: token and token_file are the same setting; keep one`}},
		{"duration", "[server]\ngrace = '14 days'", []string{`f:2: grace: "14 days" is not a duration; write a number with s, m, h, d or w, such as 90s, 36h or 30d`}},
		{"lock TTL", "[server]\nlock_ttl_seconds = 0", []string{`f:2: lock_ttl_seconds: expected a number of seconds above 0, got 0`}},
		{"no lock TTL", "[server]\nlock_ttl = '0'", []string{`f:2: lock_ttl: "0" is too short; the minimum is 1s`}},
		{"compact grace", "[server]\ncompact_grace = '59m'", []string{`f:2: compact_grace: "59m" is too short; the minimum is 1h0m0s`}},
		{"no compact grace", "[[repository]]\nname = 'x'\ncompact_grace = '0'", []string{`f:3: compact_grace: "0" is too short; the minimum is 1h0m0s`}},
		{"no compact young", "[server]\ncompact_young = '0'", []string{`f:2: compact_young: "0" is too short; the minimum is 1s`}},
		{"compact young elsewhere", "[maintenance]\ncompact_young = '1h'", []string{`f:2: unknown key "compact_young"; it belongs below [server] or [[repository]]`}},
		{"listen", "[server]\nlisten = '8484'", []string{`f:2: listen: "8484" is not an address; write host:port or unix:PATH, such as 127.0.0.1:8484`}},
		{"log format", "[server]\nlog_format = 'jsn'", []string{`f:2: log_format: "jsn" is not one of pretty, json; did you mean "json"?`}},
		{"verify reads", "[server]\nverify_reads = 'nevr'", []string{`f:2: verify_reads: "nevr" is not one of always, never; did you mean "never"?`}},
		{"empty token", "[server]\ntoken = ''", []string{`f:2: token: the token must not be empty`}},
		{"half TLS", "[server]\ntls_cert = 'c'", []string{`f:1: tls_cert and tls_key belong together; one of them is missing`}},
		{"authorities without TLS", "[server]\ntls_client_ca = 'a'", []string{`f:2: tls_client_ca needs tls_cert and tls_key, tls_self_signed or acme_domains: clients show certificates only over TLS`}},
		{"certificates of nobody", "[server]\ntls_cert = 'c'\ntls_key = 'k'\ntls_client_auth = 'required'",
			[]string{`f:4: tls_client_auth needs tls_client_ca, the file of the authorities whose certificates are accepted`}},
		{"kind of certificates", "[server]\ntls_cert = 'c'\ntls_key = 'k'\ntls_client_ca = 'a'\ntls_client_auth = 'require'",
			[]string{`f:5: tls_client_auth: "require" is not one of optional, required; did you mean "required"?`}},
		{"no name", "[[repository]]\nquota = 1", []string{`f:1: [[repository]] needs a name, such as name = "laptop"`}},
		{"bad name", "[[repository]]\nname = '.x'", []string{`f:2: name: a repository name does not begin with '.' and is not '-': ".x"`}},
		{"same name", "[[repository]]\nname = 'x'\n[[repository]]\nname = 'x'", []string{`f:4: repository "x" is configured twice`}},
		{"mount", "[[repository]]\nname = 'x'\nmount = '/x'", []string{`f:3: mount: "/x" cannot be a mount; the only possible one is "/" (every repository is at /NAME anyway)`}},
		{"two mounts", "[[repository]]\nname='x'\nmount='/'\n[[repository]]\nname='y'\nmount='/'", []string{`f:6: "x" is mounted at / already; there can be one`}},
		{"permission letter", "[[repository]]\nname='x'\npermissions={ packs = 'lx' }", []string{`f:3: permissions: permissions for "packs": unknown letter "x"; known are l, r, w, W, D`}},
		{"preset", "[server]\npermissions='no-delet'", []string{`f:2: permissions: permissions "no-delet": expected a JSON object such as {"": "lr", "locks": "lrwD"} or one of all, no-delete, write-only, read-only; did you mean "no-delete"?`}},
		{"role as permissions", "[server]\npermissions='backup'", []string{`f:2: permissions: permissions "backup": expected a JSON object such as {"": "lr", "locks": "lrwD"} or one of borgbackup-all, borgbackup-no-delete, borgbackup-read-only, borgbackup-write-only; "backup" is a role, which is another setting`}},
		{"role", "[[user]]\nname='u'\npassword_hash='$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\nrole='bakup'",
			[]string{`f:4: role: role "bakup": expected one of write-only, read, backup, maintain, admin; did you mean "backup"?`}},
		{"permissions as role", "[[user]]\nname='u'\npassword_hash='$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\nrole='no-delete'",
			[]string{`f:4: role: role "no-delete": expected one of write-only, read, backup, maintain, admin; the string "no-delete" is what permissions can be`}},
		{"role of another kind", "[[user]]\nname='u'\npassword_hash='$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'\nrole=['read']",
			[]string{`f:4: role: expected the name of a role such as "backup", got a list`}},
		{"password", "[[user]]\nname='u'\npassword_hash='secret'", []string{`f:3: password_hash: not a bcrypt hash; make one with: htpasswd -nbB USER PASSWORD`}},
		{"the token's name", "[[user]]\nname='token'\npassword_hash='$2y$05$bvIG6Nmid91Mu9RcmmWZfO5HJIMCT8riNW0hEp8f6/FuA2/mHZFpe'",
			[]string{`f:2: name: "token" is reserved for the server's token; choose another name`}},
		{"no password", "[[user]]\nname='u'", []string{`f:1: user "u" needs a password_hash; make one with: htpasswd -nbB USER PASSWORD`}},
		{
			"all at once, in order of lines", "[server]\nlisten = 1\nfoo = 2\n[[repository]]\n[[user]]\nname='a:b'\n",
			[]string{
				`f:2: listen: expected a string or a list of strings, got 1`, `f:3: unknown key "foo"`,
				`f:4: [[repository]] needs a name, such as name = "laptop"`,
				`f:5: user "" needs a password_hash; make one with: htpasswd -nbB USER PASSWORD`,
				`f:6: name: "a:b": a user's name has no colons, blanks or control characters`,
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			_, err := config.Parse("f", []byte(test.text), nil)
			if err == nil {
				t.Fatal("got no error")
			}
			lines := strings.Split(err.Error(), "\n")
			if len(lines) != len(test.want) {
				t.Fatalf("got %d lines, want %d:\n%v", len(lines), len(test.want), err)
			}
			for i, want := range test.want {
				if want == "f:2: " && strings.HasPrefix(lines[i], want) {
					continue // the TOML library's own words
				}
				if lines[i] != want {
					t.Errorf("line %d: got %s\nwant %s", i+1, lines[i], want)
				}
			}
		})
	}
}

// TestObjectLockTTL: from what clients themselves call stale on, or never.
func TestObjectLockTTL(t *testing.T) {
	for text, want := range map[string]time.Duration{"0": 0, "6h": 6 * time.Hour, "2d": 48 * time.Hour, "359m": -1} {
		c, err := config.Parse("f", []byte("[server]\nobject_lock_ttl = '"+text+"'\n"), nil)
		if got := c.ObjectLockTTL; (err == nil) != (want >= 0) || err == nil && got != want {
			t.Errorf("%s: got %v, %v; want %v", text, got, err, want)
		}
	}
}

// TestCompactGrace: 48 hours unless it is set; what is shorter than grace has no effect, and is told.
func TestCompactGrace(t *testing.T) {
	for _, test := range []struct {
		text     string
		warnings []string
	}{
		{"", nil},
		{"[server]\ngrace = '7d'", nil},
		{"[server]\ngrace = '7d'\ncompact_grace = '7d'", nil},
		{"[server]\ngrace = '7d'\ncompact_grace = '6d'", []string{
			"compact_grace has no effect: grace is longer (168h0m0s), and also holds for packs that compactions remove"}},
		{"[server]\ncompact_grace = '3h'\n[[repository]]\nname = 'x'\ngrace = '2h'\n[[repository]]\nname = 'y'\ngrace = '4h'\ncompact_grace = '3h'", []string{
			`repository "y": compact_grace has no effect: grace is longer (4h0m0s), and also holds for packs that compactions remove`}},
	} {
		c, err := config.Parse("f", []byte(test.text), nil)
		if err != nil || !reflect.DeepEqual(c.Warnings, test.warnings) {
			t.Errorf("%q: got %q, %v; want %q", test.text, c.Warnings, err, test.warnings)
		}
		if want := 48 * time.Hour; c.CompactYoung != want || !strings.Contains(test.text, "compact_grace") && c.CompactGrace != want {
			t.Errorf("%q: got %s and %s, want %s", test.text, c.CompactGrace, c.CompactYoung, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(manual)
	f.Add("[[repository]]\nname='x'\n[repository.permissions]\n''='l'\n")
	f.Add("[server]\na.b.c = {d = [1, {e = 2}]}\n")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := config.Parse("f", []byte(text), nil)
		if err == nil && (len(c.Listen) == 0 || c.DataDir == "" || c.LockTTL < 0 || c.Grace < -1 || c.Reserve < 0) {
			t.Errorf("accepted %q as %+v", text, c)
		}
	})
}
