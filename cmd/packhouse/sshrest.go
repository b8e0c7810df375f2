package main

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"packhouse/repo"

	"github.com/spf13/cobra"
)

// serveRest is `serve --rest`: what borg starts over ssh, or an administrator forces there.
func serveRest(cmd *cobra.Command, s streams, f *restFlags) error {
	if original := os.Getenv("SSH_ORIGINAL_COMMAND"); original != "" {
		// What the client asks for counts for the backend alone; the rest is the forced command's. A
		// backend that is forced without a restriction to choose within is meant to be the only one.
		backend, ok := backendOf(original)
		switch {
		case ok && (f.backend == "" || f.restricted()):
			f.backend = backend
		case f.backend == "":
			return restricted("the client must ask for: serve --rest --backend FILE:path")
		}
	}
	if f.permissions == "" {
		f.permissions = os.Getenv("BORG_REPO_PERMISSIONS")
	}
	if f.restricted() && !strings.HasPrefix(f.backend, "FILE:") {
		return restricted("only FILE: backends are allowed here")
	}
	p, err := f.parse()
	if err != nil {
		return err
	}
	if err := f.allow(p.dir); err != nil {
		return err
	}
	if err := repo.CheckApart(p.dir); err != nil {
		return err
	}
	return serveStdio(cmd.Context(), s, p, "", "")
}

func restricted(format string, args ...any) error {
	return &exitError{exitRestricted, fmt.Errorf(format, args...)}
}

// restricted tells whether only some directories are allowed.
func (f *restFlags) restricted() bool { return len(f.restrictToPath)+len(f.restrictToRepository) > 0 }

// allow holds a directory against the restrictions, if there are any.
func (f *restFlags) allow(dir string) error {
	if !f.restricted() {
		return nil
	}
	for _, path := range f.restrictToPath {
		root, err := restriction(path)
		if err != nil {
			return err
		}
		if dir == root || strings.HasPrefix(dir, strings.TrimSuffix(root, "/")+"/") {
			return nil
		}
	}
	for _, path := range f.restrictToRepository {
		root, err := restriction(path)
		if err != nil {
			return err
		}
		if dir == root {
			return nil
		}
	}
	return restricted("this repository is not allowed here")
}

func restriction(path string) (string, error) {
	path, err := expandHome(path)
	if err != nil {
		return "", err
	}
	return resolve(path)
}

// backendOf finds the backend in the command a client wanted to run: that of `… serve --rest` or of
// borgstore-server-rest --stdio.
func backendOf(command string) (string, bool) {
	words, err := shellWords(command)
	if err != nil || len(words) == 0 {
		return "", false
	}
	rest := filepath.Base(words[0]) == restName && slices.Contains(words, "--stdio") ||
		slices.Contains(words, "serve") && slices.Contains(words, "--rest")
	if !rest {
		return "", false
	}
	for i, word := range words {
		if word == "--backend" && i+1 < len(words) {
			return words[i+1], true
		}
		if backend, ok := strings.CutPrefix(word, "--backend="); ok {
			return backend, true
		}
	}
	return "", false
}

// shellWords splits a command line as a shell does, as far as quotes and backslashes go.
func shellWords(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, c := range line {
		switch {
		case escaped:
			if quote == '"' && c != '"' && c != '\\' && c != '$' && c != '`' {
				word.WriteByte('\\')
			}
			word.WriteRune(c)
			escaped = false
		case c == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0:
			if c == quote {
				quote = 0
			} else {
				word.WriteRune(c)
			}
		case c == '\'' || c == '"':
			quote, inWord = c, true
		case c == ' ' || c == '\t' || c == '\n':
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(c)
			inWord = true
		}
	}
	if quote != 0 || escaped {
		return nil, errors.New("unfinished quote")
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}

// unescape decodes the path of a file URL.
func unescape(path string) (string, error) {
	path, err := url.PathUnescape(path)
	if err == nil && strings.ContainsRune(path, 0) {
		err = errors.New("the path has a zero byte")
	}
	return path, err
}
