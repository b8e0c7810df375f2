//go:build e2e

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

func readmeText(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// readme has the blocks of shell that README.md prints, by the heading they stand under.
func readme(t *testing.T) map[string][]string {
	t.Helper()
	blocks := make(map[string][]string)
	heading, block := "", ""
	inside := false
	for line := range strings.Lines(readmeText(t)) {
		switch {
		case strings.HasPrefix(line, "```"):
			if inside {
				blocks[heading] = append(blocks[heading], block)
			}
			inside, block = !inside, ""
		case inside:
			block += line
		case strings.HasPrefix(line, "## "):
			heading = strings.TrimSpace(line[3:])
		}
	}
	return blocks
}

// blockWith is the one block under a heading that contains a text, with pairs replaced. Each must occur.
func blockWith(t *testing.T, heading, text string, pairs ...string) string {
	t.Helper()
	found := ""
	for _, block := range readme(t)[heading] {
		if strings.Contains(block, text) {
			if found != "" {
				t.Fatalf("README.md has several blocks with %q under %q", text, heading)
			}
			found = block
		}
	}
	if found == "" {
		t.Fatalf("README.md has no block with %q under %q", text, heading)
	}
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(found, pairs[i]) {
			t.Fatalf("README.md has no %q to replace in\n%s", pairs[i], found)
		}
	}
	return strings.NewReplacer(pairs...).Replace(found)
}

// shell runs lines as a person would, in a directory, with the programs of this test on the search path; the
// first line that fails ends them.
func (b *borg) shell(dir, lines string) string {
	b.t.Helper()
	env := append(append([]string(nil), b.env...), "HOME="+dir,
		"PATH="+strings.Join([]string{programs, filepath.Dir(b.program), os.Getenv("PATH")}, string(os.PathListSeparator)))
	return run(b.t, env, "bash", "-euc", "cd "+dir+"\n"+lines)
}

// TestReadme runs the commands of README.md: as they are printed, but for the address, the token and the paths.
func TestReadme(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	if err := os.Rename(newTree(t, 10, 20, 2<<20).dir, filepath.Join(home, "Documents")); err != nil {
		t.Fatal(err)
	}

	t.Run("borg over http", func(t *testing.T) {
		// As "Start it" says: nothing is configured, and what is needed is printed.
		s := newServer(t)
		s.args = []string{"serve", "--listen", s.addr}
		s.data = filepath.Join(s.dir, "packhouse-data")
		s.start()
		banner := regexp.MustCompile(`(?s)token +(\w{20,}).*?\n(  export BORG_REPO=.*?)\n\n`)
		var m []string
		for range 600 { // printed when it listens already
			if m = banner.FindStringSubmatch(tail(s.logPath, 100)); m != nil {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		if m == nil {
			t.Fatal("serve printed no token and no borg commands")
		}
		b := newBorg(t, "")
		b.shell(home, strings.ReplaceAll(m[2], "/myrepo", "/printed"))
		b.shell(home, blockWith(t, "BorgBackup 2", "export BORG_REPO=", "TOKEN", m[1], "127.0.0.1:8484", s.addr))
		// The commands for administrators find the server by its directory, where it was started: here by us, without
		// a configuration.
		administer := blockWith(t, "Running it for real", "packhouse check",
			"sudo -u packhouse packhouse ", "packhouse ", " -c /etc/packhouse.toml", "", " laptop", " myrepo")
		if out := b.shell(s.dir, administer); !strings.Contains(out, "myrepo") {
			t.Errorf("the administrator's commands say nothing of the repository:\n%s", out)
		}
		quota := regexp.MustCompile("`(packhouse repo quota [^`]+)`").FindStringSubmatch(readmeText(t))
		if quota == nil {
			t.Fatal("README.md shows no command that sets a quota")
		}
		b.shell(s.dir, quota[1])
		if out := b.shell(s.dir, "packhouse repo info myrepo"); !strings.Contains(out, "500") {
			t.Errorf("after %q packhouse repo info says\n%s", quota[1], out)
		}
	})

	t.Run("borg over ssh", func(t *testing.T) {
		root := filepath.Join(t.TempDir(), "backup")
		if err := os.Mkdir(root, 0o700); err != nil {
			t.Fatal(err)
		}
		letGo(t, filepath.Join(root, "laptop"))
		b := newBorg(t, "", "BORG_RSH="+remoteShell(t, t.TempDir(), ""), "PACKHOUSE_HOLD_IDLE=20s")
		scheme, _, _ := strings.Cut(b.remote(""), ":")
		lines, repository := "", ""
		for line := range strings.Lines(blockWith(t, "BorgBackup 2", "BORG_REMOTE_PATH", "/srv/backup", root)) {
			if url, ok := strings.CutPrefix(line, "borg -r "); ok {
				if url, _, _ = strings.Cut(url, " "); !strings.HasPrefix(url, scheme+":") {
					continue // of other versions
				}
				repository = url
			}
			lines += line
		}
		b.shell(home, lines)
		if _, err := os.Stat(filepath.Join(root, "laptop", "index.db")); err != nil {
			t.Fatalf("no repository was made: %v", err)
		}
		m := regexp.MustCompile(`^command="([^"]+)",restrict `).FindStringSubmatch(
			blockWith(t, "BorgBackup 2", `command="`, "/srv/backup", root))
		if m == nil {
			t.Fatal("README.md shows no forced command")
		}
		forced := b.with("BORG_RSH=" + remoteShell(t, t.TempDir(), m[1])).with("BORG_REMOTE_PATH=packhouse").with("BORG_REPO=" + repository)
		forced.run("create", "first", home)
		if out, code := forced.try("delete", "-a", "first"); code == 0 {
			t.Errorf("the forced command lets a client delete:\n%s", out)
		}
		if out, code := forced.with("BORG_REPO="+strings.ReplaceAll(repository, root, root+"-else")).try("repo-create", "--encryption", "aes256-ocb"); code == 0 {
			t.Errorf("the forced command lets a client leave its directory:\n%s", out)
		}
	})

	t.Run("borgstore-server-rest", func(t *testing.T) {
		s, bin := newServer(t), t.TempDir()
		_, port, _ := strings.Cut(s.addr, ":")
		lines := blockWith(t, "BorgBackup 2", "ln -s", "/usr/local/bin", bin, "/srv/backup/laptop", s.data, "--port 5618", "--port "+port)
		s.program = "/bin/sh"
		s.args = []string{"-euc", strings.Replace(lines, "borgstore-server-rest --backend", "exec "+bin+"/borgstore-server-rest --backend", 1)}
		s.env = []string{"PATH=" + programs + string(os.PathListSeparator) + os.Getenv("PATH")}
		s.start()
		b := newBorg(t, fmt.Sprintf("http://u:p@%s/", s.addr))
		b.run("repo-create", "--encryption", "aes256-ocb")
	})
}
