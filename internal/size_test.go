package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a reader can hold in mind at once. A straight sequence of steps may need more;
// then it is listed in longer, with the reason.
const (
	maxBody = 60  // lines between the braces of a function
	maxFile = 450 // lines of a file
)

// longer are files and functions ("file:function") that are longer on purpose.
var longer = map[string]string{
	"internal/runner/runnertest/runnertest.go:Run": "it is the list of the suite's tests",
}

// TestNothingIsTooLong: what was not written by a program fits on a page or three.
func TestNothingIsTooLong(t *testing.T) {
	t.Parallel()
	used := map[string]bool{}
	check := func(name string, lines, limit int) {
		if lines <= limit {
			return
		}
		if used[name] = true; longer[name] == "" {
			t.Errorf("%s has %d lines, and may have %d: split it, or say in longer why not", name, lines, limit)
		}
	}
	for _, dir := range []string{"../internal", "../cmd", "../bench", "../torture"} {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case entry.IsDir() && entry.Name() == "testdata":
				return fs.SkipDir
			case !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || strings.HasPrefix(entry.Name(), "zz_generated"):
				return nil
			}
			return measure(path, check)
		})
		if err != nil {
			t.Error(err)
		}
	}
	for name, why := range longer {
		if !used[name] {
			t.Errorf("%s is not too long any more (%s): take it out of longer", name, why)
		}
	}
}

// measure tells check the length of a file and of its functions.
func measure(path string, check func(name string, lines, limit int)) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	name := strings.TrimPrefix(path, "../")
	check(name, strings.Count(string(text), "\n"), maxFile)
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, path, text, 0)
	if err != nil {
		return err
	}
	for _, decl := range file.Decls {
		if f, ok := decl.(*ast.FuncDecl); ok && f.Body != nil {
			lines := set.Position(f.Body.Rbrace).Line - set.Position(f.Body.Lbrace).Line - 1
			check(name+":"+f.Name.Name, lines, maxBody)
		}
	}
	return nil
}
