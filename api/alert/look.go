package alert

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"packhouse/index"
	"packhouse/repo"
	"packhouse/repo/datadir"
)

// condition is what one look sees.
type condition struct {
	Key
	level Level
	text  string
}

// sight is the outcome of one look.
type sight struct {
	conditions []condition
	unseen     map[string]bool // repositories of which nothing is known now: what was wrong with them may still be
	blind      bool            // nothing is known of any repository
	there      map[string]bool // the repositories; nil: they could not be listed
	summary    summary
}

func (s *sight) add(kind Kind, repository, subject string, level Level, format string, args ...any) {
	s.conditions = append(s.conditions, condition{Key{kind, repository, subject}, level, fmt.Sprintf(format, args...)})
}

// figures are what is looked at in a repository in use.
type figures struct {
	health  repo.Health
	usage   repo.Usage
	short   []repo.Shortage
	guard   time.Time
	created time.Time
	writers []index.Freshness
	space   space
	logErr  error
}

// space is that of a file system.
type space struct {
	on          string // the file system
	free, size  int64
	kept        int64 // bytes beside free that are deleted before anything is refused
	inodes, all int64 // all is 0 where inodes are not counted
	err         error
}

func figuresOf(_ string, r *repo.Repository) figures {
	f := figures{health: r.Health(), usage: r.Usage(), short: r.Short(), guard: r.GuardRefused(), created: r.Created(), logErr: r.LogStatus().Err}
	f.writers, _ = r.Writers() // of an index that is damaged there may be none, which is an alert itself
	f.space = space{on: r.FileSystem()}
	if f.space.free, f.space.size, f.space.err = r.Space(); f.space.err == nil {
		f.space.inodes, f.space.all, f.space.err = r.Inodes()
	}
	if !f.health.ReadOnly {
		f.space.kept = f.usage.KeptBytes
	}
	return f
}

// unopenedFor is how long a repository may stay unopened after it was first seen: maintenance opens all within minutes.
const unopenedFor = 10 * time.Minute

// look sees what is wrong now. It can hang at the disk of the data directory, but at no other.
func (m *Monitor) look(set *datadir.Set, c *Config) *sight {
	s := &sight{unseen: make(map[string]bool)}
	now := m.o.Now()
	m.lookAtServer(s, c, now)
	if err := set.Attached(); err != nil {
		s.blind = true
		s.add(Volume, "", "", Critical, "the data directory is missing or not the one that was opened, and every request is refused: mount its volume again; the server's log says what it found")
		return s
	}
	names, err := set.Names()
	if err != nil {
		s.blind = true
		s.add(Volume, "", "", Critical, "the repositories cannot be listed: check the disk of the data directory; the server's log says more")
		return s
	}
	s.there = make(map[string]bool, len(names))
	for _, name := range names {
		s.there[name] = true
	}
	seen, silent := datadir.AskOpened(set, figuresOf)
	for _, name := range set.Vanished(names) {
		delete(seen, name) // what is open of it is not there any more
		s.there[name], s.unseen[name] = true, true
		s.add(Unusable, name, "", Critical, "it was here and is missing: mount its volume, or bring its directory back; if it is gone for good or has another name now, packhouse repo destroy has the server forget it")
	}
	for _, name := range silent {
		if s.unseen[name] {
			continue
		}
		s.unseen[name] = true
		s.add(Unusable, name, "", Critical, "its disk does not answer: check it")
	}
	for name := range set.Unusable() {
		if _, opened := seen[name]; !opened && !s.unseen[name] {
			s.unseen[name] = true
			s.add(Unusable, name, "", Critical, "it cannot be opened: packhouse check says why and what to do, and so does the server's log")
		}
	}
	m.lookAtUnopened(s, seen, now)
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		lookAtRepository(s, name, seen[name], c, now)
	}
	lookAtSpace(s, set, seen, c)
	lookAtTotal(s, set.TotalUsage(), seen, c)
	s.summary = summarize(seen, s.unseen)
	return s
}

// lookAtUnopened finds repositories that nobody has managed to open, or to find unusable.
func (m *Monitor) lookAtUnopened(s *sight, seen map[string]figures, now time.Time) {
	maps.DeleteFunc(m.unopened, func(name string, _ time.Time) bool { return !s.there[name] })
	for name := range s.there {
		if _, opened := seen[name]; opened || s.unseen[name] {
			delete(m.unopened, name)
			continue
		}
		s.unseen[name] = true
		since, known := m.unopened[name]
		if !known {
			m.unopened[name] = now
		} else if now.Sub(since) >= unopenedFor {
			s.add(Unusable, name, "", Critical, "it has not been opened since the server saw it, as its disk does not answer or another process holds it: packhouse check says more")
		}
	}
}

// lookAtServer sees what is wrong with no repository.
func (m *Monitor) lookAtServer(s *sight, c *Config, now time.Time) {
	if m.o.FailedLogins != nil {
		if n := m.logins.add(now, m.o.FailedLogins()); c.FailedLogins > 0 && n >= c.FailedLogins {
			s.add(Logins, "", "", Warning, "%d logins have failed within an hour; the server's log has the names and addresses (reason and login)", n)
		}
	}
	if m.o.Certificate == nil {
		return
	}
	s.lookAtCertificate(m.o.Certificate(), c.Certificate, now)
}

// lookAtCertificate tells of a certificate that is missing, or that ends within a time.
func (s *sight) lookAtCertificate(k ServerCertificate, within time.Duration, now time.Time) {
	if len(k.Failed) > 0 {
		s.add(Certificate, "", "", Critical, "the server has obtained no certificate for %s: its log says why. It goes on trying; clients that use the name cannot connect",
			strings.Join(k.Failed, ", "))
		return
	}
	advice := "renew it, and reload the server"
	if k.Lifetime > 0 {
		within = min(within, k.Lifetime/4)
		advice = "the server has not been able to renew it, and its log says why"
	}
	switch left := k.End.Sub(now); {
	case k.End.IsZero() || within <= 0 || left > within:
	case left <= 0:
		s.add(Certificate, "", "", Critical, "the server's certificate has ended, at %s: %s", k.End.UTC().Format(timeForm), advice)
	default:
		level := Warning
		if left < 48*time.Hour {
			level = Critical
		}
		s.add(Certificate, "", "", level, "the server's certificate ends at %s: %s", k.End.UTC().Format(timeForm), advice)
	}
}

func lookAtRepository(s *sight, name string, f figures, c *Config, now time.Time) {
	h := f.health
	if h.Silent {
		s.add(Unusable, name, "", Critical, "its disk has not answered a write: check it")
	}
	if h.ReadOnly {
		s.add(ReadOnly, name, "", Critical, "it takes no writes: the server's log and packhouse repo info say why")
	} else if f.logErr != nil {
		s.add(ReadOnly, name, "", Critical, "the log of its index cannot be moved into the file of the index, and grows: check the disk; the server's log says more")
	}
	if h.Missing > 0 || h.Damaged > 0 {
		s.add(Damage, name, "", Critical, "items are lost (%d missing, %d damaged): packhouse check names them; docs/trouble.md says what brings them back", h.Missing, h.Damaged)
	}
	if h.IndexDamaged {
		s.add(Damage, name, "index", Critical, "its index is damaged: packhouse check names the pages, packhouse repo rebuild --replace builds a new one")
	}
	if !f.guard.IsZero() {
		s.add(Guard, name, "", Critical, "its guard has refused the removal of snapshots, at %s last: packhouse guard show says by which rule, the audit log whose request it was", f.guard.UTC().Format(timeForm))
	}
	lookAtQuota(s, name, f, c)
	lookAtFreshness(s, name, f, c.Policy(name), now)
}

func lookAtQuota(s *sight, name string, f figures, c *Config) {
	refused := make(map[string]bool)
	for _, short := range f.short {
		refused[short.Of] = true
	}
	u := f.usage
	switch {
	case refused[repo.ShortQuota]:
		s.add(Quota, name, "", Critical, "clients are refused, as its quota is used: prune and compact with the client, or raise the quota (packhouse repo quota)")
	case c.QuotaUsed > 0 && u.Limit > 0 && float64(u.Used) >= c.QuotaUsed*float64(u.Limit):
		s.add(Quota, name, "", Warning, "it uses more than %.0f %% of its quota: prune and compact with the client, or raise the quota (packhouse repo quota)", 100*c.QuotaUsed)
	}
	switch {
	case refused[repo.ShortTrash]:
		s.add(Trash, name, "", Critical, "clients are refused, as what can be restored fills the trash quota: packhouse trash empty removes it, a shorter grace keeps less, a larger trash_quota more")
	case c.TrashUsed > 0 && u.TrashLimit > 0 && float64(u.TrashBytes) >= c.TrashUsed*float64(u.TrashLimit):
		s.add(Trash, name, "", Warning, "what can be restored fills more than %.0f %% of the trash quota: packhouse trash empty removes it, a shorter grace keeps less, a larger trash_quota more", 100*c.TrashUsed)
	}
}

// lookAtFreshness: of a repository without any new backup its writers are not named one by one.
func lookAtFreshness(s *sight, name string, f figures, p Policy, now time.Time) {
	if p.BackupWithin <= 0 {
		return
	}
	late := func(at time.Time) bool { return now.Sub(at) > p.BackupWithin }
	within := durationText(p.BackupWithin)
	switch last := f.usage.LastBackup; {
	case last.IsZero() && late(f.created):
		s.add(Backup, name, "", Warning, "no backup was ever completed, and it was created at %s, more than %s ago", f.created.UTC().Format(timeForm), within)
		return
	case last.IsZero():
		return
	case late(last):
		s.add(Backup, name, "", Warning, "the last backup was completed at %s, more than %s ago: look at the clients", last.UTC().Format(timeForm), within)
		return
	}
	for _, w := range f.writers {
		if late(w.At) && !slices.Contains(p.RetiredWriters, w.Writer) {
			s.add(Writer, name, w.Writer, Warning, "%s completed its last backup at %s, more than %s ago: look at this client, or add it to retired_writers", printable(shorten(w.Writer, 100)), w.At.UTC().Format(timeForm), within)
		}
	}
}

// lookAtSpace sees what is left of each file system. That of the data directory is the server's, another one is named by the first repository on it.
func lookAtSpace(s *sight, set *datadir.Set, seen map[string]figures, c *Config) {
	own := space{on: set.FileSystem("")}
	if own.free, own.size, own.err = set.Space(); own.err == nil {
		own.inodes, own.all, own.err = set.Inodes()
	}
	all := map[string]*space{own.on: &own}
	named := map[string]string{own.on: ""}
	refused := make(map[string]map[string]bool)
	for _, name := range slices.Sorted(maps.Keys(seen)) {
		f := seen[name]
		on := f.space.on
		if all[on] == nil {
			at := f.space
			at.kept = 0
			all[on], named[on] = &at, name
		}
		all[on].kept += f.space.kept
		for _, short := range f.short {
			if refused[on] == nil {
				refused[on] = make(map[string]bool)
			}
			refused[on][short.Of] = true
		}
	}
	for on, at := range all {
		free, where := float64(at.free+at.kept), "on the disk of the data directory"
		if named[on] != "" {
			where = "on its disk"
		}
		const help = "prune and compact with the clients, or enlarge the disk"
		switch {
		case refused[on][repo.ShortDisk]:
			s.add(Disk, named[on], "", Critical, "clients are refused, as there is too little space %s: %s", where, help)
		case at.err == nil && at.size > 0 && free < c.DiskFree*float64(at.size):
			s.add(Disk, named[on], "", Warning, "less than %.0f %% of the space is free %s: %s", 100*c.DiskFree, where, help)
		}
		switch {
		case refused[on][repo.ShortInodes]:
			s.add(Inodes, named[on], "", Critical, "clients are refused, as there are too few inodes %s: prune and compact with the clients, or use a file system with more", where)
		case at.err == nil && at.all > 0 && float64(at.inodes) < c.InodesFree*float64(at.all):
			s.add(Inodes, named[on], "", Warning, "less than %.0f %% of the inodes are free %s: prune and compact with the clients, or use a file system with more", 100*c.InodesFree, where)
		}
	}
}

// lookAtTotal sees what is left of the quota of all repositories together.
func lookAtTotal(s *sight, u repo.TotalUsage, seen map[string]figures, c *Config) {
	const help = "prune and compact with the clients, or raise total_quota"
	for _, f := range seen {
		if slices.ContainsFunc(f.short, func(short repo.Shortage) bool { return short.Of == repo.ShortTotal }) {
			s.add(Quota, "", "", Critical, "clients are refused, as the quota of all repositories together is used: %s", help)
			return
		}
	}
	if c.QuotaUsed > 0 && u.Limit > 0 && float64(u.Used) >= c.QuotaUsed*float64(u.Limit) {
		s.add(Quota, "", "", Warning, "more than %.0f %% of the quota of all repositories together is used: %s", 100*c.QuotaUsed, help)
	}
}

func durationText(d time.Duration) string {
	if d >= 48*time.Hour && d%(24*time.Hour) == 0 {
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	if d >= time.Hour && d%time.Hour == 0 {
		return count(int(d/time.Hour), "hour")
	}
	return d.String()
}

// loginCount counts the failed logins of the last hour.
type loginCount struct {
	marks []loginMark // of the last hour, and the last one before it
}

type loginMark struct {
	at    time.Time
	total int64
}

// add notes how many logins have failed since the start of the server, and returns how many within the last hour.
func (l *loginCount) add(now time.Time, total int64) int64 {
	for len(l.marks) > 1 && !l.marks[1].at.After(now.Add(-time.Hour)) {
		l.marks = l.marks[1:]
	}
	if len(l.marks) == 0 {
		l.marks = append(l.marks, loginMark{now, 0}) // of a server that has just begun to count
	}
	if last := l.marks[len(l.marks)-1]; total != last.total {
		l.marks = append(l.marks, loginMark{now, total})
	}
	return total - l.marks[0].total
}
