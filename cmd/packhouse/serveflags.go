package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/pflag"

	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/bytesize"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// serveFlags are the flags of serve that say what a configuration file can say too.
type serveFlags struct {
	config     string
	listen     []string
	dataDir    string
	adopt      bool
	tokenFile  string
	logFormat  string
	logLevel   string
	tlsCert    string
	tlsKey     string
	selfSigned bool
	acme       config.ACME
	clientCA   string
	clientAuth string
	htpasswd   string
	totalQuota string
	quota      string
	trashQuota string
	protect    string
	minAge     string
	guard      string
	keepLast   int64
	maxRemoved string
	reserve    string
	grace      string
	keptFor    string
	young      string
	maxBody    string
	drain      string

	profile     string
	permissions string
	appendOnly  bool
	debug       bool
	lockTTL     int64
}

// inert are options of vger-server and vykar-server that mean nothing here.
var inert = []string{"max-blocking-threads", "worker-threads", "io-threads", "network-threads"}

func (f *serveFlags) add(flags *pflag.FlagSet) {
	d := config.Defaults()
	flags.SortFlags = false
	flags.StringVarP(&f.config, "config", "c", "", "configuration `file` (TOML; default: the variable "+configVariable+")")
	flags.StringArrayVarP(&f.listen, "listen", "l", d.Listen, "`address` to listen on, host:port or unix:PATH; may be repeated")
	flags.StringVarP(&f.dataDir, "data-dir", "d", d.DataDir, "`directory` of the repositories; created if missing")
	addAdopt(flags, &f.adopt, "the directory")
	flags.StringVar(&f.tokenFile, "token-file", "", "`file` that contains the token; created if missing (default DATA-DIR/.packhouse/token)")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "`file` of the TLS certificate chain (PEM)")
	flags.StringVar(&f.tlsKey, "tls-key", "", "`file` of the TLS key (PEM)")
	flags.BoolVar(&f.selfSigned, "tls-self-signed", false, "TLS with a certificate that the server makes for itself; its fingerprint is printed")
	flags.StringArrayVar(&f.acme.Domains, "acme-domain", nil, "`name` for which the server obtains a certificate by ACME; may be repeated. Port 443 of the name must lead to the server")
	flags.BoolVar(&f.acme.Agree, "acme-agree", false, "you agree to the terms of the certificate authority; --acme-domain needs it")
	flags.StringVar(&f.acme.Email, "acme-email", "", "e-mail `address` for messages of the certificate authority")
	flags.StringVar(&f.acme.Directory, "acme-directory", "", "`URL` of the certificate authority's ACME directory (default Let's Encrypt)")
	flags.StringVar(&f.acme.Root, "acme-root", "", "`file` of the certificate authorities (PEM) that are trusted in connections to it (default: the system's)")
	flags.StringVar(&f.acme.HTTPListen, "acme-http-listen", "", "`address` to listen on for HTTP-01, to which port 80 of the names must lead, instead of TLS-ALPN-01 on port 443")
	flags.StringVar(&f.clientCA, "tls-client-ca", "", "`file` of the certificate authorities (PEM) whose certificates log clients in, as the user of the name in the certificate")
	flags.StringVar(&f.clientAuth, "tls-client-auth", "", "optional (default), or required: whether each client must have such a certificate")
	flags.StringVar(&f.htpasswd, "htpasswd-file", "", "`file` of further users, as htpasswd writes it; read again when it changes")
	flags.BoolVar(&f.appendOnly, "append-only", false, "do not allow clients to delete or overwrite backups")
	flags.StringVar(&f.permissions, "permissions", "", "upper limit of what clients may do: all, no-delete, write-only, read-only or a JSON `table` from key prefixes to letters")
	flags.StringVar(&f.quota, "quota", "", "maximum `size` of a repository, such as 500M or 10G (indexes of clients may exceed it up to a bound); 0: no limit (default)")
	flags.StringVar(&f.totalQuota, "total-quota", "", "maximum `size` of all repositories together; 0: no limit (default)")
	flags.StringVar(&f.trashQuota, "trash-quota", "", "maximum `size` of what can be restored of a repository when clients add to it; none: no limit (default: as much as the quota)")
	flags.StringVar(&f.reserve, "reserve", "", "disk space that uploads must leave free, `size` (default 64M)")
	flags.StringVar(&f.grace, "grace", "", "`time` for which removed items can be restored, such as 36h or 14d (default 30d where clients may only add backups, else 0)")
	flags.StringVar(&f.protect, "protect", "", "`time` for which nothing that was removed gives way to --trash-quota, at least 48h (default 48h)")
	flags.StringVar(&f.minAge, "min-age", "", "`time` for which removed snapshots, and all that is removed with them, stay restorable whatever happens, such as 7d")
	flags.StringVar(&f.guard, "guard", "", "`keep` removed snapshots younger than --min-age restorable (default), or refuse to remove them")
	flags.Int64Var(&f.keepLast, "keep-last", 0, "`number` of the newest snapshots of each user that stay restorable when they are removed, until as many newer ones have come")
	flags.StringVar(&f.maxRemoved, "max-removed", "", "maximum `number` of snapshots removed within a day, or a share such as 20% (default none)")
	flags.StringVar(&f.keptFor, "compact-grace", "", "`time` for which packs are kept after a client's compaction has removed them, at least 1h (default 48h)")
	flags.StringVar(&f.young, "compact-young", "", "minimum age, `time`, of packs that a V'Ger client may remove as unused if it is not known when the client read the index (default 48h)")
	flags.Int64Var(&f.lockTTL, "lock-ttl-seconds", int64(d.LockTTL/time.Second), "lifetime of locks of V'Ger clients before 0.11.6, `seconds`")
	flags.StringVar(&f.maxBody, "max-body", "", "maximum `size` of an item (default 1G)")
	flags.StringVar(&f.drain, "drain", d.Drain.String(), "`time` for which a server that is stopping waits for running requests")
	flags.StringVar(&f.logFormat, "log-format", d.LogFormat, "pretty or json")
	flags.StringVar(&f.logLevel, "log-level", d.LogLevel, "debug, info, warn or error")
	flags.BoolVar(&f.debug, "debug", false, "the same as --log-level debug")
	flags.StringVar(&f.profile, "profile", "", "`directory` for profiles, recorded between two SIGUSR1 signals")
	_ = flags.MarkHidden("profile") // for `bench store --profiles`; there is such a flag
	for _, name := range inert {
		flags.Int(name, 0, "")
		_ = flags.MarkHidden(name) // fails for unknown names only
	}
}

// warnings are about flags that have no effect.
func (f *serveFlags) warnings(flags *pflag.FlagSet) []string {
	var warnings []string
	for _, name := range inert {
		if flags.Changed(name) {
			warnings = append(warnings, "--"+name+" has no effect: threads need no setting here")
		}
	}
	return warnings
}

// refuseWithRest refuses flags that `serve --rest` would leave without effect: who forces them on a client must not
// believe that they hold.
func (f *serveFlags) refuseWithRest(flags *pflag.FlagSet) error {
	for _, name := range []string{
		"config", "listen", "data-dir", "adopt", "token-file", "tls-cert", "tls-key", "tls-self-signed", "acme-domain", "acme-agree", "acme-email", "acme-directory", "acme-root", "acme-http-listen", "tls-client-ca", "tls-client-auth", "htpasswd-file", "total-quota", "trash-quota", "reserve", "grace", "protect", "min-age", "guard", "keep-last", "max-removed", "compact-grace", "compact-young", "lock-ttl-seconds", "max-body", "drain", "log-format",
	} {
		if flags.Changed(name) {
			return usage("--%s cannot be used with --rest, which serves one client on stdin and stdout", name)
		}
	}
	for name, value := range map[string]string{"permissions": f.permissions, "quota": f.quota} {
		if flags.Changed(name) && value == "" {
			return usage("--%s: must not be empty", name)
		}
	}
	return nil
}

// overrides checks the flags and the environment, and returns what sets them over a file's values.
func (f *serveFlags) overrides(flags *pflag.FlagSet) (func(*config.Config), error) {
	o := &overrides{flags: flags}
	if err := o.token(); err != nil {
		return nil, err
	}
	f.overrideAddresses(o)
	f.overridePolicy(o)
	o.on("log-format", func() error { return config.CheckLogFormat(f.logFormat) }, func(c *config.Config) { c.LogFormat = f.logFormat })
	o.on("log-level", func() error { return config.CheckLogLevel(f.logLevel) }, func(c *config.Config) { c.LogLevel = f.logLevel })
	o.on("debug", nil, func(c *config.Config) {
		if f.debug {
			c.LogLevel = "debug"
		}
	})
	return o.apply, o.fault
}

// overrideAddresses is about where the server is and what it is known by.
func (f *serveFlags) overrideAddresses(o *overrides) {
	o.on("listen", func() error {
		for _, address := range f.listen {
			if err := config.CheckListen(address); err != nil {
				return err
			}
		}
		return nil
	}, func(c *config.Config) { c.Listen = f.listen })
	o.on("data-dir", notEmpty(f.dataDir), func(c *config.Config) { c.DataDir = f.dataDir })
	o.on("token-file", notEmpty(f.tokenFile), func(c *config.Config) { c.Token, c.TokenFile = "", f.tokenFile })
	o.on("tls-cert", notEmpty(f.tlsCert), func(c *config.Config) { c.TLSCert = f.tlsCert })
	o.on("tls-key", notEmpty(f.tlsKey), func(c *config.Config) { c.TLSKey = f.tlsKey })
	o.on("tls-self-signed", nil, func(c *config.Config) { c.TLSSelfSigned = f.selfSigned })
	f.overrideACME(o)
	o.on("tls-client-ca", notEmpty(f.clientCA), func(c *config.Config) { c.TLSClientCA = f.clientCA })
	o.on("tls-client-auth", func() error { return config.CheckClientAuth(f.clientAuth) }, func(c *config.Config) { c.TLSClientAuth = f.clientAuth })
	o.on("htpasswd-file", notEmpty(f.htpasswd), func(c *config.Config) { c.HtpasswdFile = f.htpasswd })
}

// overrideACME is about where the server has its certificates from.
func (f *serveFlags) overrideACME(o *overrides) {
	o.on("acme-domain", func() error {
		for _, name := range f.acme.Domains {
			if err := config.CheckDomain(name); err != nil {
				return err
			}
		}
		return nil
	}, func(c *config.Config) { c.ACME.Domains = f.acme.Domains })
	o.on("acme-agree", nil, func(c *config.Config) { c.ACME.Agree = f.acme.Agree })
	o.on("acme-email", func() error { return config.CheckEmail(f.acme.Email) }, func(c *config.Config) { c.ACME.Email = f.acme.Email })
	o.on("acme-directory", func() error { return config.CheckDirectoryURL(f.acme.Directory) }, func(c *config.Config) { c.ACME.Directory = f.acme.Directory })
	o.on("acme-root", notEmpty(f.acme.Root), func(c *config.Config) { c.ACME.Root = f.acme.Root })
	o.on("acme-http-listen", func() error { return config.CheckTCPListen(f.acme.HTTPListen) }, func(c *config.Config) { c.ACME.HTTPListen = f.acme.HTTPListen })
}

// overridePolicy is about what clients may do and store.
func (f *serveFlags) overridePolicy(o *overrides) {
	var permissions *policy.Permissions
	o.on("permissions", func() (err error) {
		if err = notEmpty(f.permissions)(); err == nil {
			permissions, err = config.ParsePermissions(f.permissions)
		}
		return err
	}, func(c *config.Config) { c.Permissions = permissions })
	o.on("append-only", nil, func(c *config.Config) { c.AppendOnly = f.appendOnly })
	o.size("quota", f.quota, config.ParseQuota, func(c *config.Config) *int64 { return &c.Quota })
	o.size("total-quota", f.totalQuota, config.ParseQuota, func(c *config.Config) *int64 { return &c.TotalQuota })
	o.size("trash-quota", f.trashQuota, config.ParseQuota, func(c *config.Config) *int64 { return &c.TrashQuota })
	o.size("reserve", f.reserve, bytesize.Parse, func(c *config.Config) *int64 { return &c.Reserve })
	o.size("max-body", f.maxBody, bytesize.Parse, func(c *config.Config) *int64 { return &c.MaxBody })
	o.span("grace", f.grace, 0, func(c *config.Config) *time.Duration { return &c.Grace })
	o.span("protect", f.protect, repo.DefaultProtect, func(c *config.Config) *time.Duration { return &c.Protect })
	f.overrideGuard(o)
	o.span("compact-grace", f.keptFor, repo.MinCompactGrace, func(c *config.Config) *time.Duration { return &c.CompactGrace })
	o.span("compact-young", f.young, config.MinCompactYoung, func(c *config.Config) *time.Duration { return &c.CompactYoung })
	o.span("drain", f.drain, 0, func(c *config.Config) *time.Duration { return &c.Drain })
	o.on("lock-ttl-seconds", func() error {
		if f.lockTTL <= 0 || f.lockTTL > 1<<31-1 {
			return fmt.Errorf("expected a number of seconds above 0, got %d", f.lockTTL)
		}
		return nil
	}, func(c *config.Config) { c.LockTTL = time.Duration(f.lockTTL) * time.Second })
}

// overrideGuard is about what clients may do to snapshots.
func (f *serveFlags) overrideGuard(o *overrides) {
	var refuse bool
	var most repo.MaxRemoved
	o.span("min-age", f.minAge, 0, func(c *config.Config) *time.Duration { return &c.Guard.MinAge })
	o.on("guard", func() (err error) { refuse, err = config.ParseGuard(f.guard); return err }, func(c *config.Config) { c.Guard.Refuse = refuse })
	o.on("keep-last", func() error {
		if f.keepLast < 0 || f.keepLast > config.MaxKeepLast {
			return fmt.Errorf("expected a number from 0 to %d, got %d", config.MaxKeepLast, f.keepLast)
		}
		return nil
	}, func(c *config.Config) { c.Guard.KeepLast = f.keepLast })
	o.on("max-removed", func() (err error) { most, err = config.ParseMaxRemoved(f.maxRemoved); return err },
		func(c *config.Config) { c.Guard.MaxRemoved = most })
}

// overrides are settings that flags and environment make, in the order of their calls. The first one that is wrong is fault.
type overrides struct {
	flags *pflag.FlagSet
	set   []func(*config.Config)
	fault error
}

func (o *overrides) apply(c *config.Config) {
	for _, apply := range o.set {
		apply(c)
	}
}

// token is the one of the environment, if there is one.
func (o *overrides) token() error {
	for _, name := range tokenVariables {
		token := os.Getenv(name)
		if token == "" {
			continue
		}
		if err := config.CheckToken(token); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		o.set = append(o.set, func(c *config.Config) { c.Token, c.TokenFile = token, "" })
		return nil
	}
	return nil
}

// on has apply called if the flag was given and check (nil: always) finds nothing wrong.
func (o *overrides) on(name string, check func() error, apply func(*config.Config)) {
	if !o.flags.Changed(name) || o.fault != nil {
		return
	}
	if check != nil {
		if err := check(); err != nil {
			o.fault = usage("--%s: %w", name, err)
			return
		}
	}
	o.set = append(o.set, apply)
}

func (o *overrides) size(name, text string, parse func(string) (int64, error), field func(*config.Config) *int64) {
	var n int64
	o.on(name, func() (err error) { n, err = parse(text); return err }, func(c *config.Config) { *field(c) = n })
}

func (o *overrides) span(name, text string, least time.Duration, field func(*config.Config) *time.Duration) {
	var d time.Duration
	o.on(name, func() (err error) { d, err = config.ParseDurationFrom(text, least); return err }, func(c *config.Config) { *field(c) = d })
}

func notEmpty(s string) func() error {
	return func() error {
		if s == "" {
			return fmt.Errorf("must not be empty")
		}
		return nil
	}
}
