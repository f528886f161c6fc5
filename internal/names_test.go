package internal_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// otherThings are words that a resource is called by, too, where they mean something
// else.
var otherThings = []struct{ pkg, name, why string }{
	{"agent/podfiles", "pods", "a directory below the data directory"},
	{"engine", "pods", "the same"},
	{"board", "pods", "a word of a sentence"},
	{"explain", "pods", "the same"},
	{"manifest", "services", "a field of somebody else's files"},
	{"manifest", "jobs", "a field of somebody else's files"},
	{"cli", "jobs", "what a user may type for a kind, and a field of the JSON that he is given"},
	{"cli", "pods", "what a user may type for a kind"},
	{"cli", "cronjobs", "the same"},
	{"cli", "jobs.batch", "the same"},
	{"cli", "cronjobs.batch", "the same"},
	{"cli", "nodes", "a flag"},
	{"engine", "nodes", "a directory"},
	{"cli", "namespaces", "a path of any cluster's API"},
}

// TestResourcesAreNamedOnce: who means the resource of a kind says kind.Pods. What a
// literal "pods" decides, the table of kinds does not know of.
func TestResourcesAreNamedOnce(t *testing.T) {
	t.Parallel()
	names := resourceNames(t)
	used := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") || strings.HasPrefix(file, "kind/") {
			return err
		}
		pkg := filepath.Dir(file)
		return literals(file, func(text, where string) {
			if !names[text] {
				return
			}
			for _, other := range otherThings {
				if other.pkg == pkg && other.name == text {
					used[pkg+" "+text] = true
					return
				}
			}
			t.Errorf("%s: %q is the name of a resource: say it by the constant of package kind", where, text)
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, other := range otherThings {
		if !used[other.pkg+" "+other.name] {
			t.Errorf("%s is excused for %q, which it does not say: take it out of the table", other.pkg, other.name)
		}
	}
}

// resourceNames are the values of the constants in kind/resource.go, and the plurals
// in them.
func resourceNames(t *testing.T) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	err := literals("kind/resource.go", func(text, _ string) {
		plural, _, _ := strings.Cut(text, ".")
		names[text], names[plural] = true, true
	})
	if err != nil || len(names) < 10 {
		t.Fatalf("kind/resource.go names %d resources: %v", len(names), err)
	}
	return names
}

// literals calls look for each string literal of a file that is no import.
func literals(file string, look func(text, where string)) error {
	files := token.NewFileSet()
	parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	ast.Inspect(parsed, func(n ast.Node) bool {
		if _, isImport := n.(*ast.ImportSpec); isImport {
			return false
		}
		if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if text, err := strconv.Unquote(lit.Value); err == nil {
				look(text, files.Position(lit.Pos()).String())
			}
		}
		return true
	})
	return nil
}
