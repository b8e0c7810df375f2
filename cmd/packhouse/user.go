package main

import (
	"bufio"
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"packhouse/api"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/terminal"
)

// userFlags say which password file a command is about.
type userFlags struct {
	config string
	file   string
	json   bool
}

func userCommand(s streams) *cobra.Command {
	f := &userFlags{}
	parent := &cobra.Command{
		Use:   "user",
		Short: "Add and list users, and set their passwords",
		Long: `Changes the password file of a server (the setting htpasswd_file), in the format of htpasswd with bcrypt
hashes. A running server reads it again within seconds. Other lines of the file, and comments, stay.

The users of the configuration ([[user]]), who can have roles and lists of repositories, are listed too, and
changed with an editor. For a client that should do one thing in one repository, a token is better: packhouse
token create.

  packhouse user add alice -c /etc/packhouse.toml
  packhouse user passwd alice -c /etc/packhouse.toml
  packhouse user list -c /etc/packhouse.toml
  packhouse user remove alice -c /etc/packhouse.toml

The password is asked for twice on a terminal; otherwise it is the first line of standard input.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := parent.PersistentFlags()
	flags.StringVarP(&f.config, "config", "c", "", "configuration `file` that names the password file (default: the variable "+configVariable+")")
	flags.StringVarP(&f.file, "file", "f", "", "the password `file` (default: htpasswd_file of the configuration)")
	flags.BoolVar(&f.json, "json", false, "print JSON, for scripts")
	parent.AddCommand(userAdd(s, f), userPasswd(s, f), userList(s, f), userRemove(s, f))
	return parent
}

// configFile is the configuration that a command line names; "": none.
func (f *userFlags) configFile(cmd *cobra.Command) string {
	if cmd.Flags().Changed("config") {
		return f.config
	}
	return os.Getenv(configVariable)
}

// load returns the configuration, if there is one, and the path of the password file; "": there is none.
func (f *userFlags) load(cmd *cobra.Command) (c config.Config, file string, err error) {
	if c, err = config.Load(f.configFile(cmd), nil); err != nil {
		return c, "", asServer(err)
	}
	return c, cmp.Or(f.file, c.HtpasswdFile), nil
}

// passwordFile is load where there must be a file, and where name may be a user in it.
func (f *userFlags) passwordFile(cmd *cobra.Command, name string) (file string, err error) {
	if err := api.CheckPasswordName(name); err != nil {
		return "", usage("%w", err)
	}
	c, file, err := f.load(cmd)
	if err != nil {
		return "", err
	}
	if file == "" {
		return "", usage("there is no password file (it is on the server's machine): set htpasswd_file in the configuration and give it with -c, or give the file with -f")
	}
	if why := notOfFile(&c, name); why != "" {
		return "", fmt.Errorf("user %q: %s, so a line in %s would have no effect", name, why, file)
	}
	return file, nil
}

func userAdd(s streams, f *userFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "add USER",
		Short: "Add a user with a password",
		Long: `Adds a user to the password file, which is created if it is missing. What these users may do is in
docs/configuration.md, "Password file".

  packhouse user add alice -c /etc/packhouse.toml
  pwgen -s 32 1 | tee alice.password | packhouse user add alice -f /etc/packhouse.htpasswd`,
		Args: exactly(1, "a USER"),
		RunE: func(cmd *cobra.Command, args []string) error { return f.change(cmd, s, args[0], "added") },
	}
}

func userPasswd(s streams, f *userFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "passwd USER",
		Short: "Set the password of a user",
		Args:  exactly(1, "a USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return f.change(cmd, s, args[0], "changed the password of")
		},
	}
}

// change sets the password of a user that must be there, or that must not if it is to be added.
func (f *userFlags) change(cmd *cobra.Command, s streams, name, what string) error {
	file, err := f.passwordFile(cmd, name)
	if err != nil {
		return err
	}
	add := what == "added"
	check := func(there bool) error {
		switch {
		case add && there:
			return fmt.Errorf("%s has a user %s already; packhouse user passwd %s sets the password", file, name, name)
		case !add && !there:
			return fmt.Errorf("%s has no user %s; packhouse user add %s adds one", file, name, name)
		}
		return nil
	}
	data, err := os.ReadFile(file)
	isNew := errors.Is(err, os.ErrNotExist)
	if err != nil && !isNew {
		return asServer(err)
	}
	if err := check(hasUser(data, name)); err != nil {
		return err // before a password is asked for
	}
	password, err := askPassword(s)
	if err != nil {
		return err
	}
	hash, err := bcrypt.GenerateFromPassword(password, bcrypt.DefaultCost)
	if err != nil {
		return fmt.Errorf("password: %w", err)
	}
	err = editPasswords(file, func(data []byte) ([]byte, error) {
		return withUser(data, name, string(hash)), check(hasUser(data, name))
	})
	if err == nil && isNew {
		err = f.share(cmd, s, file)
	}
	if err == nil {
		if f.json && !add {
			what = "changed"
		}
		return doneTo(s, f.json, what, name)
	}
	return err
}

// share lets the server read a new password file: the group that may read the configuration may read it, too.
func (f *userFlags) share(cmd *cobra.Command, s streams, file string) error {
	if os.Geteuid() != 0 {
		return nil // this is the server's user
	}
	if path := f.configFile(cmd); path != "" {
		info, err := os.Stat(path)
		if err != nil {
			return err
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); ok && owner.Gid != 0 && info.Mode().Perm()&0o040 != 0 {
			return errors.Join(os.Chown(file, -1, int(owner.Gid)), os.Chmod(file, 0o640))
		}
	}
	_, err := fmt.Fprintf(s.err, "%s is new, and only root can read it: give it to the user of the server\n", file)
	return err
}

func userRemove(s streams, f *userFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "remove USER",
		Short: "Remove a user from the password file",
		Args:  exactly(1, "a USER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			file, err := f.passwordFile(cmd, args[0])
			if err != nil {
				return err
			}
			err = editPasswords(file, func(data []byte) ([]byte, error) {
				if !hasUser(data, args[0]) {
					return nil, fmt.Errorf("%s has no user %s", file, args[0])
				}
				return withUser(data, args[0], ""), nil
			})
			if err == nil {
				return doneTo(s, f.json, "removed", args[0])
			}
			return err
		},
	}
}

// listedUser is a row of `user list`.
type listedUser struct {
	Name         string   `json:"name"`
	Source       string   `json:"source"` // "configuration" or "file"
	Role         string   `json:"role,omitempty"`
	Repositories []string `json:"repositories"` // empty: all, or its own with private_repositories
	Note         string   `json:"note,omitempty"`
}

func userList(s streams, f *userFlags) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the users of the configuration and of the password file",
		Args:  exactly(0, ""),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, path, err := f.load(cmd)
			if err != nil {
				return err
			}
			if path == "" && f.configFile(cmd) == "" {
				return usage("%s needs a configuration or a password file, on the server's machine: give one with -c or -f", cmd.CommandPath())
			}
			rows := []listedUser{}
			for _, u := range c.Users {
				rows = append(rows, listedUser{Name: u.Name, Source: "configuration", Role: string(u.Role), Repositories: append([]string{}, u.Repositories...)})
			}
			var remarks []string
			if path != "" {
				passwords, err := api.LoadPasswordFile(path)
				if err != nil {
					return asServer(err)
				}
				for _, u := range passwords.Users() {
					rows = append(rows, listedUser{Name: u.Name, Source: "file", Repositories: []string{}, Note: notOfFile(&c, u.Name)})
				}
				remarks = passwords.Remarks()
			}
			for _, remark := range remarks {
				fmt.Fprintf(s.err, "%s: %s\n", path, terminal.Printable(remark))
			}
			if f.json {
				return printJSON(s, map[string]any{"users": rows})
			}
			t := terminal.NewTable(s.out, "NAME", "SOURCE", "ROLE", "REPOSITORIES", "NOTE")
			for _, r := range rows {
				where := strings.Join(r.Repositories, ", ")
				if where == "" {
					where = map[bool]string{false: "all", true: "its own"}[c.PrivateRepositories]
				}
				t.Row(r.Name, r.Source, orNone(r.Role), where, orNone(r.Note))
			}
			return t.End()
		},
	}
}

// askPassword reads a password: twice from a terminal, which does not show it, else the first line.
func askPassword(s streams) ([]byte, error) {
	file, ok := s.in.(*os.File)
	if !ok || !terminal.Is(file) {
		line, err := bufio.NewReader(io.LimitReader(s.in, 4096)).ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		return goodPassword(bytes.TrimRight(line, "\r\n"))
	}
	ask := func(what string) ([]byte, error) {
		fmt.Fprint(s.err, what)
		defer fmt.Fprintln(s.err)
		return readHidden(int(file.Fd()))
	}
	first, err := ask("Password: ")
	if err == nil {
		first, err = goodPassword(first)
	}
	if err != nil {
		return nil, err
	}
	second, err := ask("Once more: ")
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two passwords differ; nothing was changed")
	}
	return first, err
}

// readHidden reads a line from a terminal, which does not show it. A signal that ends the process meanwhile does not leave the terminal so.
func readHidden(fd int) ([]byte, error) {
	shown, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	signals, read := make(chan os.Signal, 1), make(chan struct{})
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	defer signal.Stop(signals)
	defer close(read)
	go func() {
		select {
		case <-read:
		case got := <-signals:
			_ = term.Restore(fd, shown)
			signal.Reset(got)
			if number, ok := got.(syscall.Signal); ok {
				_ = syscall.Kill(os.Getpid(), number) // once more, without us
			}
		}
	}()
	return term.ReadPassword(fd)
}

// longestPassword is what bcrypt looks at.
const longestPassword = 72

func goodPassword(password []byte) ([]byte, error) {
	switch {
	case len(password) == 0:
		return nil, errors.New("the password is empty; nothing was changed")
	case len(password) > longestPassword:
		return nil, fmt.Errorf("the password is longer than %d bytes, which bcrypt cannot tell apart; nothing was changed", longestPassword)
	}
	return password, nil
}

// nameOfLine is the user of a line of a password file; "": it has none.
func nameOfLine(line []byte) string {
	text := strings.TrimSpace(strings.TrimPrefix(string(line), "\ufeff"))
	name, _, ok := strings.Cut(text, ":")
	if !ok || strings.HasPrefix(text, "#") {
		return ""
	}
	return name
}

func hasUser(data []byte, name string) bool {
	for line := range bytes.Lines(data) {
		if nameOfLine(line) == name {
			return true
		}
	}
	return false
}

// withUser is the file with the hash of a user: in place of its line, the last of several, or at the end; "": without the user.
func withUser(data []byte, name, hash string) []byte {
	var lines [][]byte
	at := -1
	for line := range bytes.Lines(data) {
		if nameOfLine(line) != name {
			lines = append(lines, append(bytes.TrimRight(line, "\r\n"), '\n'))
			continue
		}
		at = len(lines)
	}
	if hash == "" {
		return bytes.Join(lines, nil)
	}
	if at < 0 {
		at = len(lines)
	}
	return bytes.Join([][]byte{bytes.Join(lines[:at], nil), fmt.Appendf(nil, "%s:%s\n", name, hash), bytes.Join(lines[at:], nil)}, nil)
}

// editPasswords replaces a password file by what edit makes of it, durably and as a whole, with its mode and owner. One that is
// missing is made, for its owner alone. Of several that edit at once each finds what the others have done.
func editPasswords(path string, edit func([]byte) ([]byte, error)) error {
	file, err := lockedFile(path)
	if err != nil {
		return err
	}
	defer file.Close() // and with it the lock
	info, err := file.Stat()
	if err != nil {
		return err
	}
	data, err := io.ReadAll(file)
	if err == nil {
		data, err = edit(data)
	}
	if err != nil {
		return err
	}
	return replaceFile(path, data, info)
}

// lockedFile opens the file that has a path now, and locks it: another one may have taken its place while we waited for the lock.
func lockedFile(path string) (*os.File, error) {
	for {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(file.Fd()), unix.LOCK_EX); err != nil {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), file.Close())
		}
		ours, err := file.Stat()
		if err != nil {
			return nil, errors.Join(err, file.Close())
		}
		if named, err := os.Stat(path); err == nil && os.SameFile(ours, named) {
			return file, nil
		}
		_ = file.Close()
	}
}

// replaceFile puts a new file in the place of one, with its mode and owner.
func replaceFile(path string, data []byte, was os.FileInfo) (err error) {
	if path, err = filepath.EvalSymlinks(path); err != nil {
		return err
	}
	dir := filepath.Dir(path)
	file, err := os.CreateTemp(dir, ".packhouse-user-")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, file.Close(), os.Remove(file.Name()))
		}
	}()
	if owner, ok := was.Sys().(*syscall.Stat_t); ok {
		if err = file.Chown(int(owner.Uid), int(owner.Gid)); err != nil && os.Geteuid() == 0 {
			return err
		} else if err != nil {
			if err = file.Chown(-1, int(owner.Gid)); err != nil {
				return fmt.Errorf("keep the group of %s: %w", path, err)
			}
		}
	}
	if err = file.Chmod(was.Mode().Perm()); err != nil {
		return err
	}
	if _, err = file.Write(data); err == nil {
		err = file.Sync()
	}
	if err != nil {
		return err
	}
	if err = os.Rename(file.Name(), path); err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	parent, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer parent.Close()
	return parent.Sync()
}
