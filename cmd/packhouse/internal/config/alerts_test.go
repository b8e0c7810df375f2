package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"packhouse/api/alert"
	"packhouse/cmd/packhouse/internal/config"
)

func TestParseAlerts(t *testing.T) {
	c, err := config.Parse("f.toml", []byte(`
[server]
backup_within = "2d"
retired_writers = ["old"]
[[repository]]
name = "a"
backup_within = "0"
[[repository]]
name = "b"
retired_writers = "older"
[monitoring]
name = "backup1"
interval = "30s"
disk_free = 0
inodes_free = 0.2
quota_used = 1
trash_used = 0.5
failed_logins = 20
certificate = "30d"
[[alert]]
name = "phone"
type = "ntfy"
url = "https://ntfy.sh/topic"
token_file = "/etc/token"
events = ["backup", "damage"]
repositories = "a"
repeat = "0"
quiet = "22:00-07:00"
summary = "off"
[[alert]]
name = "mail"
type = "mail"
to = ["a@example.org", "B <b@example.org>"]
from = "p@example.org"
smtp = "mail.example.org:587"
user = "p"
password = "secret"
tls = "starttls"
[[alert]]
name = "run"
type = "command"
command = ["/bin/notify", ""]
[[alert]]
name = "alive"
type = "ping"
url = "https://hc-ping.com/1"
every = "1m"
fail = true
[[alert]]
name = "hook"
type = "webhook"
url = "http://127.0.0.1:9/"
headers = { "X-Key" = "v" }
token = "t"
`), nil)
	if err != nil {
		t.Fatal(err)
	}
	if want := (config.Monitoring{Name: "backup1", Interval: 30 * time.Second, InodesFree: 0.2, QuotaUsed: 1, TrashUsed: 0.5, FailedLogins: 20, Certificate: 30 * 24 * time.Hour}); c.Monitoring != want {
		t.Errorf("monitoring: got %+v, want %+v", c.Monitoring, want)
	}
	for name, want := range map[string]alert.Policy{
		"a": {RetiredWriters: []string{"old"}}, "b": {BackupWithin: 48 * time.Hour, RetiredWriters: []string{"older"}}, "c": {BackupWithin: 48 * time.Hour, RetiredWriters: []string{"old"}},
	} {
		if got := c.BackupsOf(name); !reflect.DeepEqual(got, want) {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
	want := []config.Alert{
		{Receiver: alert.Receiver{
			Name: "phone", Type: alert.Ntfy, URL: "https://ntfy.sh/topic", Events: []alert.Kind{alert.Backup, alert.Damage}, Repositories: []string{"a"}, Repeat: -1,
			Quiet: "22:00-07:00", Summary: "off",
		}, TokenFile: "/etc/token"},
		{Receiver: alert.Receiver{
			Name: "mail", Type: alert.Mail, To: []string{"a@example.org", "B <b@example.org>"}, From: "p@example.org", SMTP: "mail.example.org:587", User: "p", Password: "secret", TLS: "starttls",
		}},
		{Receiver: alert.Receiver{Name: "run", Type: alert.Command, Command: []string{"/bin/notify", ""}}},
		{Receiver: alert.Receiver{Name: "alive", Type: alert.Ping, URL: "https://hc-ping.com/1", Every: time.Minute, Fail: true}},
		{Receiver: alert.Receiver{Name: "hook", Type: alert.Webhook, URL: "http://127.0.0.1:9/", Headers: map[string]string{"X-Key": "v"}, Token: "t"}},
	}
	if !reflect.DeepEqual(c.Alerts, want) {
		t.Errorf("got %+v, want %+v", c.Alerts, want)
	}
	d := config.Defaults()
	if got := d.BackupsOf("any"); got.BackupWithin != 72*time.Hour {
		t.Errorf("default: got %+v", got)
	}
}

// TestWrongAlerts: each fault is said once, with its line, and without secrets.
func TestWrongAlerts(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a table", "[alert]\nname = 'x'", "f.toml:1: alert: expected a list of tables; write [[alert]] with two brackets"},
		{"no name", "[[alert]]\ntype = 'slack'\nurl = 'https://s.example/secret'", `f.toml:1: [[alert]] needs a name, such as name = "phone"`},
		{"no type", "\n[[alert]]\nname = 'x'", `f.toml:2: alert "x": it needs a type: one of webhook, slack, discord, ntfy, gotify, mail, command, ping`},
		{"no such type", "[[alert]]\nname = 'x'\ntype = 'pager'", `alert "x": type "pager" is none of`},
		{"no URL", "[[alert]]\nname = 'x'\ntype = 'slack'", `f.toml:1: alert "x": url must be complete, such as https://hooks.example.org/path`},
		{"a wrong URL", "[[alert]]\nname = 'x'\ntype = 'slack'\nurl = 'hooks.secret'", `f.toml:4: url: url must be complete, such as https://hooks.example.org/path`},
		{"an unknown key", "[[alert]]\nname = 'x'\ntype = 'slack'\nurls = 'https://s.example/secret'", `f.toml:4: unknown key "urls"; did you mean "url"?`},
		{"a key of another table", "[server]\nquiet = '1:00-2:00'", `f.toml:2: unknown key "quiet"; it belongs below [[alert]]`},
		{"twice", "[[alert]]\nname = 'x'\ntype = 'slack'\nurl = 'https://s.example/secret'\n[[alert]]\nname = 'x'\ntype = 'slack'\nurl = 'https://s.example/secret'", `f.toml:6: alert "x" is configured twice`},
		{"an event", "[[alert]]\nname = 'x'\ntype = 'slack'\nurl = 'https://s.example/secret'\nevents = ['backups']", `f.toml:5: events: "backups" is none of backup, writer`},
		{"quiet hours", "[[alert]]\nname = 'x'\ntype = 'slack'\nurl = 'https://s.example/secret'\nquiet = 'at night'", `quiet: "at night" is not two times of day, such as 22:00-07:00`},
		{"a summary", "[[alert]]\nname = 'x'\ntype = 'slack'\nurl = 'https://s.example/secret'\nsummary = 'weekly'", "f.toml:5: summary: "},
		{"a mail server", "[[alert]]\nname = 'x'\ntype = 'mail'\nto = 'a@b.example'\nfrom = 'p@b.example'\nsmtp = 'mail'", `alert "x": smtp: "mail" is not the address of a mail server, such as "mail.example.org:587"`},
		{"a login before it", "[[alert]]\nname = 'x'\ntype = 'mail'\nto = 'a@b.example'\nfrom = 'p@b.example'\nsmtp = 'u:secret@mail:25'", `the login is user and password`},
		{"a number as password", "[[alert]]\nname = 'x'\ntype = 'mail'\npassword = 5734723", `f.toml:4: password: expected a string, got something else`},
		{"a number as token", "[[alert]]\nname = 'x'\ntype = 'ntfy'\ntoken = 5734723", `f.toml:4: token: expected a string, got something else`},
		{"a list as URL", "[[alert]]\nname = 'x'\ntype = 'ntfy'\nurl = ['https://s.example/secret']", `f.toml:4: url: expected a string, got something else`},
		{"headers", "[[alert]]\nname = 'x'\ntype = 'webhook'\nheaders = 'secret'", `f.toml:4: headers: expected a table such as { "X-Key" = "…" }, got something else`},
		{"a header", "[[alert]]\nname = 'x'\ntype = 'webhook'\nheaders = { 'X-Key' = 5734723 }", `f.toml:4: headers: expected a string for "X-Key", got something else`},
		{"tls", "[[alert]]\nname = 'x'\ntype = 'mail'\nto = 'a@b.example'\nfrom = 'p@b.example'\nsmtp = 'mail:25'\ntls = 'yes'", `f.toml:7: tls: "yes" is none of "starttls", "implicit" and "off"`},
		{"two secrets", "[[alert]]\nname = 'x'\ntype = 'ntfy'\nurl = 'https://s.example/secret'\ntoken = 'a'\ntoken_file = 'b'", "f.toml:6: token and token_file are the same setting; keep one"},
		{"a share", "[monitoring]\ndisk_free = 10", "f.toml:2: disk_free: expected a number from 0 (never) to 1, such as 0.1, got 10"},
		{"a name", "[monitoring]\nname = ''", "f.toml:2: name: the name of the server has 1 to 64 characters"},
		{"an interval", "[monitoring]\ninterval = '0'", "f.toml:2: interval: "},
		{"no table", "monitoring = 1", "monitoring: expected a table, [monitoring]"},
		{"too often", "[server]\nbackup_within = 'daily'", "f.toml:2: backup_within: "},
	} {
		_, err := config.Parse("f.toml", []byte(test.text), nil)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "secret") || strings.Count(err.Error(), "\n") > 0 {
			t.Errorf("%s: got\n%v\nwant %s", test.name, err, test.want)
		}
	}
}
