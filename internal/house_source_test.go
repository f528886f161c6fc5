package internal_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// source is what the files of one package, tests aside, import and name of others.
type source struct {
	ours      map[string]string // package of the module → a file that imports it
	strangers []use             // packages of others
	uses      []use
}

// use is one import, or one name of an imported package.
type use struct{ what, where string }

// packages reads all packages of the module, for whatever build tags.
func packages(t *testing.T) map[string]*source {
	t.Helper()
	all := map[string]*source{}
	eachFile(t, func(name string) error {
		pkg := filepath.ToSlash(filepath.Dir(name))
		if all[pkg] == nil {
			all[pkg] = &source{ours: map[string]string{}}
		}
		if strings.HasSuffix(name, "_test.go") || strings.HasPrefix(filepath.Base(name), "zz_generated") {
			return nil
		}
		return all[pkg].read(name)
	})
	delete(all, "internal") // these tests
	return all
}

// eachFile visits the Go files of the module by their names in it.
func eachFile(t *testing.T, visit func(name string) error) {
	t.Helper()
	err := filepath.WalkDir("..", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if strings.HasPrefix(d.Name(), ".") && d.Name() != ".." || d.Name() == "testdata" || ownModule(file) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(file, ".go") {
			return nil
		}
		return visit(strings.TrimPrefix(file, "../"))
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ownModule tells whether a directory below the module's is another module.
func ownModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil && dir != ".."
}

// parse reads a file; at says where a node is. A generator is no part of a package: nil.
func parse(name string) (file *ast.File, at func(ast.Node) string, err error) {
	files := token.NewFileSet()
	file, err = parser.ParseFile(files, filepath.Join("..", name), nil, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return nil, nil, err
	}
	if len(file.Comments) > 0 && file.Comments[0].List[0].Text == "//go:build ignore" {
		return nil, nil, nil
	}
	return file, func(n ast.Node) string { return fmt.Sprintf("%s:%d", name, files.Position(n.Pos()).Line) }, nil
}

func (s *source) read(name string) error {
	file, at, err := parse(name)
	if file == nil {
		return err
	}
	imported := map[string]string{} // by the name that the file knows it by
	for _, spec := range file.Imports {
		what, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if pkg, ours := strings.CutPrefix(what, module); ours {
			s.ours[pkg] = at(spec)
			continue
		}
		s.strangers = append(s.strangers, use{what, at(spec)})
		local := localName(what)
		if spec.Name != nil {
			local = spec.Name.Name
		}
		imported[local] = what
		if local == "_" || local == "." {
			s.uses = append(s.uses, use{what, at(spec)})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if id, ok := sel.X.(*ast.Ident); ok && imported[id.Name] != "" {
				s.uses = append(s.uses, use{imported[id.Name] + "." + sel.Sel.Name, at(sel)})
			}
		}
		return true
	})
	return nil
}

// localName is how a file knows a package that it gives no name of its own: by the
// last element of its path that is no version.
func localName(importPath string) string {
	base := path.Base(importPath)
	if strings.HasPrefix(base, "v") && strings.Trim(base[1:], "0123456789") == "" {
		base = path.Base(path.Dir(importPath))
	}
	return base
}
