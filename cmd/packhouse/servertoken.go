package main

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"packhouse/blobstore/vfs"
	"packhouse/cmd/packhouse/internal/config"
	"packhouse/repo/layout"
)

// tokenVariables are where the token may come from, in this order. The last two are those of
// vykar-server and vger-server.
var tokenVariables = []string{"PACKHOUSE_TOKEN", "VYKAR_TOKEN", "VGER_TOKEN"}

// tokenPath is where the token is kept when nobody configured one.
func tokenPath(c *config.Config) string {
	if c.TokenFile != "" {
		return c.TokenFile
	}
	return filepath.Join(layout.ServerDir(c.DataDir), "token")
}

// keptToken reads the token from path, or makes one there: 256 random bits in a file of mode 0600, durable
// before it is used. made tells which.
func keptToken(path string) (token string, made bool, err error) {
	token, err = readToken(path)
	if !errors.Is(err, os.ErrNotExist) {
		return token, false, err
	}
	if token, err = newToken(); err != nil {
		return "", false, err
	}
	if err := vfs.WriteNew(vfs.OS(), path, []byte(token+"\n")); err != nil && !errors.Is(err, os.ErrExist) {
		return "", false, fmt.Errorf("store the token: %w", err)
	}
	// Another process may have been first; what the file holds counts.
	token, err = readToken(path)
	return token, true, err
}

func newToken() (string, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return "", fmt.Errorf("generate a token: %w", err)
	}
	return hex.EncodeToString(secret), nil
}

// checkTokenFile tells whether keptToken will find a token, or a directory to keep one in.
func checkTokenFile(path string) error {
	_, err := readToken(path)
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if info, statErr := os.Stat(filepath.Dir(path)); statErr != nil || !info.IsDir() {
		return fmt.Errorf("token file %s: its directory does not exist", path)
	}
	return nil
}

func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read the token: %w", err)
	}
	token := strings.TrimSpace(string(data))
	if err := config.CheckToken(token); err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return token, nil
}
