package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// completions are what a shell offers for the last of args.
func completions(t *testing.T, args ...string) []string {
	t.Helper()
	_, out, _ := runHere(t, append([]string{"__complete"}, args...)...)
	var offered []string
	for line := range strings.Lines(out) {
		word, _, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if word != "" && word[0] != ':' {
			offered = append(offered, word)
		}
	}
	return offered
}

// TestCompletionOfRepositories: names come from the entries of the data directory, of which nothing is opened, or from a server.
func TestCompletionOfRepositories(t *testing.T) {
	dir := tempDir(t)
	for _, name := range []string{"laptop", "alice%2Fphone", ".packhouse", "not%a name"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	asked := 0
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.Header.Get("Authorization") != "Bearer t" || r.URL.Path != "/-/repositories" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		io.WriteString(w, `{"repositories": [{"name": "far"}, {"name": "farther", "error": {"detail": "damaged"}}]}`)
	}))
	defer server.Close()
	file := filepath.Join(dir, ".toml")
	if err := os.WriteFile(file, []byte("[server]\ndata_dir = \""+dir+"\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name   string
		env    map[string]string
		args   []string
		want   []string
		others bool // may be offered as well
	}{
		{"argument", nil, []string{"check", "-d", dir, ""}, []string{"alice/phone", "laptop"}, false},
		{"all but those given", nil, []string{"check", "-d", dir, "laptop", ""}, []string{"alice/phone"}, false},
		{"one argument", nil, []string{"repo", "info", "-d", dir, "laptop", ""}, nil, false},
		{"flag", nil, []string{"job", "list", "-c", file, "--repo", ""}, []string{"alice/phone", "laptop"}, false},
		{"configuration of the environment", map[string]string{configVariable: file}, []string{"trash", "list", ""}, []string{"alice/phone", "laptop"}, false},
		{"server", map[string]string{"PACKHOUSE_TOKEN": "t"}, []string{"lock", "list", "--server", server.URL, ""}, []string{"far", "farther"}, false},
		{"server of the environment", map[string]string{"PACKHOUSE_TOKEN": "t", serverVariable: server.URL}, []string{"repo", "destroy", ""}, []string{"far", "farther"}, false},
		{"wrong token", map[string]string{"PACKHOUSE_TOKEN": "wrong"}, []string{"lock", "list", "--server", server.URL, ""}, nil, false},
		{"directory instead of the server of the environment", map[string]string{serverVariable: server.URL}, []string{"repo", "info", "-d", dir, ""}, []string{"alice/phone", "laptop"}, false},
		{"no directory", nil, []string{"check", "-d", filepath.Join(dir, "none"), ""}, nil, false},
		{"role", nil, []string{"token", "create", "--role", ""}, []string{"backup", "write-only"}, true},
		{"dialect", nil, []string{"repo", "create", "x", "--dialect", ""}, []string{"borgstore", "restic", "vger"}, true},
		{"shell", nil, []string{"completion", ""}, []string{"bash", "fish", "zsh"}, false},
		{"new repository", nil, []string{"repo", "create", "-d", dir, ""}, nil, false},
		{"removed repository", nil, []string{"repo", "purge", "-d", dir, ""}, nil, false},
		{"name of a token", nil, []string{"token", "revoke", "-d", dir, ""}, nil, false},
		{"name of a receiver", nil, []string{"alert", "test", "-d", dir, ""}, nil, false},
		{"layout of an export", nil, []string{"repo", "export", "-d", dir, "laptop", "x", "--as", ""}, []string{"borgstore", "restic", "vykar"}, false},
		{"layout to adopt", nil, []string{"adopt", "x", "--layout", ""}, []string{"borgstore", "restic", "vger"}, false},
		{"help", nil, []string{"help", "config", ""}, []string{"check"}, false},
		{"nothing", nil, []string{"repo", "list", ""}, nil, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, name := range []string{configVariable, serverVariable, "PACKHOUSE_TOKEN"} {
				t.Setenv(name, test.env[name])
			}
			got := completions(t, test.args...)
			if test.others {
				got = slices.DeleteFunc(got, func(word string) bool { return !slices.Contains(test.want, word) })
				slices.Sort(got)
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	if asked == 0 {
		t.Error("the server was never asked")
	}
}

// TestCompletionScripts: there is one for each shell, which the shells of this machine can read.
func TestCompletionScripts(t *testing.T) {
	for _, shell := range []string{"bash", "fish", "zsh"} {
		code, out, errs := runHere(t, "completion", shell)
		if code != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("%s: got %d, %.200q, %s", shell, code, out, errs)
		}
	}
	if code, _, errs := runHere(t, "completion", "tcsh"); code != exitUsage || !strings.Contains(errs, "bash, fish, zsh") {
		t.Errorf("tcsh: got %d, %s", code, errs)
	}
}

// TestManPages: each command has a page with its examples as they are in its help, and what looks like Markdown in a help is plain text.
func TestManPages(t *testing.T) {
	t.Setenv("SOURCE_DATE_EPOCH", "1700000000")
	dir := filepath.Join(tempDir(t), "man1")
	if code, _, errs := runHere(t, "man", dir); code != 0 {
		t.Fatalf("got %d, %s", code, errs)
	}
	pages := 0
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		if cmd.Hidden {
			return
		}
		pages++
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		text, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Error(err)
			return
		}
		page := strings.NewReplacer(`\-`, "-", `\&`, "", `\\`, `\`, `\(aq`, "'").Replace(string(text))
		if !strings.Contains(page, "Nov 2023") {
			t.Errorf("%s: no date of SOURCE_DATE_EPOCH", name)
		}
		for line := range strings.Lines(cmd.Long) {
			if strings.HasPrefix(line, "  ") && !strings.Contains(page, "\n"+strings.TrimSpace(line)+"\n") {
				t.Errorf("%s: no line %q in\n%s", name, line, page)
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(rootCommand(streams{}))
	if entries, err := os.ReadDir(dir); err != nil || len(entries) < pages || pages < 40 {
		t.Errorf("got %d pages for %d commands, %v", len(entries), pages, err)
	}
}
