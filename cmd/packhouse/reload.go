package main

import (
	"fmt"
	"os"
	"os/signal"
	"reflect"
	"syscall"

	"github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sys/unix"

	"packhouse/api"
	"packhouse/cmd/packhouse/internal/config"
)

// reloadOnHangup reads the configuration again at each SIGHUP, and the password file whenever it has changed, until stop.
func (sv *service) reloadOnHangup() (stop func()) {
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	done := make(chan struct{})
	stopWatching := sv.watchPasswords()
	go func() {
		for {
			select {
			case <-done:
				return
			case <-hangups:
				sv.notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", daemon.SdNotifyReloading, monotonic()))
				sv.reload()
				sv.notify(daemon.SdNotifyReady)
			}
		}
	}()
	return func() {
		stopWatching()
		signal.Stop(hangups)
		close(done)
	}
}

// reload applies the settings that can change while the server runs, and warns of changes that need a restart. If the file has
// errors, or is suddenly empty, nothing is changed.
func (sv *service) reload() {
	sv.reloading.Lock()
	defer sv.reloading.Unlock()
	c, err := config.Load(sv.file, sv.overrides)
	if err != nil {
		sv.log.Error("reload: the configuration has errors; nothing was changed", "error", err)
		return
	}
	if c.Empty && !sv.current.Load().Empty {
		// Of one that is being written, or was cut, the defaults would replace tokens, users and rights.
		sv.log.Error("reload: the configuration file is empty; nothing was changed. Write the settings, or restart the server to use the defaults", "file", sv.file)
		return
	}
	sv.keepFixed(&c)
	if sv.cert != nil {
		if err := sv.cert.Reload(); err != nil {
			sv.log.Error("reload: could not read the certificate; the old one is still used", "error", err)
		}
	}
	if sv.acme != nil {
		sv.acme.Retry()
	}
	if sv.clients != nil {
		if err := sv.clients.Reload(); err != nil {
			sv.log.Error("reload: could not read the certificate authorities of clients; the old ones still count", "error", err)
		}
	}
	sv.current.Store(&c)
	sv.reloadPasswords(&c)
	sv.keepPolicies(&c)
	sv.renewAuth(&c)
	sv.warnOfNames()
	if proxies, err := api.ParseProxies(c.Proxies); err == nil { // config has checked them
		sv.server.api.SetProxies(proxies)
	}
	setLevel(sv.level, c.LogLevel)
	sv.server.components.set.Reconfigure()
	sv.server.components.set.SetTotalQuota(c.TotalQuota)
	sv.renewAlerts(&c)
	for _, warning := range c.Warnings {
		sv.log.Warn(warning)
	}
	sv.server.api.AuditSetting("reload")
	sv.log.Info("reloaded the configuration")
}

// keepFixed restores the settings that need a restart, and logs a warning for each that has changed.
func (sv *service) keepFixed(c *config.Config) {
	old := sv.current.Load()
	for _, fixed := range []struct {
		name     string
		was, now any
		keep     func()
	}{
		{"listen", old.Listen, c.Listen, func() { c.Listen = old.Listen }},
		{"data_dir", old.DataDir, c.DataDir, func() { c.DataDir = old.DataDir }},
		{"data_id", old.DataID, c.DataID, func() { c.DataID = old.DataID }},
		{"tls_cert", old.TLSCert, c.TLSCert, func() { c.TLSCert = old.TLSCert }},
		{"tls_key", old.TLSKey, c.TLSKey, func() { c.TLSKey = old.TLSKey }},
		{"tls_self_signed", old.TLSSelfSigned, c.TLSSelfSigned, func() { c.TLSSelfSigned = old.TLSSelfSigned }},
		{"acme_domains", old.ACME.Domains, c.ACME.Domains, func() { c.ACME.Domains = old.ACME.Domains }},
		{"acme_email", old.ACME.Email, c.ACME.Email, func() { c.ACME.Email = old.ACME.Email }},
		{"acme_agree", old.ACME.Agree, c.ACME.Agree, func() { c.ACME.Agree = old.ACME.Agree }},
		{"acme_directory", old.ACME.Directory, c.ACME.Directory, func() { c.ACME.Directory = old.ACME.Directory }},
		{"acme_root", old.ACME.Root, c.ACME.Root, func() { c.ACME.Root = old.ACME.Root }},
		{"acme_http_listen", old.ACME.HTTPListen, c.ACME.HTTPListen, func() { c.ACME.HTTPListen = old.ACME.HTTPListen }},
		{"tls_client_ca", old.TLSClientCA, c.TLSClientCA, func() { c.TLSClientCA = old.TLSClientCA }},
		{"tls_min_version", old.TLSMinVersion, c.TLSMinVersion, func() { c.TLSMinVersion = old.TLSMinVersion }},
		{"tls_client_auth", old.TLSClientAuth, c.TLSClientAuth, func() { c.TLSClientAuth = old.TLSClientAuth }},
		{"audit_log", old.AuditLog, c.AuditLog, func() { c.AuditLog = old.AuditLog }},
		{"log_format", old.LogFormat, c.LogFormat, func() { c.LogFormat = old.LogFormat }},
		{"max_body", old.MaxBody, c.MaxBody, func() { c.MaxBody = old.MaxBody }},
		{"ui", old.UI, c.UI, func() { c.UI = old.UI }},
		{"verify_reads", old.VerifyReads, c.VerifyReads, func() { c.VerifyReads = old.VerifyReads }},
		{"min_rate", old.MinRate, c.MinRate, func() { c.MinRate = old.MinRate }},
		{"drain", old.Drain, c.Drain, func() { c.Drain = old.Drain }},
		{"mount", old.Mounted(), c.Mounted(), func() {}},
		{"maintenance", old.Maintenance, c.Maintenance, func() { c.Maintenance = old.Maintenance }},
	} {
		if !reflect.DeepEqual(fixed.was, fixed.now) {
			sv.log.Warn("reload: this setting has changed and needs a restart", "setting", fixed.name)
			fixed.keep()
		}
	}
}

// keepPolicies stores those of a configuration for the processes that hold a repository while no server runs.
func (sv *service) keepPolicies(c *config.Config) {
	// Nothing is created in a directory that is not the one that was opened.
	if sv.server.components.set.Attached() != nil || sv.server.o.Claim.ReadOnly {
		return
	}
	if err := c.Policies().Keep(sv.server.o.Claim.Dir); err != nil {
		sv.log.Error("reload: could not store the policies for stdio processes; without a server they use the old ones", "error", err)
	}
}

// renewAuth applies the tokens and users of a configuration, and those of the password file.
func (sv *service) renewAuth(c *config.Config) {
	var token string
	var source tokenSource
	// Nothing is created in a directory that is not the one that was opened.
	err := sv.server.components.set.Attached()
	if err == nil || c.Token != "" {
		token, source, err = sv.token()
	}
	if source.made {
		sv.log.Warn("reload: the token file was missing; a new token was generated", "file", source.path)
	}
	if err == nil {
		var auth *api.Auth
		if auth, err = sv.auth(c, token); err == nil {
			sv.server.api.SetAuth(auth)
		}
	}
	if err != nil {
		sv.log.Error("reload: could not read the token; token and users are not changed", "error", err)
	}
}

// monotonic is the system's monotonic clock in microseconds, as the service manager wants it with a reload.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		return 0
	}
	return t.Nano() / 1000
}
