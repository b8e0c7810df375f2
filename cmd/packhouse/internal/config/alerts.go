package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"packhouse/api/alert"
)

// Alert is one [[alert]]: who is told when something is wrong.
type Alert struct {
	alert.Receiver
	TokenFile    string // that contains Token; empty: none
	PasswordFile string // that contains Password; empty: none
}

// Monitoring is [monitoring]: what is wrong.
type Monitoring struct {
	Name         string // of the server in messages; empty: that of the machine
	Interval     time.Duration
	DiskFree     float64 // shares: of a disk, below which little is free
	InodesFree   float64
	QuotaUsed    float64 // of a quota, from which it is nearly used
	TrashUsed    float64
	FailedLogins int64 // within an hour
	Certificate  time.Duration
}

func defaultMonitoring() Monitoring {
	d := alert.DefaultConfig()
	return Monitoring{"", d.Interval, d.DiskFree, d.InodesFree, d.QuotaUsed, d.TrashUsed, d.FailedLogins, d.Certificate}
}

func alertKeys() table[Alert] {
	return table[Alert]{
		"name": text(func(a *Alert) *string { return &a.Name }, checkAlertName),
		"type": func(a *Alert, value any) error {
			s, ok := value.(string)
			if !ok {
				return expected("a string", value)
			}
			a.Type = alert.Type(s)
			return nil
		},
		"url":           secretText(func(a *Alert) *string { return &a.URL }, alert.CheckURL),
		"headers":       headers,
		"token":         secret(func(a *Alert) *string { return &a.Token }),
		"token_file":    text(func(a *Alert) *string { return &a.TokenFile }, notEmpty),
		"to":            texts(func(a *Alert) *[]string { return &a.To }, notEmpty),
		"from":          text(func(a *Alert) *string { return &a.From }, notEmpty),
		"smtp":          text(func(a *Alert) *string { return &a.SMTP }, notEmpty),
		"user":          text(func(a *Alert) *string { return &a.User }, notEmpty),
		"password":      secret(func(a *Alert) *string { return &a.Password }),
		"password_file": text(func(a *Alert) *string { return &a.PasswordFile }, notEmpty),
		"tls":           text(func(a *Alert) *string { return &a.TLS }, alert.CheckTLS),
		"command":       texts(func(a *Alert) *[]string { return &a.Command }, func(string) error { return nil }),
		"every":         duration(func(a *Alert) *time.Duration { return &a.Every }, time.Second),
		"fail":          truth(func(a *Alert) *bool { return &a.Fail }),
		"repositories":  texts(func(a *Alert) *[]string { return &a.Repositories }, checkRepositoryName),
		"quiet":         text(func(a *Alert) *string { return &a.Quiet }, alert.CheckQuiet),
		"summary":       text(func(a *Alert) *string { return &a.Summary }, checkSchedule),
		"events": func(a *Alert, value any) error {
			return texts(func(a *Alert) *[]string { return new([]string) }, func(s string) error {
				kind, err := alert.ParseKind(s)
				a.Events = append(a.Events, kind)
				return err
			})(a, value)
		},
		"repeat": func(a *Alert, value any) error {
			err := duration(func(a *Alert) *time.Duration { return &a.Repeat }, 0)(a, value)
			if err == nil && a.Repeat == 0 {
				a.Repeat = -1 // asked for, unlike a key that is left out
			}
			return err
		},
	}
}

// secret is text that is not empty, and not shown when it is wrong.
func secret[T any](field func(*T) *string) setter[T] { return secretText(field, notEmpty) }

// secretText is text that is not shown when it is no string; check does not show it either.
func secretText[T any](field func(*T) *string, check func(string) error) setter[T] {
	set := text(field, check)
	return func(target *T, value any) error {
		if _, ok := value.(string); !ok {
			return expectedSecret("a string")
		}
		return set(target, value)
	}
}

func expectedSecret(what string) error { return fmt.Errorf("expected %s, got something else", what) }

func headers(a *Alert, value any) error {
	values, ok := value.(map[string]any)
	if !ok {
		return expectedSecret(`a table such as { "X-Key" = "…" }`)
	}
	a.Headers = make(map[string]string, len(values))
	for name, v := range values {
		if a.Headers[name], ok = v.(string); !ok {
			return expectedSecret(fmt.Sprintf("a string for %q", name))
		}
	}
	return nil
}

// backupKeys are those of [server] and [[repository]] that say when there are no new backups.
func backupKeys[T any](of func(*T) *alert.Policy) table[T] {
	return table[T]{
		"backup_within":   duration(func(t *T) *time.Duration { return &of(t).BackupWithin }, 0),
		"retired_writers": texts(func(t *T) *[]string { return &of(t).RetiredWriters }, notEmpty),
	}
}

func monitoringKeys() table[Monitoring] {
	return table[Monitoring]{
		"name":          text(func(m *Monitoring) *string { return &m.Name }, checkServerName),
		"interval":      duration(func(m *Monitoring) *time.Duration { return &m.Interval }, time.Second),
		"disk_free":     shareOrNone(func(m *Monitoring) *float64 { return &m.DiskFree }),
		"inodes_free":   shareOrNone(func(m *Monitoring) *float64 { return &m.InodesFree }),
		"quota_used":    shareOrNone(func(m *Monitoring) *float64 { return &m.QuotaUsed }),
		"trash_used":    shareOrNone(func(m *Monitoring) *float64 { return &m.TrashUsed }),
		"failed_logins": count(func(m *Monitoring) *int64 { return &m.FailedLogins }, 0, 1<<31),
		"certificate":   duration(func(m *Monitoring) *time.Duration { return &m.Certificate }, 0),
	}
}

// shareOrNone is share, or 0.
func shareOrNone[T any](field func(*T) *float64) setter[T] {
	return func(target *T, value any) error {
		if n, whole := value.(int64); whole && n == 0 {
			*field(target) = 0
			return nil
		}
		if err := share(field)(target, value); err != nil {
			return expected("a number from 0 (never) to 1, such as 0.1", value)
		}
		return nil
	}
}

func checkAlertName(s string) error {
	if s == "" || len(s) > 64 {
		return errors.New("the name of an alert has 1 to 64 characters")
	}
	for _, c := range s {
		if c <= ' ' || c == 0x7f {
			return fmt.Errorf("%q: the name of an alert has no blanks or control characters", s)
		}
	}
	return nil
}

func checkServerName(s string) error {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, unicode.IsControl) {
		return errors.New("the name of the server has 1 to 64 characters, none of which is a control character")
	}
	return nil
}

// alerts reads [[alert]] and [monitoring].
func (p *parser) alerts(document map[string]any, c *Config) {
	for i, entry := range p.entries(document, "alert") {
		var a Alert
		where := fmt.Sprintf("alert[%d]", i)
		apply(p, where, entry, alertKeys(), &a)
		p.exclusive(where, entry)
		c.Alerts = append(c.Alerts, a)
	}
	p.receivers(c)
	monitoring, _ := document["monitoring"].(map[string]any)
	if value, ok := document["monitoring"]; ok && monitoring == nil {
		p.add("monitoring", "monitoring: %v", expected("a table, [monitoring]", value))
	}
	apply(p, "monitoring", monitoring, monitoringKeys(), &c.Monitoring)
}

// receivers checks all receivers, with what their files are going to add.
func (p *parser) receivers(c *Config) {
	seen := make(map[string]bool)
	for i, a := range c.Alerts {
		where := fmt.Sprintf("alert[%d]", i)
		switch {
		case a.Name == "":
			if !p.reported(where + ".name") {
				p.add(where, `[[alert]] needs a name, such as name = "phone"`)
			}
		case seen[a.Name]:
			p.add(where+".name", "alert %q is configured twice", a.Name)
		}
		seen[a.Name] = true
		r := a.Receiver
		if a.TokenFile != "" {
			r.Token = "from the file"
		}
		if a.PasswordFile != "" {
			r.Password = "from the file"
		}
		faults, _ := r.Check().(interface{ Unwrap() []error })
		if faults == nil || slices.ContainsFunc(p.problems, func(known *Problem) bool { return p.below(where, known.Line) }) {
			continue // what was refused may be what seems to be missing
		}
		for _, fault := range faults.Unwrap() {
			p.add(where, "alert %q: %v", a.Name, fault)
		}
	}
}

// below tells whether a line is in a table.
func (p *parser) below(where string, line int) bool {
	for key, at := range p.lines {
		if at == line && (key == where || len(key) > len(where) && key[:len(where)+1] == where+".") {
			return true
		}
	}
	return false
}
