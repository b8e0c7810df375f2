package alert

import (
	"cmp"
	"context"
	"crypto/x509"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"packhouse/blobstore/vfs"
	"packhouse/repo/datadir"
)

// Policy is what holds for the backups of a repository.
type Policy struct {
	BackupWithin   time.Duration // a backup has to be completed that often; 0: no matter
	RetiredWriters []string      // whose backups have ended
}

// Config is what can change while the server runs. Policy is required; DefaultConfig has the other defaults.
type Config struct {
	Name      string // of the server in messages; empty: Options.Server
	Receivers []Receiver
	Policy    func(repository string) Policy
	Zone      *time.Location // of quiet hours and summaries; nil means the machine's

	Interval     time.Duration // between two looks
	DiskFree     float64       // the share of a file system below which little is free; 0: never
	InodesFree   float64
	QuotaUsed    float64 // the share of a quota from which it is nearly used; 0: never
	TrashUsed    float64
	FailedLogins int64         // within an hour, from which they are many; 0: never
	Certificate  time.Duration // before its end
}

// DefaultBackupWithin is the default of Policy.BackupWithin.
const DefaultBackupWithin = 3 * 24 * time.Hour

// DefaultConfig has no receivers.
func DefaultConfig() Config {
	return Config{
		Interval: time.Minute, DiskFree: 0.1, InodesFree: 0.1, QuotaUsed: 0.9, TrashUsed: 0.9, FailedLogins: 100, Certificate: 14 * 24 * time.Hour,
		Policy: func(string) Policy { return Policy{BackupWithin: DefaultBackupWithin} },
	}
}

// Options of New. Config is required.
type Options struct {
	Config  Config
	Server  string // its name in messages, unless Config.Name is another
	Version string // of the program
	// Path is the file of what was told to whom; "": it is kept in memory alone. MayRecord tells whether it may be written now, and does
	// not need to.
	Path      string
	MayRecord func() error
	FS        vfs.FS // nil means the operating system's
	// FailedLogins is how many have failed since the start; nil: not known.
	FailedLogins func() int64
	// Certificate is what is known now of that of the server. nil: it has none.
	Certificate func() ServerCertificate
	RootCAs     *x509.CertPool   // that certificates of receivers have to lead to; nil means the machine's
	Environ     []string         // of commands, beside what they are told of the message
	Now         func() time.Time // nil means time.Now
	Logger      *slog.Logger     // nil means silence
}

// ServerCertificate is what is known of the certificate that the server shows to its clients, or of several for different names.
type ServerCertificate struct {
	End time.Time // when it ends; of several the first; zero: there is none
	// Lifetime is that of one that the server renews by itself, as a whole. Its end is told only when less than a quarter of it is left: until then it
	// is not even late. 0: others renew it.
	Lifetime time.Duration
	Missing  []string // names for which the server is to obtain one, and has none
	Failed   []string // of these, those of which an attempt has failed
}

// Monitor looks, and has its receivers told. Its methods are safe for concurrent use.
type Monitor struct {
	o        Options
	store    *store          // nil: in memory alone
	ctx      context.Context // of looks: nothing is begun when it has ended
	stop     context.CancelFunc
	delivery context.Context // of deliveries, which may take a little longer
	abort    context.CancelFunc
	tests    context.Context
	endTests context.CancelFunc
	done     sync.WaitGroup // the loop, and the goroutines of receivers
	started  sync.Once
	wake     chan struct{} // the loop: the configuration is another
	logins   loginCount    // of the look under way
	unopened map[string]time.Time

	// mu is held for a look at what follows, or a change of it; never over a look at a repository, a delivery or a write.
	mu        sync.Mutex
	config    Config
	server    string // its name in messages
	active    map[Key]*active
	events    map[Key]event    // what is known by what happened, and not by looks
	senders   []*sender        // of the configuration, in its order
	known     map[string]*told // what receivers were told, by key; also of the configuration's that are there
	summary   summary          // of the last look
	looked    time.Time        // when the last look began that has ended; zero: none has
	looking   time.Time        // when the look under way began; zero: none is
	overflown bool
	running   bool // Start was called
}

// New makes a monitor, which does nothing before Start. What an earlier run of the server has told its receivers is read from the file.
func New(o Options) *Monitor {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.FS == nil {
		o.FS = vfs.OS()
	}
	m := &Monitor{
		o: o, wake: make(chan struct{}, 1), unopened: make(map[string]time.Time),
		active: make(map[Key]*active), events: make(map[Key]event), known: make(map[string]*told),
	}
	m.ctx, m.stop = context.WithCancel(context.Background())
	m.delivery, m.abort = context.WithCancel(context.Background())
	m.tests, m.endTests = context.WithCancel(context.Background())
	if o.Path != "" {
		m.store = newStore(o)
		m.restore(m.store.read())
	}
	m.configure(o.Config)
	return m
}

// restore takes over what was told before the restart.
func (m *Monitor) restore(f stateFile) {
	now := m.o.Now()
	for _, a := range f.Alerts {
		if len(m.active) < maxAlerts {
			m.active[a.Key] = &active{a, now}
		}
		switch a.Kind {
		case Job:
			m.events[a.Key] = event{condition: condition{a.Key, a.Level, a.Text}}
		case Guard: // repositories do not remember refusals over a restart
			m.events[a.Key] = event{condition{a.Key, a.Level, a.Text}, a.Since.Add(guardFor)}
		}
	}
	for name, r := range f.Receivers {
		m.known[name] = r.told()
	}
}

// Start begins to look at a set. It may be called once.
func (m *Monitor) Start(set *datadir.Set) {
	m.started.Do(func() {
		if m.store != nil {
			m.store.start()
		}
		m.mu.Lock()
		m.running = true
		for _, s := range m.senders {
			m.run(s)
		}
		m.mu.Unlock()
		m.done.Go(func() { m.loop(set) })
	})
}

// closePatience is how long the end waits for deliveries under way, and then for those that it has interrupted.
const closePatience = time.Second

// Close ends looks and deliveries, and returns when they have ended. A delivery under way has a short time to end, as it would come a second time otherwise. A
// look or a command that hangs at a disk is left, and so is a write of the file after a short time. What could not be delivered is delivered after the next start.
func (m *Monitor) Close() {
	m.stop()
	m.endTests()
	ended := make(chan bool)
	go func() {
		m.done.Wait()
		close(ended)
	}()
	for range 2 {
		select {
		case <-ended:
		case <-time.After(closePatience):
		}
		m.abort()
	}
	if m.store != nil {
		m.store.close()
	}
}

// StopTests ends what Test is doing, and has it end at once from now on: nobody is to wait for a receiver that hangs.
func (m *Monitor) StopTests() { m.endTests() }

// Configure replaces the configuration. What receivers were told stays known by their names.
func (m *Monitor) Configure(c Config) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ctx.Err() != nil {
		return
	}
	earlier := m.senders
	m.configure(c)
	for _, s := range earlier {
		close(s.leave)
		for _, now := range m.senders {
			if now.r.key() == s.r.key() && m.running {
				now.before = s.ended // what it is delivering is not delivered a second time
			}
		}
	}
	if m.running {
		for _, s := range m.senders {
			m.run(s)
		}
	}
	select {
	case m.wake <- struct{}{}:
	default:
	}
}

// configure sets the configuration; mu is held, or nobody else has the monitor.
func (m *Monitor) configure(c Config) {
	d := DefaultConfig()
	if c.Interval <= 0 {
		c.Interval = d.Interval
	}
	if c.Policy == nil {
		c.Policy = d.Policy
	}
	if c.Zone == nil {
		c.Zone = time.Local
	}
	m.config, m.server = c, printable(cmp.Or(c.Name, m.o.Server))
	m.senders = nil
	now, first := m.o.Now(), false
	for _, configured := range c.Receivers {
		for _, r := range configured.each() {
			t := m.known[r.key()]
			if t == nil {
				t = newTold(now)
				m.known[r.key()], first = t, true
			}
			t.retry()
			m.senders = append(m.senders, m.newSender(r, t))
		}
	}
	maps.DeleteFunc(m.known, func(key string, _ *told) bool {
		return !slices.ContainsFunc(m.senders, func(s *sender) bool { return s.r.key() == key })
	})
	if first {
		m.saveLocked() // its first summary is counted from here, also after restarts
	}
}

// run starts the goroutine of a receiver; mu is held.
func (m *Monitor) run(s *sender) { m.done.Go(s.loop) }

// event is what has happened, and is wrong until it is over: by another event, or at a time unless that is zero.
type event struct {
	condition
	until time.Time
}

// guardFor is how long a refusal of the guard is told, see repo.Repository.GuardRefused.
const guardFor = 24 * time.Hour

// hangs is how long a look may take until that is an alert.
const hangs = 2 * time.Minute

// missed is how many looks must not see an alert any more until it is over: what comes and goes is told once.
const missed = 4

// loop looks at intervals, and has receivers look at what they have to tell.
func (m *Monitor) loop(set *datadir.Set) {
	seen := make(chan *sight, 1)
	for {
		m.mu.Lock()
		c := m.config
		if m.looking.IsZero() {
			m.looking = m.o.Now()
			// It is not waited for when the monitor is closed: it may hang, and changes nothing.
			go func() { seen <- m.look(set, &c) }()
		}
		m.mu.Unlock()
		timer := time.NewTimer(c.Interval)
		for waiting := true; waiting; {
			select {
			case <-m.ctx.Done():
				timer.Stop()
				return
			case s := <-seen:
				m.note(s)
			case <-m.wake:
				waiting = false
			case <-timer.C:
				waiting = false
			}
			m.tell()
		}
		timer.Stop()
		m.noteHanging()
		if m.store != nil && m.store.unsaved.Load() {
			m.mu.Lock()
			m.saveLocked()
			m.mu.Unlock()
		}
	}
}

// tell has each receiver look whether there is something to tell.
func (m *Monitor) tell() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, s := range m.senders {
		s.hint()
	}
}

// note takes over what a look has seen.
func (m *Monitor) note(s *sight) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.o.Now()
	m.looked, m.looking = m.looking, time.Time{}
	maps.DeleteFunc(m.events, func(key Key, e event) bool {
		return s.there != nil && !s.there[key.Repository] || !e.until.IsZero() && !e.until.After(now)
	})
	changed := false
	for _, c := range s.conditions {
		changed = m.seenLocked(c, now) || changed
	}
	for _, e := range m.events {
		if a := m.active[e.Key]; a == nil || !a.seen.Equal(now) { // a look knows better
			changed = m.seenLocked(e.condition, now) || changed
		}
	}
	var over []Key
	for key, a := range m.active {
		switch {
		case key.Repository != "" && (s.blind || s.unseen[key.Repository] && key.Kind != Unusable):
			a.seen = now // nobody knows
		case key.Repository == "" && s.blind && (key.Kind == Disk || key.Kind == Inodes):
			a.seen = now
		case a.seen.Equal(now):
		case now.Sub(a.seen) >= missed*m.config.Interval || now.Before(a.seen):
			over = append(over, key)
		}
	}
	slices.SortFunc(over, compareKeys)
	for _, key := range over {
		m.endLocked(key, now)
		changed = true
	}
	if !s.blind {
		m.summary = s.summary
		m.summary.at = m.looked
	}
	if changed {
		m.saveLocked()
	}
}

// noteHanging makes an alert of a look that has hung for some time. What it was to see stays as it was.
func (m *Monitor) noteHanging() {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.o.Now()
	if m.looking.IsZero() || now.Sub(m.looking) < hangs {
		return
	}
	for _, a := range m.active {
		a.seen = now
	}
	hung := condition{Key{Kind: Volume, Subject: "disk"}, Critical, "the disk of the data directory does not answer: check it"}
	if m.seenLocked(hung, now) {
		m.saveLocked()
	}
}

// seenLocked notes that something is wrong, and tells whether that is news.
func (m *Monitor) seenLocked(c condition, now time.Time) bool {
	a := m.active[c.Key]
	if a == nil {
		if len(m.active) >= maxAlerts {
			if !m.overflown {
				m.o.Logger.Error("there are too many alerts; further ones are not told", "alerts", len(m.active))
			}
			m.overflown = true
			return false
		}
		m.active[c.Key] = &active{Alert{Key: c.Key, Level: c.level, Text: c.text, Since: now.UTC().Truncate(time.Second)}, now}
		m.o.Logger.Warn("alert", "kind", string(c.Kind), "level", string(c.level), "repository", c.Repository, "subject", c.Subject, "text", c.text)
		return true
	}
	news := a.Level != c.level
	a.Level, a.Text, a.seen = c.level, c.text, now
	return news
}

// endLocked ends an alert: who was told of it, or is still to be, is told that it is over.
func (m *Monitor) endLocked(key Key, now time.Time) {
	a := m.active[key]
	delete(m.active, key)
	a.Ended = now.UTC().Truncate(time.Second)
	m.overflown = false
	m.o.Logger.Info("alert over", "kind", string(key.Kind), "repository", key.Repository, "subject", key.Subject, "since", a.Since)
	for _, s := range m.senders {
		s.told.end(a.Alert, s.r.wants(key))
	}
}

// JobEnded is told how a background job of a repository ended, or a task of maintenance: what names its kind, and text says in one line that it failed, and
// why; "": it did not.
func (m *Monitor) JobEnded(repository, what, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	key := Key{Job, repository, what}
	if text == "" {
		delete(m.events, key)
		return
	}
	c := condition{key, Warning, printable(shorten(text, 500))}
	m.events[key] = event{condition: c}
	if m.seenLocked(c, m.o.Now()) {
		m.saveLocked()
	}
}

// saveLocked has the file written, behind whatever comes next. mu is held.
func (m *Monitor) saveLocked() {
	if m.store == nil {
		return
	}
	f := stateFile{Version: fileVersion, Alerts: m.alertsLocked(), Receivers: make(map[string]receiverState)}
	for name, t := range m.known {
		f.Receivers[name] = t.state()
	}
	m.store.save(f)
}

// alertsLocked are the alerts that last, in order.
func (m *Monitor) alertsLocked() []Alert {
	all := make([]Alert, 0, len(m.active))
	for _, a := range m.active {
		all = append(all, a.Alert)
	}
	slices.SortFunc(all, compareAlerts)
	return all
}
