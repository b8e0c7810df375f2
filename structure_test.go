package packhouse_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// layers lists the packages from top to bottom, as docs/architecture.md does: each may import those of
// later lines only, and what lies below its own path.
var layers = [][]string{
	{"cmd"},
	{"bench"},
	{"api/ui"},
	{"api/client"},
	{"api/borgstore", "api/vger", "api/restic", "api/admin", "api/local"},
	{"api/holder"},
	{"api/stdio"},
	{"api"},
	{"api/tokens", "api/alert"},
	{"compact"},
	{"repo/datadir"},
	{"repo/export", "repo/backup"},
	{"repo/transfer"},
	{"repo"},
	{"repo/adopt"},
	{"repo/recovery"},
	{"repo/layout", "repo/policy"},
	{"repo/keys", "repo/digest", "repo/spill"},
	{"index", "blobstore"},
	{"journal"},
	{"blobstore/vfs"},
	{"internal/platform", "internal/terminal", "internal/logwriter", "internal/shell", "internal/jsonfile", "internal/jsonstream"},
	{"internal/bytesize"},
}

// forTests are packages that only tests import: the rule is not about them.
var forTests = map[string]bool{"api/apitest": true, "internal/sampling": true, "repo/repotest": true, "api/vger/vykartest": true, "blobstore/vfs/vfstest": true, "e2e": true}

// layer finds the line of a package, by the longest path in layers that it lies below.
func layer(pkg string) (line int, name string) {
	line = -1
	for i, names := range layers {
		for _, n := range names {
			if (pkg == n || strings.HasPrefix(pkg, n+"/")) && len(n) > len(name) {
				line, name = i, n
			}
		}
	}
	return line, name
}

// sources calls fn for each Go file that is no test, with the path of its package.
func sources(t *testing.T, fn func(pkg, file string)) {
	t.Helper()
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if name := entry.Name(); entry.IsDir() && file != "." && (name[0] == '.' || name[0] == '_' || name == "testdata") {
			return filepath.SkipDir
		}
		if !entry.IsDir() && strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
			fn(path.Dir(filepath.ToSlash(file)), file)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestImportsPointDown(t *testing.T) {
	checked := 0
	sources(t, func(pkg, file string) {
		if forTests[pkg] || pkg == "." {
			return
		}
		from, fromLayer := layer(pkg)
		if from < 0 {
			t.Errorf("%s: package %s is in no layer; add it to the list and to docs/architecture.md", file, pkg)
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				t.Error(err)
			}
			imported, ours := strings.CutPrefix(imported, "packhouse/")
			if !ours {
				continue
			}
			checked++
			if to, toLayer := layer(imported); to < from || to == from && toLayer != fromLayer || forTests[imported] {
				t.Errorf("%s imports %s, which is not below it", file, imported)
			}
		}
	})
	if checked < 20 {
		t.Errorf("only %d imports were checked", checked)
	}
}

// TestPackagesExist: what is said of a package above is said of one that there is.
func TestPackagesExist(t *testing.T) {
	there := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && path.Ext(file) == ".go" {
			there[path.Dir(filepath.ToSlash(file))] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	named := slices.Concat(layers...)
	named = slices.AppendSeq(named, maps.Keys(forTests))
	for _, name := range named {
		below := func(pkg string) bool { return pkg == name || strings.HasPrefix(pkg, name+"/") }
		if !slices.ContainsFunc(slices.Collect(maps.Keys(there)), below) {
			t.Errorf("there is no package %s", name)
		}
	}
}

func TestEveryPackageIsDocumented(t *testing.T) {
	documented := map[string]bool{}
	sources(t, func(pkg, file string) {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.PackageClauseOnly)
		if err != nil {
			t.Error(err)
			return
		}
		documented[pkg] = documented[pkg] || parsed.Doc != nil
	})
	for pkg, ok := range documented {
		if !ok {
			t.Errorf("package %s has no comment that says what it keeps", pkg)
		}
	}
}

// TestDocumentsAreTrue: docs/architecture.md lists every package, and a test that a document names is there.
func TestDocumentsAreTrue(t *testing.T) {
	read := func(name string) string {
		t.Helper()
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	architecture := read("docs/architecture.md")
	for _, names := range layers {
		for _, name := range names {
			if !strings.Contains(architecture, "`"+name) {
				t.Errorf("docs/architecture.md does not name %s", name)
			}
		}
	}
	tests := make(map[string]bool)
	declared := regexp.MustCompile(`(?m)^func (Test\w+|Benchmark\w+|Fuzz\w+)\(`)
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err == nil && entry.IsDir() && file != "." && strings.HasPrefix(entry.Name(), ".") {
			return filepath.SkipDir
		}
		if err == nil && strings.HasSuffix(file, "_test.go") {
			for _, m := range declared.FindAllStringSubmatch(read(file), -1) {
				tests[m[1]] = true
			}
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	documents, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	named := 0
	for _, document := range append(documents, "README.md") {
		for _, m := range regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`").FindAllStringSubmatch(read(document), -1) {
			named++
			if !tests[m[1]] {
				t.Errorf("%s names %s, which is no test", document, m[1])
			}
		}
	}
	if named < 10 {
		t.Errorf("the documents name %d tests, want at least those of the promise", named)
	}
}

// metaphors are words taken from a house or an office that were once used for parts of a server. A reader who knows databases and HTTP
// would not search for them.
var metaphors = regexp.MustCompile(`(?i:\b(houses?|rooms?|desks?|doors?|keepers?|greet\w*|upkeep)\b)|[a-z](House|Room|Desk|Door|Keeper|Greet|Upkeep)|\b(house|room|desk|door|keeper|upkeep)[A-Z]`)

// TestPlainWords: code, comments, docs, log lines and help use the field's words.
func TestPlainWords(t *testing.T) {
	looked := 0
	err := filepath.WalkDir(".", func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := entry.Name()
		if entry.IsDir() {
			if file != "." && strings.HasPrefix(name, ".") || name == "testdata" || name == "bin" {
				return filepath.SkipDir
			}
			return nil
		}
		switch path.Ext(name) {
		case ".go", ".md", ".sh", ".toml", ".service", ".conf", ".yml", ".yaml", "":
		default:
			return nil
		}
		if file == "structure_test.go" || !entry.Type().IsRegular() {
			return nil
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		looked++
		for n, line := range strings.Split(string(text), "\n") {
			if word := metaphors.FindString(line); word != "" {
				t.Errorf("%s:%d: %q is a metaphor; say what is meant", file, n+1, word)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if looked < 100 {
		t.Errorf("only %d files were looked at", looked)
	}
}

// TestCommandsAreShort: a function of cmd has at most 60 lines. What is longer tells more than one story, or holds something that
// belongs below api. One that has a reason to be longer gets an exception here, which must fail when it is not needed any more.
func TestCommandsAreShort(t *testing.T) {
	const most = 60
	seen := 0
	sources(t, func(pkg, file string) {
		if !strings.HasPrefix(pkg, "cmd/") {
			return
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, nil, 0)
		if err != nil {
			t.Error(err)
			return
		}
		for _, d := range parsed.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			seen++
			lines := files.Position(f.End()).Line - files.Position(f.Pos()).Line - 1
			if lines > most {
				t.Errorf("%s: %s has %d lines, more than %d", file, f.Name.Name, lines, most)
			}
		}
	})
	if seen < 100 {
		t.Errorf("only %d functions were seen", seen)
	}
}

// TestBelowHTTP: what api imports knows nothing of HTTP.
func TestBelowHTTP(t *testing.T) {
	sources(t, func(pkg, file string) {
		if pkg == "api" || strings.HasPrefix(pkg, "api/") || strings.HasPrefix(pkg, "cmd/") || pkg == "bench" || strings.HasPrefix(pkg, "bench/") || forTests[pkg] {
			return
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Error(err)
			return
		}
		for _, spec := range parsed.Imports {
			if spec.Path.Value == `"net/http"` {
				t.Errorf("%s imports net/http", file)
			}
		}
	})
}

// TestDialectsDecideNothing: a dialect asks whether a principal may do something, and maps the error. It looks into no table of
// permissions, and makes no refusal of its own.
func TestDialectsDecideNothing(t *testing.T) {
	seen := 0
	sources(t, func(pkg, file string) {
		if pkg != "api/borgstore" && pkg != "api/vger" {
			return
		}
		seen++
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Error(err)
			return
		}
		for _, spec := range parsed.Imports {
			if spec.Path.Value == `"packhouse/repo/policy"` {
				t.Errorf("%s imports the tables of permissions", file)
			}
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.SelectorExpr:
				if n.Sel.Name == "Permissions" {
					t.Errorf("%s looks into permissions; ask Principal.May or Access.May", file)
				}
			case *ast.CompositeLit:
				if made, ok := n.Type.(*ast.SelectorExpr); ok && made.Sel.Name == "DeniedError" {
					t.Errorf("%s makes a DeniedError; package repo does", file)
				}
			}
			return true
		})
	})
	if seen < 30 {
		t.Errorf("only %d files were seen", seen)
	}
}

// TestDashboardTellsOfAPI: docs/dashboard.md says of each request of the API where the pages have it, or why not.
func TestDashboardTellsOfAPI(t *testing.T) {
	requests := func(file string) (found []string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range regexp.MustCompile("(?m)^\\| `((?:GET|POST|PUT|DELETE) /(?:-/|\\{r\\})[^` ]*)`").FindAllStringSubmatch(string(text), -1) {
			found = append(found, row[1])
		}
		slices.Sort(found)
		return found
	}
	api, pages := requests("docs/api.md"), requests("docs/dashboard.md")
	if len(api) < 30 || !slices.Equal(api, pages) {
		t.Errorf("the requests of docs/api.md are\n%q, those of docs/dashboard.md\n%q", api, pages)
	}
}
