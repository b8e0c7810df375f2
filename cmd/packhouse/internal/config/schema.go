package config

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"packhouse/api"
	"packhouse/api/alert"
	"packhouse/api/vger"
	"packhouse/compact/maintenance"
	"packhouse/internal/bytesize"
	"packhouse/repo"
	"packhouse/repo/datadir"
	"packhouse/repo/policy"
)

// A setter stores the value a file gives to one key; its error says what would be right.
type setter[T any] func(target *T, value any) error

// table is the keys of one kind of TOML table.
type table[T any] map[string]setter[T]

func (t table[T]) keys() []string {
	keys := make([]string, 0, len(t))
	for key := range t {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	return keys
}

// text stores a string that check (if any) accepts.
func text[T any](field func(*T) *string, check func(string) error) setter[T] {
	return func(target *T, value any) error {
		s, ok := value.(string)
		if !ok {
			return expected("a string", value)
		}
		if check != nil {
			if err := check(s); err != nil {
				return err
			}
		}
		*field(target) = s
		return nil
	}
}

// texts stores a string or a list of strings.
func texts[T any](field func(*T) *[]string, check func(string) error) setter[T] {
	return func(target *T, value any) error {
		values, ok := value.([]any)
		if !ok {
			values = []any{value}
		}
		list := make([]string, 0, len(values))
		for _, v := range values {
			s, ok := v.(string)
			if !ok {
				return expected("a string or a list of strings", v)
			}
			if err := check(s); err != nil {
				return err
			}
			list = append(list, s)
		}
		if len(list) == 0 {
			return errors.New("the list is empty; leave the key out instead")
		}
		*field(target) = list
		return nil
	}
}

func truth[T any](field func(*T) *bool) setter[T] {
	return func(target *T, value any) error {
		b, ok := value.(bool)
		if !ok {
			return expected("true or false", value)
		}
		*field(target) = b
		return nil
	}
}

// size stores bytes, given as an integer or as a string that parse reads.
func size[T any](field func(*T) *int64, parse func(string) (int64, error)) setter[T] {
	return func(target *T, value any) error {
		var n int64
		var err error
		switch v := value.(type) {
		case int64:
			if v < 0 {
				return fmt.Errorf("%d is negative; a size is 0 or more bytes", v)
			}
			n, err = parse(fmt.Sprint(v))
		case string:
			n, err = parse(v)
		default:
			return expected(`a number of bytes or a string such as "10G"`, value)
		}
		if err != nil {
			return err
		}
		*field(target) = n
		return nil
	}
}

// duration stores a duration of least at least, given as a string.
func duration[T any](field func(*T) *time.Duration, least time.Duration) setter[T] {
	return func(target *T, value any) error {
		s, ok := value.(string)
		if !ok {
			return expected(`a string such as "90s", "36h" or "30d"`, value)
		}
		d, err := ParseDurationFrom(s, least)
		if err != nil {
			return err
		}
		*field(target) = d
		return nil
	}
}

// seconds stores a duration, given as a whole number of seconds.
func seconds[T any](field func(*T) *time.Duration) setter[T] {
	return func(target *T, value any) error {
		n, ok := value.(int64)
		if !ok || n <= 0 || n > 1<<31 {
			return expected("a number of seconds above 0", value)
		}
		*field(target) = time.Duration(n) * time.Second
		return nil
	}
}

// permissions stores a preset's name or a table of prefix to letters.
func permissions[T any](field func(*T) **policy.Permissions) setter[T] {
	return func(target *T, value any) error {
		var p *policy.Permissions
		var err error
		switch v := value.(type) {
		case string:
			p, err = ParsePermissions(v)
		case map[string]any:
			letters := make(map[string]string, len(v))
			for prefix, l := range v {
				s, ok := l.(string)
				if !ok {
					return expected(fmt.Sprintf("a string of letters for %q", prefix), l)
				}
				letters[prefix] = s
			}
			p, err = policy.New(letters)
		default:
			return expected(`a name such as "no-delete" or a table such as { "" = "lr", locks = "lrwD" }`, value)
		}
		if err != nil {
			return err
		}
		*field(target) = p
		return nil
	}
}

// role stores the name of a role.
func role[T any](field func(*T) *policy.Role) setter[T] {
	return func(target *T, value any) error {
		s, ok := value.(string)
		if !ok {
			return expected(`the name of a role such as "backup"`, value)
		}
		r, err := ParseRole(s)
		if err != nil {
			return err
		}
		*field(target) = r
		return nil
	}
}

func expected(what string, got any) error {
	return fmt.Errorf("expected %s, got %s", what, describe(got))
}

func describe(value any) string {
	switch v := value.(type) {
	case string:
		return fmt.Sprintf("the string %q", v)
	case map[string]any:
		return "a table"
	case []any:
		return "a list"
	}
	return fmt.Sprint(value)
}

// policyKeys are those that [server] and [[repository]] share.
func policyKeys[T any](of func(*T) *Policy) table[T] {
	return table[T]{
		"quota":            size(func(t *T) *int64 { return &of(t).Quota }, ParseQuota),
		"quota_bytes":      size(func(t *T) *int64 { return &of(t).Quota }, ParseQuota),
		"trash_quota":      size(func(t *T) *int64 { return &of(t).TrashQuota }, ParseQuota),
		"reserve":          size(func(t *T) *int64 { return &of(t).Reserve }, bytesize.Parse),
		"append_only":      truth(func(t *T) *bool { return &of(t).AppendOnly }),
		"lock_ttl":         duration(func(t *T) *time.Duration { return &of(t).LockTTL }, time.Second),
		"lock_ttl_seconds": seconds(func(t *T) *time.Duration { return &of(t).LockTTL }),
		"grace":            duration(func(t *T) *time.Duration { return &of(t).Grace }, 0),
		"protect":          duration(func(t *T) *time.Duration { return &of(t).Protect }, repo.DefaultProtect),
		"min_age":          duration(func(t *T) *time.Duration { return &of(t).Guard.MinAge }, 0),
		"keep_last":        count(func(t *T) *int64 { return &of(t).Guard.KeepLast }, 0, MaxKeepLast),
		"compact_grace":    duration(func(t *T) *time.Duration { return &of(t).CompactGrace }, repo.MinCompactGrace),
		"compact_young":    duration(func(t *T) *time.Duration { return &of(t).CompactYoung }, MinCompactYoung),
		"permissions":      permissions(func(t *T) **policy.Permissions { return &of(t).Permissions }),
		"guard": func(target *T, value any) error {
			s, ok := value.(string)
			if !ok {
				return expected(`"keep" or "refuse"`, value)
			}
			refuse, err := ParseGuard(s)
			if err == nil {
				of(target).Guard.Refuse = refuse
			}
			return err
		},
		"max_removed": func(target *T, value any) error {
			text := ""
			switch v := value.(type) {
			case int64:
				text = fmt.Sprint(v)
			case string:
				text = v
			default:
				return expected(`a number of snapshots or a share such as "20%"`, value)
			}
			most, err := ParseMaxRemoved(text)
			if err == nil {
				of(target).Guard.MaxRemoved = most
			}
			return err
		},
	}
}

func serverKeys() table[Config] {
	keys := policyKeys(func(c *Config) *Policy { return &c.Policy })
	maps.Copy(keys, backupKeys(func(c *Config) *alert.Policy { return &c.Backups }))
	keys["listen"] = texts(func(c *Config) *[]string { return &c.Listen }, CheckListen)
	keys["data_dir"] = text(func(c *Config) *string { return &c.DataDir }, notEmpty)
	keys["data_id"] = text(func(c *Config) *string { return &c.DataID }, datadir.CheckIdentity)
	keys["token"] = secretText(func(c *Config) *string { return &c.Token }, CheckToken)
	keys["token_file"] = text(func(c *Config) *string { return &c.TokenFile }, notEmpty)
	keys["tls_cert"] = text(func(c *Config) *string { return &c.TLSCert }, notEmpty)
	keys["tls_key"] = text(func(c *Config) *string { return &c.TLSKey }, notEmpty)
	keys["tls_self_signed"] = truth(func(c *Config) *bool { return &c.TLSSelfSigned })
	keys["acme_domains"] = texts(func(c *Config) *[]string { return &c.ACME.Domains }, CheckDomain)
	keys["acme_email"] = text(func(c *Config) *string { return &c.ACME.Email }, CheckEmail)
	keys["acme_agree"] = truth(func(c *Config) *bool { return &c.ACME.Agree })
	keys["acme_directory"] = text(func(c *Config) *string { return &c.ACME.Directory }, CheckDirectoryURL)
	keys["acme_root"] = text(func(c *Config) *string { return &c.ACME.Root }, notEmpty)
	keys["acme_http_listen"] = text(func(c *Config) *string { return &c.ACME.HTTPListen }, CheckTCPListen)
	keys["tls_client_ca"] = text(func(c *Config) *string { return &c.TLSClientCA }, notEmpty)
	keys["tls_client_auth"] = text(func(c *Config) *string { return &c.TLSClientAuth }, CheckClientAuth)
	keys["tls_min_version"] = text(func(c *Config) *string { return &c.TLSMinVersion }, CheckTLSVersion)
	keys["htpasswd_file"] = text(func(c *Config) *string { return &c.HtpasswdFile }, notEmpty)
	keys["proxy_user_header"] = text(func(c *Config) *string { return &c.ProxyUserHeader }, CheckUserHeader)
	keys["private_repositories"] = truth(func(c *Config) *bool { return &c.PrivateRepositories })
	keys["total_quota"] = size(func(c *Config) *int64 { return &c.TotalQuota }, ParseQuota)
	keys["log_format"] = text(func(c *Config) *string { return &c.LogFormat }, CheckLogFormat)
	keys["log_level"] = text(func(c *Config) *string { return &c.LogLevel }, CheckLogLevel)
	keys["audit_log"] = text(func(c *Config) *string { return &c.AuditLog }, checkAuditLog)
	keys["drain"] = duration(func(c *Config) *time.Duration { return &c.Drain }, 0)
	keys["max_body"] = size(func(c *Config) *int64 { return &c.MaxBody }, bytesize.Parse)
	keys["min_rate"] = size(func(c *Config) *int64 { return &c.MinRate }, bytesize.Parse)
	keys["trusted_proxies"] = texts(func(c *Config) *[]string { return &c.Proxies }, func(s string) error {
		_, err := api.ParseProxies([]string{s})
		return err
	})
	keys["ui"] = truth(func(c *Config) *bool { return &c.UI })
	keys["verify_reads"] = text(func(c *Config) *string { return &c.VerifyReads }, checkVerifyReads)
	keys["object_lock_ttl"] = func(c *Config, value any) error {
		if err := duration(func(c *Config) *time.Duration { return &c.ObjectLockTTL }, 0)(c, value); err != nil {
			return err
		}
		if d := c.ObjectLockTTL; d > 0 && d < vger.LockStale {
			return fmt.Errorf("%q is too short; the minimum is %s, after which clients consider a lock stale (0: never removed)", value, vger.LockStale)
		}
		return nil
	}
	// The old servers printed these in their manual and never enforced them either.
	for _, key := range []string{"rate_limit_rps", "rate_limit_mbps"} {
		keys[key] = func(c *Config, value any) error {
			if n, ok := value.(int64); !ok || n < 0 {
				return expected("a number", value)
			} else if n > 0 {
				c.Warnings = append(c.Warnings, key+" has no effect: limit rates in the reverse proxy")
			}
			return nil
		}
	}
	return keys
}

func repositoryKeys() table[Repository] {
	keys := policyKeys(func(r *Repository) *Policy { return &r.Policy })
	maps.Copy(keys, backupKeys(func(r *Repository) *alert.Policy { return &r.Backups }))
	keys["name"] = text(func(r *Repository) *string { return &r.Name }, checkRepositoryName)
	keys["mount"] = text(func(r *Repository) *string { return &r.Mount }, func(s string) error {
		if s != "/" {
			return fmt.Errorf(`%q cannot be a mount; the only possible one is "/" (every repository is at /NAME anyway)`, s)
		}
		return nil
	})
	return keys
}

func maintenanceKeys() table[Maintenance] {
	return table[Maintenance]{
		"window": text(func(m *Maintenance) *string { return &m.Window }, func(s string) error {
			_, err := maintenance.ParseWindow(s, nil)
			return err
		}),
		"time_zone": text(func(m *Maintenance) *string { return &m.TimeZone }, func(s string) error {
			if _, err := time.LoadLocation(s); err != nil {
				return fmt.Errorf("%q is not a time zone that this system knows, such as Europe/Berlin", s)
			}
			return nil
		}),
		"jitter": func(m *Maintenance, value any) error {
			if err := duration(func(m *Maintenance) *time.Duration { return &m.Jitter }, 0)(m, value); err != nil {
				return err
			}
			if m.Jitter == 0 {
				m.Jitter = -1 // asked for, unlike a key that is left out
			}
			return nil
		},
		"scrub":          text(func(m *Maintenance) *string { return &m.Scrub }, checkSchedule),
		"scrub_share":    share(func(m *Maintenance) *float64 { return &m.ScrubShare }),
		"snapshots":      text(func(m *Maintenance) *string { return &m.Snapshots }, checkSchedule),
		"snapshots_kept": count(func(m *Maintenance) *int64 { return &m.SnapshotsKept }, 1, 1000),
		"vacuum":         text(func(m *Maintenance) *string { return &m.Vacuum }, checkSchedule),
		"rate":           size(func(m *Maintenance) *int64 { return &m.Rate }, bytesize.Parse),
		"workers":        count(func(m *Maintenance) *int64 { return &m.Workers }, 1, 1024),
		"keep_results":   duration(func(m *Maintenance) *time.Duration { return &m.KeepResults }, time.Hour),

		"plan_bytes":      size(func(m *Maintenance) *int64 { return &m.PlanBytes }, bytesize.Parse),
		"plan_operations": count(func(m *Maintenance) *int64 { return &m.PlanOperations }, 1, 1<<30),
		"plan_ranges":     count(func(m *Maintenance) *int64 { return &m.PlanRanges }, 1, 1<<30),
		"plan_output":     size(func(m *Maintenance) *int64 { return &m.PlanOutput }, bytesize.Parse),
	}
}

// count stores a whole number within bounds.
func count[T any](field func(*T) *int64, least, most int64) setter[T] {
	return func(target *T, value any) error {
		n, ok := value.(int64)
		if !ok || n < least || n > most {
			return expected(fmt.Sprintf("a whole number from %d to %d", least, most), value)
		}
		*field(target) = n
		return nil
	}
}

// share stores a part of a whole.
func share[T any](field func(*T) *float64) setter[T] {
	return func(target *T, value any) error {
		f, ok := value.(float64)
		if n, whole := value.(int64); whole {
			f, ok = float64(n), true
		}
		if !ok || !(f > 0 && f <= 1) {
			return expected("a number above 0, at most 1", value)
		}
		*field(target) = f
		return nil
	}
}

func userKeys() table[User] {
	return table[User]{
		"name":          text(func(u *User) *string { return &u.Name }, checkUserName),
		"password_hash": text(func(u *User) *string { return &u.PasswordHash }, checkPasswordHash),
		"permissions":   permissions(func(u *User) **policy.Permissions { return &u.Permissions }),
		"role":          role(func(u *User) *policy.Role { return &u.Role }),
		"repositories":  texts(func(u *User) *[]string { return &u.Repositories }, checkRepositoryName),
	}
}

func notEmpty(s string) error {
	if s == "" {
		return errors.New("must not be empty")
	}
	return nil
}

// checkSchedule tells whether a schedule can be kept to, and if not how one looks.
func checkSchedule(s string) error {
	if err := maintenance.CheckSchedule(s); err != nil {
		return fmt.Errorf(`%w; write minute, hour, day, month and weekday, such as "30 2 * * SUN", or "@daily", "@every 36h" or "off"`, err)
	}
	return nil
}

// checkUserName: Basic authentication splits at the first colon.
func checkUserName(s string) error {
	if s == "" || len(s) > 128 {
		return errors.New("a user's name has 1 to 128 characters")
	}
	if s == TokenName {
		return fmt.Errorf("%q is reserved for the server's token; choose another name", s)
	}
	for _, c := range s {
		if c == ':' || c <= ' ' || c == 0x7f {
			return fmt.Errorf("%q: a user's name has no colons, blanks or control characters", s)
		}
	}
	return nil
}

// home names the tables that have a key, for a hint; empty: none does.
func home(key string) string {
	var found []string
	for _, t := range tables() {
		if slices.Contains(t.keys, key) {
			found = append(found, t.name)
		}
	}
	return strings.Join(found, " or ")
}

// tableKeys are the keys of one table of a file.
type tableKeys struct {
	name string // as a file writes it
	keys []string
}

func tables() []tableKeys {
	return []tableKeys{
		{"[server]", serverKeys().keys()}, {"[[repository]]", repositoryKeys().keys()},
		{"[[user]]", userKeys().keys()}, {"[maintenance]", maintenanceKeys().keys()},
		{"[[alert]]", alertKeys().keys()}, {"[monitoring]", monitoringKeys().keys()},
	}
}
