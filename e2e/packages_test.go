//go:build e2e

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// TestPackages builds the packages twice, which must give the same bytes, and a newer version; then it installs, upgrades and removes
// them in directories of their own, as root of which the scripts run. The packages of the machine are not touched.
func TestPackages(t *testing.T) {
	if os.Geteuid() != 0 {
		leave(t, "installing a package into a directory needs root")
	}
	need(t, "dpkg")
	rpm := need(t, "rpm")
	dir := t.TempDir()
	old, again, newer := filepath.Join(dir, "old"), filepath.Join(dir, "again"), filepath.Join(dir, "newer")
	makePackages(t, old, "v1.0.0", "0022")
	makePackages(t, again, "v1.0.0", "0077")
	makePackages(t, newer, "v1.1.0", "0022")
	for _, made := range namesIn(t, old) {
		a, b := mustRead(t, filepath.Join(old, made)), mustRead(t, filepath.Join(again, made))
		if !bytes.Equal(a, b) {
			t.Errorf("%s is not the same when it is built again", made)
		}
	}
	if out, err := inDir(old, "sha256sum", "-c", "SHA256SUMS"); err != nil {
		t.Errorf("checksums: %v\n%s", err, out)
	}
	t.Run("archive", func(t *testing.T) { unpackArchive(t, old) })
	t.Run("deb", func(t *testing.T) {
		d := func(t *testing.T, root string, args ...string) {
			t.Helper()
			mustRun(t, "dpkg", append([]string{"--root=" + root, "--force-bad-path", "--force-not-root"}, args...)...)
		}
		root := packageRoot(t)
		writeBelow(t, root, "var/lib/dpkg/available", "")
		for _, below := range []string{"info", "updates", "triggers"} {
			mustMkdir(t, filepath.Join(root, "var/lib/dpkg", below))
		}
		writeBelow(t, root, "var/lib/dpkg/status", "Package: passwd\nStatus: install ok installed\nVersion: 1\nArchitecture: "+runtime.GOARCH+"\nMaintainer: x <x@localhost>\nDescription: x\n\n")
		packageLife(t, root, lifecycle{
			install: func(t *testing.T) { d(t, root, "-i", one(t, old, "*.deb")) },
			upgrade: func(t *testing.T) { d(t, root, "-i", one(t, newer, "*.deb")) },
			remove:  func(t *testing.T) { d(t, root, "-r", "packhouse") },
		})
		if _, err := os.Stat(filepath.Join(root, "etc/packhouse.toml")); err != nil {
			t.Errorf("the configuration is gone before the package is purged: %v", err)
		}
		d(t, root, "-P", "packhouse")
		if _, err := os.Stat(filepath.Join(root, "etc/packhouse.toml")); !os.IsNotExist(err) {
			t.Errorf("the configuration of a purged package: got %v, want that there is none", err)
		}
		if got := string(mustRead(t, filepath.Join(root, "var/lib/packhouse/laptop/item"))); got != "bytes" {
			t.Errorf("an item after the purge: got %q", got)
		}
	})
	t.Run("rpm", func(t *testing.T) {
		file := one(t, old, "*.rpm")
		scripts := string(mustRun(t, rpm, "-qp", "--scripts", file))
		for _, want := range []string{"preinstall scriptlet", "groupadd --system packhouse-proxy", "systemctl try-restart packhouse.service", "systemctl disable --now"} {
			if !strings.Contains(scripts, want) {
				t.Errorf("the scripts do not have %q:\n%s", want, scripts)
			}
		}
		root := packageRoot(t)
		r := func(t *testing.T, args ...string) {
			t.Helper()
			mustRun(t, rpm, append([]string{"--root", root, "--dbpath", "/var/lib/rpm", "--nodeps", "--force-debian"}, args...)...)
		}
		packageLife(t, root, lifecycle{
			install: func(t *testing.T) { r(t, "-i", file) },
			upgrade: func(t *testing.T) { r(t, "-U", one(t, newer, "*.rpm")) },
			remove:  func(t *testing.T) { r(t, "-e", "packhouse") },
		})
	})
}

// lifecycle is what one kind of package manager does with the packages.
type lifecycle struct{ install, upgrade, remove func(t *testing.T) }

// packageLife installs a package where there is no systemd, upgrades it where there is one, removes it, and installs it where systemd
// cannot be reached.
func packageLife(t *testing.T, root string, manager lifecycle) {
	t.Helper()
	calls := filepath.Join(root, "calls") // of systemctl
	manager.install(t)
	if out, err := exec.Command(filepath.Join(root, "usr/bin/packhouse"), "version").Output(); err != nil || !strings.HasPrefix(string(out), "packhouse ") {
		t.Errorf("the program: got %q, %v", out, err)
	}
	group := regexp.MustCompile(`(?m)^packhouse:x?[^:]*:(\d+):`).FindStringSubmatch(string(mustRead(t, filepath.Join(root, "etc/group"))))
	if group == nil || !strings.Contains(string(mustRead(t, filepath.Join(root, "etc/passwd"))), "\npackhouse:") ||
		!strings.Contains(string(mustRead(t, filepath.Join(root, "etc/group"))), "\npackhouse-proxy:") {
		t.Fatalf("the user and the groups were not made: %s", mustRead(t, filepath.Join(root, "etc/group")))
	}
	config := filepath.Join(root, "etc/packhouse.toml")
	if got := strings.TrimSpace(string(mustRun(t, "stat", "-c", "%a %u %g", config))); got != "640 0 "+group[1] {
		t.Errorf("mode, user and group of the configuration: got %s, want 640 0 %s", got, group[1])
	}
	service := string(mustRead(t, filepath.Join(root, "usr/lib/systemd/system/packhouse.service")))
	if !strings.Contains(service, "\nExecStart=/usr/bin/packhouse serve --config /etc/packhouse.toml\n") {
		t.Errorf("the unit starts another program:\n%s", service)
	}
	for _, file := range []string{
		"usr/lib/systemd/system/packhouse.socket", "usr/share/man/man1/packhouse-serve.1.gz", "usr/share/bash-completion/completions/packhouse",
		"usr/share/fish/vendor_completions.d/packhouse.fish", "usr/share/doc/packhouse/README.md", "usr/share/doc/packhouse/docs/configuration.md", "usr/share/doc/packhouse/docs/dashboard.png",
		"usr/share/doc/packhouse/deploy/nginx.conf", "usr/share/doc/packhouse/deploy/compose/compose.yaml",
	} {
		if info, err := os.Stat(filepath.Join(root, file)); err != nil || info.Size() == 0 {
			t.Errorf("%s: got %v, %v", file, info, err)
		}
	}

	// What the administrator and the server have made.
	own := "[server]\ndata_dir = \"/srv\"\n"
	if err := os.WriteFile(config, []byte(own), 0o640); err != nil {
		t.Fatal(err)
	}
	writeBelow(t, root, "var/lib/packhouse/laptop/item", "bytes")
	mustMkdir(t, filepath.Join(root, "run/systemd/system"))
	systemctl := func(code int) {
		writeBelow(t, root, "usr/bin/systemctl", fmt.Sprintf("#!/bin/sh\necho \"$@\" >>/calls\nexit %d\n", code))
		if err := os.Chmod(filepath.Join(root, "usr/bin/systemctl"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	systemctl(0)
	manager.upgrade(t)
	if got, want := string(mustRead(t, calls)), "daemon-reload\ntry-restart packhouse.service\n"; got != want && got != want+"daemon-reload\n" && got != "daemon-reload\n"+want {
		t.Errorf("an upgrade calls systemctl with\n%swant\n%s", got, want)
	}
	if got := string(mustRead(t, config)); got != own {
		t.Errorf("the upgrade has replaced the configuration by %q", got)
	}
	writeBelow(t, root, "calls", "")
	manager.remove(t)
	if got, want := string(mustRead(t, calls)), "disable --now packhouse.service packhouse.socket\ndaemon-reload\n"; got != want {
		t.Errorf("a removal calls systemctl with\n%swant\n%s", got, want)
	}
	if _, err := os.Stat(filepath.Join(root, "usr/bin/packhouse")); !os.IsNotExist(err) {
		t.Errorf("the program after the removal: got %v, want that it is gone", err)
	}
	if got := string(mustRead(t, filepath.Join(root, "var/lib/packhouse/laptop/item"))); got != "bytes" {
		t.Errorf("an item after the removal: got %q", got)
	}
	systemctl(1)
	manager.install(t)
	manager.upgrade(t)
	manager.remove(t)

	// A configuration with which the new version would not start.
	systemctl(0)
	if err := os.WriteFile(config, []byte("[server]\nremoved_key = 1\n"), 0o640); err != nil {
		t.Fatal(err)
	}
	manager.install(t)
	writeBelow(t, root, "calls", "")
	manager.upgrade(t)
	if got := string(mustRead(t, calls)); !strings.Contains(got, "daemon-reload\n") || strings.Contains(got, "restart") {
		t.Errorf("an upgrade beside a wrong configuration calls systemctl with\n%swant no restart", got)
	}
	manager.remove(t)
}

// makePackages runs scripts/packages.sh with the program of these tests, for this machine's architecture.
func makePackages(t *testing.T, dir, version, umask string) {
	t.Helper()
	cmd := exec.Command("sh", "-c", "umask "+umask+"; exec ../scripts/packages.sh "+dir)
	cmd.Env = append(os.Environ(), "VERSION="+version, "ARCHITECTURES="+runtime.GOARCH, "PACKHOUSE_BINARY="+packhouse(), "SOURCE_DATE_EPOCH=1700000000")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("scripts/packages.sh: %v\n%s", err, out)
	}
}

// unpackArchive looks whether an archive has what belongs to the program.
func unpackArchive(t *testing.T, dir string) {
	archive := one(t, dir, "*.tar.gz")
	to := t.TempDir()
	mustRun(t, "tar", "-xzf", archive, "-C", to)
	name := strings.TrimSuffix(filepath.Base(archive), ".tar.gz")
	if want := "packhouse-1.0.0-linux-" + runtime.GOARCH; name != want {
		t.Errorf("got archive %s, want %s", name, want)
	}
	mustRun(t, filepath.Join(to, name, "packhouse"), "version")
	for _, file := range []string{"README.md", "docs/configuration.md", "deploy/packhouse.service", "deploy/packhouse.toml", "man/packhouse.1", "completion/packhouse.zsh"} {
		if _, err := os.Stat(filepath.Join(to, name, file)); err != nil {
			t.Error(err)
		}
	}
}

// packageRoot is a directory with what the scripts of the packages need, copied from this machine.
func packageRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "etc", "var/lib", "tmp", "dev"} {
		mustMkdir(t, filepath.Join(root, dir))
	}
	for _, dir := range []string{"bin", "sbin", "lib", "lib64"} {
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			t.Fatal(err)
		}
	}
	writeBelow(t, root, "dev/null", "")
	writeBelow(t, root, "etc/passwd", "root:x:0:0:root:/root:/bin/sh\n")
	writeBelow(t, root, "etc/group", "root:x:0:\n")
	libraries := regexp.MustCompile(`(?m)(/\S+) \(0x`)
	for _, program := range []string{"sh", "getent", "useradd", "groupadd", "stat", "chgrp"} {
		path := need(t, program)
		files := []string{path}
		for _, m := range libraries.FindAllStringSubmatch(string(mustRun(t, "ldd", path)), -1) {
			files = append(files, m[1])
		}
		for _, file := range files {
			to := filepath.Join(root, strings.TrimPrefix(file, "/usr"))
			mustMkdir(t, filepath.Dir(to))
			mustRun(t, "cp", "-L", file, to)
		}
	}
	return root
}

func inDir(dir, program string, args ...string) ([]byte, error) {
	cmd := exec.Command(program, args...)
	cmd.Dir = dir
	return cmd.CombinedOutput()
}

func mustRun(t *testing.T, program string, args ...string) []byte {
	t.Helper()
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", program, args, err, out)
	}
	return out
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func mustMkdir(t *testing.T, dir string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
}

func writeBelow(t *testing.T, root, name, text string) {
	t.Helper()
	path := filepath.Join(root, name)
	mustMkdir(t, filepath.Dir(path))
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// one is the only file of a directory that matches.
func one(t *testing.T, dir, pattern string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(files) != 1 {
		t.Fatalf("%s in %s: got %q, %v, want one", pattern, dir, files, err)
	}
	return files[0]
}

// namesIn are the names in a directory.
func namesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) == 0 {
		t.Fatalf("%s: got %d entries, %v", dir, len(entries), err)
	}
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	return names
}
