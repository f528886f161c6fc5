package agent

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// nothing imports packages without looking at them: what files know of each other is
// seen without.
type nothing struct{}

func (nothing) Import(path string) (*types.Package, error) {
	pkg := types.NewPackage(path, filepath.Base(path))
	pkg.MarkComplete()
	return pkg, nil
}

// knowledge returns which files of this package, tests aside, name something that
// another of them declares, and an example of what.
func knowledge(t *testing.T) map[string]map[string]string {
	t.Helper()
	set := token.NewFileSet()
	var files []*ast.File
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	knows := map[string]map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(set, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
		knows[name] = map[string]string{}
	}
	info := &types.Info{Uses: map[*ast.Ident]types.Object{}}
	config := types.Config{Importer: nothing{}, Error: func(error) {}} // what others declare is missing
	pkg, _ := config.Check("agent", set, files, info)
	for id, obj := range info.Uses {
		field, isVar := obj.(*types.Var)
		_, isFunc := obj.(*types.Func)
		if obj.Pkg() != pkg || obj.Parent() != pkg.Scope() && !isFunc && !(isVar && field.IsField()) {
			continue
		}
		from, to := set.Position(id.Pos()).Filename, set.Position(obj.Pos()).Filename
		if from != to {
			knows[from][to] = obj.Name()
		}
	}
	return knows
}

// TestFilesKnowThoseBelow holds the files to the table in DESIGN.md: a file knows those
// of its row and of the rows below it, and no two know each other, be it through others.
func TestFilesKnowThoseBelow(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("DESIGN.md")
	if err != nil {
		t.Fatal(err)
	}
	row := map[string]int{}
	for i, line := range strings.Split(string(text), "\n") {
		if cells := strings.Split(line, "|"); len(cells) == 4 {
			for _, name := range regexp.MustCompile(`[a-z]+\.go`).FindAllString(cells[1], -1) {
				row[name] = i
			}
		}
	}
	knows := knowledge(t)
	for from, list := range knows {
		if row[from] == 0 && from != "doc.go" {
			t.Errorf("DESIGN.md has no row for %s", from)
		}
		for to, what := range list {
			if row[to] < row[from] {
				t.Errorf("%s knows %s of %s, which is above it", from, what, to)
			}
		}
	}
	const entered, left = 1, 2
	state := map[string]int{}
	var visit func(name string, way []string)
	visit = func(name string, way []string) {
		way = append(way, name)
		if state[name] == entered {
			t.Errorf("a circle: %s", strings.Join(way, " knows "))
		}
		if state[name] != 0 {
			return
		}
		state[name] = entered
		for next := range knows[name] {
			visit(next, way)
		}
		state[name] = left
	}
	for name := range knows {
		visit(name, nil)
	}
	if len(knows["worker.go"]) < 5 {
		t.Errorf("this test sees nothing: worker.go knows %v", knows["worker.go"])
	}
}
