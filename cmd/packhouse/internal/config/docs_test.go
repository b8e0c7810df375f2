package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"packhouse/cmd/packhouse/internal/config"
)

// TestDocumentedKeys: docs/configuration.md has every key.
func TestDocumentedKeys(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "..", "..", "docs", "configuration.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range config.Keys() {
		if !strings.Contains(string(text), "`"+key+"`") {
			t.Errorf("docs/configuration.md lacks %s", key)
		}
	}
}
