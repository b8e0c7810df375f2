package packhouse_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// TestUpgradeNotes: docs/upgrading.md names the formats that there are. Of each there is a file in testdata, and a constant in the code.
func TestUpgradeNotes(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("docs", "upgrading.md"))
	if err != nil {
		t.Fatal(err)
	}
	highest := func(file, pattern string) int {
		t.Helper()
		source, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		most := 0
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(string(source), -1) {
			n, err := strconv.Atoi(m[1])
			if err != nil {
				t.Fatal(err)
			}
			most = max(most, n)
		}
		return most
	}
	index := highest(filepath.Join("index", "create.go"), `(?m)^\tformatV\d+ = (\d+) `)
	for _, row := range []struct {
		what           string
		newest, oldest int
	}{
		{"| index |", index, 1},
		{"| log |", highest(filepath.Join("journal", "format.go"), `(?m)^\tformat\d+ += (\d+) `), 1},
		{"| checksums of large items |", highest(filepath.Join("blobstore", "sums.go"), `(?m)^\tsumsFormat\d+ += (\d+) `), 1},
		{"| tokens |", highest(filepath.Join("api", "tokens", "file.go"), `(?m)^const fileVersion = (\d+)`), 1},
	} {
		_, after, found := strings.Cut(string(text), "\n"+row.what)
		line, _, _ := strings.Cut(after, "\n")
		read := strconv.Itoa(row.newest)
		if row.newest != row.oldest {
			read = strconv.Itoa(row.oldest) + " to " + read
		}
		if want := " | " + strconv.Itoa(row.newest) + " | " + read + " |"; !found || row.newest == 0 || !strings.HasSuffix(line, want) {
			t.Errorf("row %q: got %q, want it to end in %q", row.what, line, want)
		}
	}
	for format := 1; format <= index; format++ {
		if _, err := os.Stat(filepath.Join("index", "testdata", "format-"+strconv.Itoa(format)+".db.gz")); err != nil {
			t.Errorf("no index of format %d is tested: %v", format, err)
		}
	}
	if !strings.Contains(string(text), "format "+strconv.Itoa(index+1)+", this program knows 1 to "+strconv.Itoa(index)) {
		t.Errorf("the message of an index of format %d is not named", index+1)
	}
}
