package main

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"packhouse/api/alert"
	"packhouse/api/holder"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/layout"
)

// alertConfig is what a configuration says of alerts, with the secrets that it keeps in files.
func (sv *service) alertConfig(c *config.Config) (alert.Config, error) {
	zone := time.Local
	if c.Maintenance.TimeZone != "" {
		var err error
		if zone, err = time.LoadLocation(c.Maintenance.TimeZone); err != nil {
			return alert.Config{}, fmt.Errorf("time zone %q: %w", c.Maintenance.TimeZone, err)
		}
	}
	m := c.Monitoring
	ac := alert.Config{
		Name: m.Name, Zone: zone, Interval: m.Interval, DiskFree: m.DiskFree, InodesFree: m.InodesFree, QuotaUsed: m.QuotaUsed, TrashUsed: m.TrashUsed,
		FailedLogins: m.FailedLogins, Certificate: m.Certificate,
		Policy: func(name string) alert.Policy { return sv.current.Load().BackupsOf(name) },
	}
	for _, a := range c.Alerts {
		r, err := receiverOf(a)
		if err != nil {
			return alert.Config{}, err
		}
		ac.Receivers = append(ac.Receivers, r)
	}
	return ac, nil
}

// receiverOf is a receiver with the secrets that are in files.
func receiverOf(a config.Alert) (alert.Receiver, error) {
	r := a.Receiver
	for _, secret := range []struct {
		key, file string
		into      *string
	}{{"token_file", a.TokenFile, &r.Token}, {"password_file", a.PasswordFile, &r.Password}} {
		if secret.file == "" {
			continue
		}
		text, err := os.ReadFile(secret.file)
		if err == nil && strings.TrimSpace(string(text)) == "" {
			err = fmt.Errorf("%s is empty", secret.file)
		}
		if err != nil {
			return r, fmt.Errorf("alert %q: %s: %w", r.Name, secret.key, err)
		}
		*secret.into = strings.TrimSpace(string(text))
	}
	if err := r.Check(); err != nil {
		return r, fmt.Errorf("alert %q: %w", r.Name, err)
	}
	return r, nil
}

// alertOptions are those of the server's alerts.
func (sv *service) alertOptions(claim *holder.Claim) (*alert.Options, error) {
	c, err := sv.alertConfig(&sv.c)
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	o := &alert.Options{
		Config: c, Server: cmp.Or(host, "packhouse"), Version: version(), Environ: commandEnviron(), Logger: sv.log,
	}
	if !claim.ReadOnly {
		o.Path, o.MayRecord = filepath.Join(layout.ServerDir(claim.Dir), "alerts.json"), claim.Attached
	}
	if sv.c.TLS() {
		o.Certificate = sv.certificateState
	}
	return o, nil
}

// commandEnviron is what commands get of the server's environment, which can have secrets.
func commandEnviron() []string {
	var kept []string
	for _, name := range []string{"PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"} {
		if value, ok := os.LookupEnv(name); ok {
			kept = append(kept, name+"="+value)
		}
	}
	return kept
}

// renewAlerts applies what a new configuration says of alerts.
func (sv *service) renewAlerts(c *config.Config) {
	ac, err := sv.alertConfig(c)
	if err != nil {
		sv.log.Error("reload: alerts are sent as before", "error", err)
		return
	}
	sv.server.components.alerts.Configure(ac)
}
