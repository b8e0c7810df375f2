// Package config defines every setting of a server: its name in the TOML file, its type and its default. The same code reads values
// from files, flags and the environment, so that a value means the same in each of them. An unknown key in a file is an error
// with the file, the line and the nearest name.
//
// Start reading at Config and Load.
package config

import (
	"time"

	"packhouse/api"
	"packhouse/api/alert"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// Config is the settings of `packhouse serve`.
type Config struct {
	Listen        []string // host:port or unix:PATH
	DataDir       string
	DataID        string // the identity that DataDir must have; empty: any, or none yet
	Token         string // the server's token; empty: from TokenFile
	TokenFile     string // empty: .packhouse/token in DataDir
	NoToken       bool   // there is none, and its name is a user's like any other; no file can say so
	TLSCert       string
	TLSKey        string
	TLSSelfSigned bool   // with a certificate that the server makes for itself, in place of TLSCert
	ACME          ACME   // in place of both: certificates of an authority
	TLSClientCA   string // file of the authorities of clients' certificates; empty: clients are not asked for one
	TLSClientAuth string // CertificateOptional, also if empty, or CertificateRequired
	TLSMinVersion string // "1.2", also if empty, or "1.3"
	HtpasswdFile  string // file of further users, see api.PasswordFile; empty: there is none
	// ProxyUserHeader is the header in which trusted proxies name the user, see api.AuthOptions.ProxyHeader; empty: they do not.
	ProxyUserHeader string
	// PrivateRepositories keeps each user out of repositories that it does not own, see Owns, unless it has a list of them.
	PrivateRepositories bool
	TotalQuota          int64         // bytes of all repositories together; negative: any number
	LogFormat           string        // pretty or json
	LogLevel            string        // debug, info, warn or error
	AuditLog            string        // AuditToLog, AuditOff, or the path of a file
	Drain               time.Duration // how long running requests may take at a stop
	MaxBody             int64         // bytes of one request's body; 0: the server's own limit
	MinRate             int64         // bytes a second that a client must send or read on average; 0: any
	Proxies             []string      // peers that are believed for whom they ask, see api.ParseProxies
	VerifyReads         string        // always or never
	UI                  bool          // the pages for people are served
	ObjectLockTTL       time.Duration // 0: lock objects never expire; else vger.LockStale or more

	Policy                    // of repositories that have no [[repository]] of their own
	Backups      alert.Policy // of the same
	Repositories []Repository
	Users        []User
	Maintenance  Maintenance
	// Root is the name of the repository at "/" where no [[repository]] is mounted there. No file says it.
	Root       string
	Alerts     []Alert
	Monitoring Monitoring

	// Empty tells that there is a file, and no setting in it.
	Empty bool
	// Warnings are settings that are understood and have no effect, one line each.
	Warnings []string
}

// What audit_log can be besides the path of a file.
const (
	AuditToLog = "log"
	AuditOff   = "off"
)

// ACME is how the server obtains certificates from an authority by itself.
type ACME struct {
	Domains    []string // in lower case; empty: it does not
	Email      string
	Agree      bool   // to the authority's terms
	Directory  string // URL of the authority; empty: Let's Encrypt
	Root       string // file of the authorities that are trusted in connections to it; empty: the system's
	HTTPListen string // host:port for challenges of the kind HTTP-01; empty: TLS-ALPN-01 on the addresses of clients
}

// Wanted tells whether the server is to obtain certificates.
func (a *ACME) Wanted() bool { return len(a.Domains) > 0 }

// What tls_client_auth can be.
const (
	CertificateOptional = "optional"
	CertificateRequired = "required"
)

// TLS tells whether TCP addresses are served with TLS.
func (c *Config) TLS() bool { return c.TLSCert != "" || c.TLSSelfSigned || c.ACME.Wanted() }

// AuditFile is the path of the audit log's file; "": it has none.
func (c *Config) AuditFile() string {
	if c.AuditLog == AuditToLog || c.AuditLog == AuditOff {
		return ""
	}
	return c.AuditLog
}

// Policy is what an administrator decides for one repository.
type Policy struct {
	Quota       int64 // bytes; negative: none
	TrashQuota  int64 // bytes; negative: none, 0: as much as Quota
	Reserve     int64 // bytes of disk that uploads leave free
	AppendOnly  bool
	LockTTL     time.Duration // of TTL locks
	Grace       time.Duration // how long removed items can be restored; negative: not set, see repo.Settings
	Protect     time.Duration // how long nothing that was removed gives way to TrashQuota
	Guard       repo.Guard
	Permissions *policy.Permissions

	// CompactGrace is how long packs are kept that a client's compaction has removed; or Grace, if that is longer.
	CompactGrace time.Duration
	// CompactYoung is the time within which a client removes nothing as unused if it is not known when it read the index.
	CompactYoung time.Duration
}

// Repository is one [[repository]]: what it does not set it takes from [server].
type Repository struct {
	Name  string
	Mount string // "/" or empty
	Policy
	Backups alert.Policy
}

// Maintenance is [maintenance]: what a server does by itself, and how. Its zero value is the default of
// package maintenance; texts are checked.
type Maintenance struct {
	Window        string        // "01:00-05:00"; empty: always
	TimeZone      string        // empty: the machine's
	Jitter        time.Duration // negative: none
	Scrub         string        // schedule, or "off"
	ScrubShare    float64       // part of a repository that one scrub reads
	Snapshots     string        // schedule, or "off"
	SnapshotsKept int64
	Vacuum        string        // schedule, or "off"
	Rate          int64         // bytes per second that compactions and scrubs read; 0: no limit
	Workers       int64         // operations of compactions at once; 0: as many as cores
	KeepResults   time.Duration // of compactions, for a client that asks again

	// Limits of one plan, in every protocol that has plans; 0: each protocol's own.
	PlanBytes      int64 // of its text
	PlanOperations int64
	PlanRanges     int64 // of one operation
	PlanOutput     int64 // bytes of all new items
}

// User is one [[user]].
type User struct {
	Name         string
	PasswordHash string // bcrypt; empty: the user has only a certificate
	Permissions  *policy.Permissions
	Role         policy.Role // empty: none, so that Permissions alone count
	Repositories []string    // empty: all, or with private repositories those that the user owns
}

// Defaults are the settings of a server that nobody configured.
func Defaults() Config {
	return Config{
		Listen:      []string{"127.0.0.1:8484"},
		DataDir:     "packhouse-data",
		LogFormat:   "pretty",
		LogLevel:    "info",
		AuditLog:    AuditToLog,
		Drain:       30 * time.Second,
		MinRate:     16 << 10,
		Proxies:     api.DefaultProxies,
		VerifyReads: "always",
		TotalQuota:  -1,
		UI:          true,
		Monitoring:  defaultMonitoring(),
		Backups:     alert.Policy{BackupWithin: alert.DefaultBackupWithin},
		Policy: Policy{
			Quota: -1, Reserve: repo.DefaultReserve, LockTTL: time.Hour, Grace: -1, Protect: repo.DefaultProtect,
			CompactGrace: repo.DefaultCompactGrace, CompactYoung: repo.DefaultCompactYoung,
		},
	}
}

// PolicyOf returns what holds for the repository of that name.
func (c *Config) PolicyOf(name string) Policy {
	for _, r := range c.Repositories {
		if r.Name == name {
			return r.Policy
		}
	}
	return c.Policy
}

// BackupsOf returns when somebody is told that there are no new backups of a repository.
func (c *Config) BackupsOf(name string) alert.Policy {
	for _, r := range c.Repositories {
		if r.Name == name {
			return r.Backups
		}
	}
	return c.Backups
}

// Mounted returns the name of the repository at "/", or "".
func (c *Config) Mounted() string {
	for _, r := range c.Repositories {
		if r.Mount == "/" {
			return r.Name
		}
	}
	return c.Root
}
