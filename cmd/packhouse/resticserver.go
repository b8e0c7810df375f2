package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"packhouse/api"
	"packhouse/api/restic"
	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/internal/logwriter"
	"packhouse/internal/shell"
	"packhouse/repo/datadir"
	"packhouse/repo/layout"
)

// resticServerName is restic's own server, which the verb of the same name replaces; the verb accepts its options.
const resticServerName = "rest-server"

// resticRoot is the repository at "/", by the name that commands know it by. No path leads to another of this name, as it is a word of the
// protocol.
const resticRoot = "data"

// resticServerFlags are the options of rest-server, and what only we have.
type resticServerFlags struct {
	path       string
	listen     string
	htpasswd   string
	appendOnly bool
	private    bool
	maxSize    int64
	noAuth     bool
	tls        bool
	tlsCert    string
	tlsKey     string
	tlsMin     string
	prometheus bool
	openPage   bool
	log        string
	debug      bool
	group      bool
	proxyUser  string
	proxies    []string
	noVerify   bool
	profile    string
	version    bool
}

func resticServerCommand(s streams) *cobra.Command {
	f := &resticServerFlags{}
	cmd := &cobra.Command{
		Use:   resticServerName,
		Short: "Serve restic's clients, with the options of rest-server",
		Long: `Serves the repositories of a data directory for restic, rustic and others that speak its protocol, with
exactly the options of rest-server. A symbolic link of that name to packhouse does the same.

  packhouse rest-server --path /srv/restic --private-repos --append-only
  restic -r rest:http://alice:PASSWORD@host:8000/alice/laptop/ init

The repository of rest:http://host:8000/ has the name "data" in commands, such as packhouse repo info data -d /srv/restic.
The directory is not that of rest-server, whose repositories are laid out otherwise.

Exit codes: 0 stopped by a signal, 1 wrong command line or an error.`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return failure("%s takes no arguments, got %q", resticServerName, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.version {
				_, err := fmt.Fprintf(s.out, "rest-server version packhouse %s compiled with %s on %s/%s\n", version(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
				return err
			}
			return serveRestic(cmd, s, f)
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error { return failure("%w; see %s --help", err, cmd.CommandPath()) })
	f.add(cmd.Flags())
	return cmd
}

// failure is an error of usage of a program whose exit code for each error is 1.
func failure(format string, args ...any) error {
	return &exitError{exitFailure, fmt.Errorf(format, args...)}
}

func (f *resticServerFlags) add(flags *pflag.FlagSet) {
	flags.SortFlags = false
	flags.StringVar(&f.path, "path", filepath.Join(os.TempDir(), "restic"), "`directory` of the repositories; created if missing")
	flags.StringVar(&f.listen, "listen", ":8000", "`address` to listen on, host:port or unix:PATH")
	flags.StringVar(&f.htpasswd, "htpasswd-file", "", "`file` of the users (default PATH/.htpasswd)")
	flags.BoolVar(&f.noAuth, "no-auth", false, "let everyone in, without a password")
	flags.StringVar(&f.proxyUser, "proxy-auth-username", "", "`header` in which a proxy names the user; believed only of proxies that are trusted")
	flags.StringArrayVar(&f.proxies, "trusted-proxy", api.DefaultProxies, "`address` or network of proxies that are trusted, unix or none; may be repeated (rest-server trusts everyone)")
	flags.BoolVar(&f.appendOnly, "append-only", false, "do not allow clients to delete backups")
	flags.BoolVar(&f.private, "private-repos", false, "users can use only the repositories below their name")
	flags.Int64Var(&f.maxSize, "max-size", 0, "`bytes` that all repositories may have together; 0: no limit")
	flags.BoolVar(&f.tls, "tls", false, "speak TLS")
	flags.StringVar(&f.tlsCert, "tls-cert", "", "`file` of the TLS certificate chain (default PATH/public_key)")
	flags.StringVar(&f.tlsKey, "tls-key", "", "`file` of the TLS key (default PATH/private_key)")
	flags.StringVar(&f.tlsMin, "tls-min-ver", "1.2", "least `version` of TLS, 1.2 or 1.3")
	flags.BoolVar(&f.prometheus, "prometheus", false, "serve metrics at /metrics")
	flags.BoolVar(&f.openPage, "prometheus-no-auth", false, "serve them to everyone")
	flags.StringVar(&f.log, "log", "", "`file` for a line in the combined format for each request; - is stdout")
	flags.BoolVar(&f.debug, "debug", false, "log each request on stderr, and why it was refused")
	flags.BoolVar(&f.group, "group-accessible-repos", false, "let the group of the process read and write the files of repositories")
	flags.BoolVar(&f.noVerify, "no-verify-upload", false, "has no effect: what is uploaded is always compared with its name")
	flags.BoolVarP(&f.version, "version", "v", false, "print the version")
	flags.StringVar(&f.profile, "cpu-profile", "", "")
	_ = flags.MarkHidden("cpu-profile")
}

// check finds what cannot be meant.
func (f *resticServerFlags) check() error {
	switch {
	case f.profile != "":
		return failure("--cpu-profile is not known here: packhouse serve --profile DIRECTORY records profiles, between two SIGUSR1 signals")
	case !f.tls && (f.tlsCert != "" || f.tlsKey != ""):
		return failure("--tls-cert and --tls-key require --tls")
	}
	for name, value := range map[string]string{"path": f.path, "listen": f.listen} {
		if value == "" {
			return failure("--%s: must not be empty", name)
		}
	}
	var err error
	name := "listen"
	if err = config.CheckListen(f.listen); err == nil {
		name, err = "tls-min-ver", config.CheckTLSVersion(f.tlsMin)
	}
	if err == nil && f.proxyUser != "" {
		name, err = "proxy-auth-username", config.CheckUserHeader(f.proxyUser)
	}
	if err == nil {
		name = "trusted-proxy"
		_, err = api.ParseProxies(f.proxies)
	}
	if err != nil {
		return failure("--%s: %w", name, err)
	}
	return nil
}

// apply sets what the options say.
func (f *resticServerFlags) apply(c *config.Config) {
	c.DataDir, c.Listen = f.path, []string{f.listen}
	c.AuditLog = config.AuditOff // --log has each request, with its user
	c.AppendOnly, c.PrivateRepositories = f.appendOnly, f.private && !f.noAuth
	c.Proxies, c.NoToken = f.proxies, true
	switch {
	case f.noAuth:
	case f.proxyUser != "":
		c.ProxyUserHeader = f.proxyUser
	default:
		c.HtpasswdFile = cmp.Or(f.htpasswd, filepath.Join(f.path, ".htpasswd"))
	}
	if f.maxSize > 0 {
		c.TotalQuota = f.maxSize
	}
	if f.tls {
		c.TLSCert, c.TLSKey = cmp.Or(f.tlsCert, filepath.Join(f.path, "public_key")), cmp.Or(f.tlsKey, filepath.Join(f.path, "private_key"))
		c.TLSMinVersion = f.tlsMin
	}
	if f.debug {
		c.LogLevel = "debug"
	}
}

// warnings are about options that have no effect.
func (f *resticServerFlags) warnings() (warnings []string) {
	if f.noVerify {
		warnings = append(warnings, "--no-verify-upload has no effect: what is uploaded is always compared with its name")
	}
	for _, also := range []struct {
		given bool
		name  string
	}{{f.private, "private-repos"}, {f.htpasswd != "", "htpasswd-file"}, {f.proxyUser != "", "proxy-auth-username"}} {
		if f.noAuth && also.given {
			warnings = append(warnings, "--"+also.name+" has no effect with --no-auth, which lets everyone in")
		}
	}
	if !f.noAuth && f.proxyUser != "" && f.htpasswd != "" {
		warnings = append(warnings, "--htpasswd-file has no effect with --proxy-auth-username: it is the proxy that asks for passwords")
	}
	if f.openPage && !f.prometheus {
		warnings = append(warnings, "--prometheus-no-auth has no effect without --prometheus")
	}
	return warnings
}

// serveRestic runs rest-server until a signal or the end of the command's context.
func serveRestic(cmd *cobra.Command, s streams, f *resticServerFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	c, err := config.Load("", f.apply)
	if err != nil {
		return err
	}
	level := new(slog.LevelVar)
	setLevel(level, c.LogLevel)
	log, flush := queuedLogger(s.err, c.LogFormat, level)
	defer flush()
	for _, warning := range f.warnings() {
		log.Warn(warning)
	}
	access, closeAccess, err := f.openLog(s.out, log)
	if err != nil {
		return err
	}
	defer closeAccess()
	ctx, stop := untilSignal(cmd.Context(), log, flush)
	defer stop()
	sv := &service{c: c, overrides: f.apply, level: level, log: log, rest: &resticServer{f, access}}
	return sv.run(ctx, s)
}

// openLog opens the access log; nil: there is none.
func (f *resticServerFlags) openLog(stdout io.Writer, log *slog.Logger) (w io.Writer, end func(), err error) {
	var file io.Writer
	closeFile := func() {}
	switch f.log {
	case "":
		return nil, closeFile, nil
	case "-":
		file = stdout
	default:
		opened, err := logwriter.OpenFile(logwriter.FileOptions{Path: f.log, Size: auditSize, Keep: auditKept})
		if err != nil {
			return nil, nil, fmt.Errorf("--log: %w", err)
		}
		file, closeFile = opened, func() { _ = opened.Close() } // each line was written, or counted as lost
	}
	queue := logwriter.New(file, func(lines int) {
		log.Warn("lines of the access log were lost: it could not be written, or not fast enough", "lines", lines)
	})
	return queue, func() {
		flushLog(queue)
		closeFile()
	}, nil
}

// resticServer is what a service does otherwise when it stands for rest-server.
type resticServer struct {
	f      *resticServerFlags
	access io.Writer // nil: no access log
}

// options are those of the server besides what the configuration says.
func (rs *resticServer) options(o *serverOptions) {
	if rs == nil {
		return
	}
	if rs.f.group {
		o.FS = vfs.OSForGroup()
	}
	o.Root, o.ResticOnly = resticRoot, true
	var metrics []prometheus.Collector
	if rs.f.prometheus {
		o.ResticMetrics = restic.NewMetrics(resticRoot, !rs.f.noAuth)
		metrics = append(metrics, o.ResticMetrics)
	}
	o.Front = func(front *api.Options) {
		front.NoMetrics, front.OpenMetrics = !rs.f.prometheus, rs.f.openPage
		front.Collectors = append(front.Collectors, metrics...)
		front.Quiet, front.AccessLog, front.LocalAdmin = !rs.f.debug, rs.access, true
	}
}

// open tells whether everyone is let in.
func (rs *resticServer) open() bool { return rs != nil && rs.f.noAuth }

// isRoot tells of the repository at "/", which is denied to everyone where repositories are private.
func (rs *resticServer) isRoot(repository string) bool { return rs != nil && repository == resticRoot }

// prepare makes the data directory, if its group is to have it: else who claims it makes it.
func (rs *resticServer) prepare(dir string) error {
	if rs == nil || !rs.f.group {
		return nil
	}
	return layout.MkdirAll(vfs.OSForGroup(), dir)
}

// examine refuses a directory that has repositories of rest-server.
func (rs *resticServer) examine(dir string) error {
	if rs == nil {
		return nil
	}
	found := datadir.ResticIn(dir)
	if len(found) == 0 {
		return nil
	}
	const most = 5
	first := cmp.Or(found[0], resticRoot)
	example := fmt.Sprintf("packhouse adopt %s --as %s -d NEW", shell.Word(filepath.Join(dir, found[0])), shell.Word(first))
	shown, more := found, ""
	if len(found) > most {
		shown, more = found[:most], fmt.Sprintf(" and %d more", len(found)-most)
	}
	for i, name := range shown {
		shown[i] = cmp.Or(name, "one at its top")
	}
	return fmt.Errorf("--path: %s has repositories of rest-server (%s%s): make ours of them, without copying, in a new directory on the same file system, each as in %s, and serve that with --path NEW",
		dir, strings.Join(shown, ", "), more, example)
}

// explain adds to the error of a missing password file how to do without.
func (rs *resticServer) explain(err error) error {
	if rs == nil || !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return fmt.Errorf("%w; --no-auth serves without users", err)
}

// ignores tells of an entry of the data directory that belongs to rest-server, and is nothing to warn of.
func (rs *resticServer) ignores(name string) bool {
	if rs == nil {
		return false
	}
	own := []string{".htpasswd", "private_key", "public_key"}
	for _, path := range []string{rs.f.htpasswd, rs.f.log, rs.f.tlsCert, rs.f.tlsKey} {
		own = append(own, filepath.Base(path))
	}
	for _, n := range own {
		if n == name {
			return true
		}
	}
	return false
}

// banner says what is served, and how, as rest-server does.
func (rs *resticServer) banner(w io.Writer, c *config.Config, listeners []net.Listener) error {
	enabled := func(yes bool) string {
		if yes {
			return "enabled"
		}
		return "disabled"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Data directory: %s\n", c.DataDir)
	switch {
	case rs.f.noAuth:
		fmt.Fprintln(&b, "Authentication disabled")
	case c.ProxyUserHeader != "":
		fmt.Fprintln(&b, "Proxy Authentication enabled.")
	default:
		fmt.Fprintf(&b, "Authentication enabled\nLoaded htpasswd file %s\n", c.HtpasswdFile)
	}
	fmt.Fprintf(&b, "Append only mode %s\n", enabled(c.AppendOnly))
	fmt.Fprintf(&b, "Private repositories %s\n", enabled(c.PrivateRepositories))
	fmt.Fprintf(&b, "Group accessible repos %s\n", enabled(rs.f.group))
	for _, l := range listeners {
		fmt.Fprintf(&b, "start server on %s\n", l.Addr())
	}
	if c.TLSCert != "" {
		fmt.Fprintf(&b, "TLS enabled, private key %s, pubkey %s\n", c.TLSKey, c.TLSCert)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
