package shell_test

import (
	"os/exec"
	"testing"

	"packhouse/internal/shell"
)

// TestWord: a shell reads the word that was meant, and what needs no quotes has none.
func TestWord(t *testing.T) {
	for _, tt := range []struct{ word, want string }{
		{"laptop", "laptop"},
		{"alice/laptop", "alice/laptop"},
		{"bob@example.org", "bob@example.org"},
		{"x+y=z,~", "x+y=z,~"},
		{"/srv/a~b", "/srv/a~b"},
		{"mein büro", "'mein büro'"},
		{"~root", "'~root'"},
		{"=ls", "'=ls'"},
		{"it's", `'it'\''s'`},
		{"$(reboot)", "'$(reboot)'"},
		{"a;b&c|d", "'a;b&c|d'"},
		{"", "''"},
	} {
		got := shell.Word(tt.word)
		if got != tt.want {
			t.Errorf("%q: got %s, want %s", tt.word, got, tt.want)
		}
		out, err := exec.Command("sh", "-c", "printf %s "+got).CombinedOutput()
		if err != nil || string(out) != tt.word {
			t.Errorf("%q: a shell reads %s as %q, %v", tt.word, got, out, err)
		}
	}
}
