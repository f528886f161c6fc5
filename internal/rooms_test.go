package internal_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/sampan-batch/sampan/"

// rooms says which rooms each room may import, besides itself; DESIGN.md draws
// the same picture. A room is a directory below internal, with all below it.
var rooms = map[string][]string{
	// leaves
	"change": nil,
	"kind":   {"change"},
	"store":  {"change"},
	"work":   nil,
	"tree":   nil,
	"image":  {"tree"},
	"runner": {"tree"},
	"golden": {"change"}, // for tests
	// cores: pure
	"job":     {"kind", "change"},
	"cron":    {"kind", "change"},
	"place":   {"kind", "change"},
	"sweep":   {"kind", "change"},
	"explain": {"kind", "job", "cron"}, // what the cores decided, in words
	// shell
	"control": {"store", "work", "change", "kind", "job", "cron", "place", "sweep"},
	// edges
	"server": {"kind", "change", "store"},
	"agent":  {"runner", "image", "kind", "change", "tree"},
	"cli":    {"engine", "kind", "change", "image", "runner", "explain", "job", "cron"},
	// wires everything
	"engine": {"change", "kind", "store", "work", "image", "runner", "control", "server", "agent", "tree"},
}

// impure is what no core may import: no clock to wait on, no logger, no disk.
var impure = []string{"context", "log/slog", "os", "sync", "net", "math/rand", "math/rand/v2", "k8s.io/client-go"}

func TestImportsGoOneWay(t *testing.T) {
	t.Parallel()
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		room, _, _ := strings.Cut(filepath.ToSlash(path), "/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("%s: the room %q is not in the table of rooms", path, room)
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			if isCore(room) && slices.ContainsFunc(impure, func(p string) bool { return imported == p || strings.HasPrefix(imported, p+"/") }) {
				t.Errorf("%s: the core %q imports %q; cores are pure", path, room, imported)
			}
			rest, ours := strings.CutPrefix(imported, module+"internal/")
			if !ours {
				continue
			}
			other, _, _ := strings.Cut(rest, "/")
			if other != room && !slices.Contains(allowed, other) {
				t.Errorf("%s: %q must not import %q", path, room, other)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func isCore(room string) bool {
	return slices.Contains([]string{"job", "cron", "place", "sweep", "explain"}, room)
}
