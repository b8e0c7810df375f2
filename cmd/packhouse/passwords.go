package main

import (
	"fmt"
	"time"

	"packhouse/api"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo"
	"packhouse/repo/policy"
)

// passwordsInterval is how often the password file is looked at. A change counts from the second look on that finds it.
const passwordsInterval = 2 * time.Second

// loadPasswords reads the password file of a configuration, if it has one, and logs what of it cannot be used.
func (sv *service) loadPasswords(c *config.Config) error {
	if c.HtpasswdFile == "" {
		sv.passwords.Store(nil)
		return nil
	}
	f, err := api.LoadPasswordFile(c.HtpasswdFile)
	if err != nil {
		return err
	}
	sv.passwords.Store(f)
	sv.warnOfPasswords(c, f)
	return nil
}

// warnOfPasswords logs a line for each user and line of the password file that does not count.
func (sv *service) warnOfPasswords(c *config.Config, f *api.PasswordFile) {
	remarks := f.Remarks()
	for _, u := range f.Users() {
		if why := notOfFile(c, u.Name); why != "" {
			remarks = append(remarks, fmt.Sprintf("user %q is ignored: %s", u.Name, why))
		}
	}
	for _, remark := range remarks {
		sv.log.Warn("password file: "+remark, "file", c.HtpasswdFile)
	}
}

// notOfFile says why a user of the password file does not count; "": it does.
func notOfFile(c *config.Config, name string) string {
	switch {
	case name == config.TokenName && !c.NoToken:
		return "the name is reserved for the server's token"
	case c.HasUser(name):
		return "the configuration has a user of this name"
	}
	return ""
}

// passwordUsers are those of the password file.
func (sv *service) passwordUsers(c *config.Config) (users []api.User) {
	f := sv.passwords.Load()
	if f == nil {
		return nil
	}
	for _, u := range f.Users() {
		if notOfFile(c, u.Name) == "" {
			users = append(users, u)
		}
	}
	return users
}

// reloadPasswords reads the password file of a configuration that has just been read again. If that fails, the old users stay.
func (sv *service) reloadPasswords(c *config.Config) {
	f := sv.passwords.Load()
	if f == nil || c.HtpasswdFile != f.Path() {
		if err := sv.loadPasswords(c); err != nil {
			sv.log.Error("reload: could not read the password file; its users are not changed", "error", err)
		}
		return
	}
	if err := f.Reload(); err != nil {
		sv.log.Error("reload: could not read the password file; the old users stay, and it is tried again", "error", err)
		return
	}
	sv.warnOfPasswords(c, f)
}

// watchPasswords looks at the password file until stop. It is on nobody's way: the file may lie on a disk that does not answer.
func (sv *service) watchPasswords() (stop func()) {
	ticker, done := time.NewTicker(passwordsInterval), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-ticker.C:
				sv.lookAtPasswords()
			}
		}
	}()
	return func() {
		ticker.Stop()
		close(done)
	}
}

// lookAtPasswords applies the users of a password file that has changed.
func (sv *service) lookAtPasswords() {
	f := sv.passwords.Load()
	if f == nil {
		return
	}
	changed, err := f.Look()
	if err != nil {
		sv.log.Error("could not read the password file again; the old users stay, and it is tried again", "error", err)
	}
	if !changed {
		return
	}
	sv.reloading.Lock()
	defer sv.reloading.Unlock()
	c := sv.current.Load()
	sv.warnOfPasswords(c, f)
	sv.renewAuth(c)
	sv.warnOfNames()
	sv.server.api.AuditSetting("reload")
	sv.log.Info("read the password file again, as it had changed", "users", len(f.Users()))
}

// describePasswords says what is wrong with the password file of a configuration, a line for each.
func describePasswords(c *config.Config) (lines []string, err error) {
	if c.HtpasswdFile == "" {
		return nil, nil
	}
	f, err := api.LoadPasswordFile(c.HtpasswdFile)
	if err != nil {
		return nil, err
	}
	for _, remark := range f.Remarks() {
		lines = append(lines, "warning: "+c.HtpasswdFile+": "+remark)
	}
	for _, u := range f.Users() {
		if why := notOfFile(c, u.Name); why != "" {
			lines = append(lines, fmt.Sprintf("warning: %s: user %q is ignored: %s", c.HtpasswdFile, u.Name, why))
		}
	}
	return lines, nil
}

// grants are what a user may do in a repository ("": in the server as a whole): one of the configuration, of the password file, or
// one that a proxy names. nil is everything.
func (sv *service) grants(c *config.Config, user, repository, dialect string) *policy.Permissions {
	switch {
	case c.HasUser(user):
		return c.Grants(user, repository, dialect)
	case !sv.passwords.Load().Has(user) && !sv.anyUser(c):
		return policy.Nothing()
	case c.PrivateRepositories && (!config.Owns(user, repository) || sv.rest.isRoot(repository)):
		return policy.Nothing()
	}
	return nil
}

// anyUser tells whether each name that a proxy gives is a user's: where no users are configured.
func (sv *service) anyUser(c *config.Config) bool {
	return c.ProxyUserHeader != "" && len(c.Users) == 0 && sv.passwords.Load() == nil
}

// metricsUser is who may read the metrics where repositories are private, as in rest-server.
const metricsUser = "metrics"

// mayScrape admits that user: it owns no more than others.
func (sv *service) mayScrape(p repo.Principal) bool {
	_, issued := sv.tokens.Named(p.Name)
	return p.Name == metricsUser && !issued && sv.current.Load().PrivateRepositories
}
