package alert

import (
	"cmp"
	"slices"
	"time"
)

// Kind is what an alert is about.
type Kind string

const (
	Backup      Kind = "backup"      // no backup of a repository was completed for too long
	Writer      Kind = "writer"      // none by one of its writers, while others completed some
	Damage      Kind = "damage"      // items are lost or damaged, or the index is
	ReadOnly    Kind = "read-only"   // a repository takes no writes
	Unusable    Kind = "unusable"    // a repository cannot be opened, or its disk does not answer
	Volume      Kind = "volume"      // the data directory is missing, or its disk does not answer
	Disk        Kind = "disk"        // little space is left
	Inodes      Kind = "inodes"      // few inodes are left
	Quota       Kind = "quota"       // a repository has nearly used its quota
	Trash       Kind = "trash"       // what can be restored has nearly used the trash quota
	Job         Kind = "job"         // the last job of its kind, or the last run of a task of maintenance, has failed
	Guard       Kind = "guard"       // a request to remove snapshots was refused within the last day
	Logins      Kind = "logins"      // many logins have failed within an hour
	Certificate Kind = "certificate" // the server's certificate ends soon
)

// Kinds are all of them.
var Kinds = [...]Kind{Backup, Writer, Damage, ReadOnly, Unusable, Volume, Disk, Inodes, Quota, Trash, Job, Guard, Logins, Certificate}

// Level says how urgent an alert is.
type Level string

const (
	Warning  Level = "warning"  // something is going to fail, or is late
	Critical Level = "critical" // something fails now, or is lost
)

func (l Level) above(other Level) bool { return l == Critical && other != Critical }

// Key identifies an alert among those that there are at a time.
type Key struct {
	Kind       Kind   `json:"kind"`
	Repository string `json:"repository,omitempty"` // empty: the server
	Subject    string `json:"subject,omitempty"`    // what of several: a writer, a kind of job
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(slices.Index(Kinds[:], a.Kind), slices.Index(Kinds[:], b.Kind)), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Subject, b.Subject))
}

// Alert is something that is wrong, or was. Its JSON form is that of the API and of webhooks.
type Alert struct {
	Key
	Level Level     `json:"level"`
	Text  string    `json:"text"` // one line: what is wrong, and what helps
	Since time.Time `json:"since"`
	Ended time.Time `json:"ended,omitzero"` // zero: it lasts
}

func compareAlerts(a, b Alert) int { return compareKeys(a.Key, b.Key) }

// maxAlerts bounds the alerts of one time. More say no more.
const maxAlerts = 10_000

// An active alert is one that lasts.
type active struct {
	Alert
	seen time.Time // by the last look that saw it
}
