package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
)

// TestDeployedConfiguration: the file we ship is right, also with all that is commented out.
func TestDeployedConfiguration(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "deploy", "packhouse.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := config.Parse("packhouse.toml", text, nil); err != nil {
		t.Error(err)
	}
	all := regexp.MustCompile(`(?m)^# (\[|[a-z_]+ = )`).ReplaceAllString(string(text), "$1")
	all = strings.ReplaceAll(strings.ReplaceAll(all, `"$2y$10$…"`, `"`+hashOf(t, "x")+`"`), `"…"`, `"t"`)
	c, err := config.Parse("packhouse.toml", []byte(all), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Users) != 1 || len(c.Repositories) != 1 || c.Token != "t" {
		t.Errorf("not all examples were switched on: %+v", c)
	}
}

// TestDocumentedSettings: docs/configuration.md has every key and every flag.
func TestDocumentedSettings(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	var missing []string
	for _, key := range config.Keys() {
		if !strings.Contains(string(text), "`"+key+"`") {
			missing = append(missing, key)
		}
	}
	for _, flag := range regexp.MustCompile(`--[a-z-]+`).FindAllString(serveCommand(streams{}).UsageString(), -1) {
		if !strings.Contains(string(text), flag) && flag != "--help" {
			missing = append(missing, flag)
		}
	}
	for _, name := range append(tokenVariables, idleVariable) {
		if !strings.Contains(string(text), "`"+name+"`") {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		t.Errorf("docs/configuration.md lacks %v", missing)
	}
}
