package stdio

import (
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
)

// ServerName is the name of the reference server's program. The command of that name accepts its options.
const ServerName = "borgstore-server-rest"

// BackendPath returns the path in a --backend argument, with ~ expanded. Relative paths stay relative. Source: borgstore-rest 5.2.
func BackendPath(backend string) (string, error) {
	scheme, rest, found := strings.Cut(backend, ":")
	switch {
	case found && scheme == "FILE":
		path, err := ExpandHome(rest)
		if err != nil {
			return "", err
		}
		if path == "" {
			return "", errors.New("--backend: FILE: needs a path, such as FILE:backup/laptop")
		}
		return path, nil
	case found && scheme == "file":
		path, ok := strings.CutPrefix(rest, "//")
		if !ok || !strings.HasPrefix(path, "/") {
			return "", fmt.Errorf("--backend %s: a file URL is file:/// and an absolute path, without a host", backend)
		}
		path, err := unescape(path)
		if err != nil {
			return "", fmt.Errorf("--backend %s: %w", backend, err)
		}
		return path, nil
	case found && (scheme == "sftp" || scheme == "rclone" || scheme == "s3" || scheme == "b2" || scheme == "http" || scheme == "https" || scheme == "rest"):
		return "", fmt.Errorf("--backend %s: a repository lies on a disk of this machine; write FILE:path or file:///path", backend)
	}
	return "", fmt.Errorf("--backend %s: write FILE:path or file:///path", backend)
}

// ExpandHome expands ~ and ~user at the start of a path.
func ExpandHome(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(path[1:], "/")
	if name == "" {
		home, err := os.UserHomeDir()
		return filepath.Join(home, rest), err
	}
	u, err := user.Lookup(name)
	if err != nil {
		return path, nil // a file of that name, as a shell has it
	}
	return filepath.Join(u.HomeDir, rest), nil
}

// unescape decodes the path of a file URL.
func unescape(path string) (string, error) {
	path, err := url.PathUnescape(path)
	if err == nil && strings.ContainsRune(path, 0) {
		err = errors.New("the path has a zero byte")
	}
	return path, err
}

// BackendOf returns the backend in the command line that a client requested, `… serve --rest` or borgstore-server-rest --stdio.
func BackendOf(command string) (string, bool) {
	words, err := shellWords(command)
	if err != nil || len(words) == 0 {
		return "", false
	}
	rest := filepath.Base(words[0]) == ServerName && slices.Contains(words, "--stdio") ||
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
