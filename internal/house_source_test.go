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
		name := filepath.ToSlash(filepath.Dir(strings.TrimPrefix(file, "../")))
		if all[name] == nil {
			all[name] = &source{ours: map[string]string{}}
		}
		if strings.HasSuffix(file, "_test.go") || strings.HasPrefix(d.Name(), "zz_generated") {
			return nil
		}
		return all[name].read(file)
	})
	if err != nil {
		t.Fatal(err)
	}
	delete(all, "internal") // this test
	return all
}

// ownModule tells whether a directory below the module's is another module.
func ownModule(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "go.mod"))
	return err == nil && dir != ".."
}

func (s *source) read(name string) error {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, name, nil, parser.SkipObjectResolution|parser.ParseComments)
	if err != nil {
		return err
	}
	if len(file.Comments) > 0 && file.Comments[0].List[0].Text == "//go:build ignore" {
		return nil // a generator, which is no part of the package
	}
	at := func(n ast.Node) string {
		p := files.Position(n.Pos())
		return fmt.Sprintf("%s:%d", strings.TrimPrefix(p.Filename, "../"), p.Line)
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
