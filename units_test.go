package packhouse_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// decimal is a unit of bytes that is a power of 1000, or that says which only to who knows.
var decimal = regexp.MustCompile(`(?:^|[^A-Za-z])([kKMG]B)(?:$|[^A-Za-z])`)

// decimalAllowed are files that may name such units: they say how they are read.
var decimalAllowed = map[string]bool{"units_test.go": true, "internal/bytesize/bytesize.go": true, "internal/bytesize/bytesize_test.go": true}

// proc is how /proc writes sizes.
var proc = regexp.MustCompile(`Sscanf\(.*%d kB`)

// Every size that is printed, and every size in the documentation, has a binary unit: MiB, GiB/s.
func TestUnitsAreBinary(t *testing.T) {
	looked := 0
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && file != "." && (name[0] == '.' || name == "testdata") {
			return filepath.SkipDir
		}
		switch path.Ext(file) {
		case ".go", ".md", ".html", ".js", ".toml", ".json", ".yml", ".sh":
		default:
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil || decimalAllowed[filepath.ToSlash(file)] {
			return err
		}
		looked++
		for i, line := range strings.Split(string(text), "\n") {
			if unit := decimal.FindStringSubmatch(line); unit != nil && !proc.MatchString(line) {
				t.Errorf("%s:%d: %s is no binary unit; see internal/bytesize", file, i+1, unit[1])
			}
		}
		return nil
	})
	if err != nil || looked < 100 {
		t.Errorf("looked at %d files: %v", looked, err)
	}
}

// Durations in JSON, of an answer or of a log, are numbers of seconds, which names ending in _seconds say: a time.Duration becomes nanoseconds
// there.
func TestDurationsAreSeconds(t *testing.T) {
	sources(t, func(_, file string) {
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, nil, 0)
		if err != nil {
			t.Error(err)
			return
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if x, ok := n.X.(*ast.Ident); ok && x.Name == "slog" && (n.Sel.Name == "Duration" || n.Sel.Name == "DurationValue") {
					t.Errorf("%s: slog.%s: use a number of seconds", files.Position(n.Pos()), n.Sel.Name)
				}
			case *ast.Field:
				if n.Tag == nil || !strings.Contains(n.Tag.Value, "json:") {
					return true
				}
				ast.Inspect(n.Type, func(part ast.Node) bool {
					if s, ok := part.(*ast.SelectorExpr); ok && s.Sel.Name == "Duration" {
						t.Errorf("%s: a time.Duration with the tag %s: use a number of seconds", files.Position(n.Pos()), n.Tag.Value)
					}
					return true
				})
			}
			return true
		})
	})
}
