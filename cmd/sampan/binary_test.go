package main_test

import (
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// binaryBudget is how large the released binary may be. It downloads, starts and
// sits in memory with all of it.
const binaryBudget = 80e6

// TestBinary holds what scripts/build promises: a static binary within its budget.
// When it has grown too large, the failure names what it is made of.
func TestBinary(t *testing.T) {
	t.Parallel()
	released := filepath.Join(buildTools(t).bin, "sampan")
	info, err := os.Stat(released)
	if err != nil {
		t.Fatal(err)
	}
	file, err := elf.Open(released)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if file.Section(".interp") != nil {
		t.Error("the binary is dynamic: it would not start in a container that has another C library, or none")
	}
	t.Logf("%.1f MB", float64(info.Size())/1e6)
	if info.Size() > binaryBudget {
		withSymbols := filepath.Join(t.TempDir(), "sampan")
		build(t, withSymbols, "-ldflags=")
		t.Errorf("the binary has %.1f MB, its budget is %.0f MB\n%s", float64(info.Size())/1e6, binaryBudget/1e6, contents(t, withSymbols))
	}
}

// build makes the binary out as it is released; args go to `go build`.
func build(t *testing.T, out string, args ...string) {
	t.Helper()
	cmd := exec.Command(filepath.Join("..", "..", "scripts", "build"), append([]string{out}, args...)...)
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, text)
	}
}

// contents says which modules a binary with symbols is made of, and whether
// something keeps the linker from leaving out methods that nobody calls.
func contents(t *testing.T, path string) string {
	t.Helper()
	file, err := elf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	symbols, err := file.Symbols()
	if err != nil {
		t.Fatal(err)
	}
	sizes := map[string]uint64{}
	var text strings.Builder
	for _, s := range symbols {
		sizes[module(s.Name)] += s.Size
		if byName[s.Name] {
			fmt.Fprintf(&text, "%s is in it: it calls methods by their names, so the linker can leave none out\n", s.Name)
		}
	}
	modules := make([]string, 0, len(sizes))
	for m := range sizes {
		modules = append(modules, m)
	}
	slices.SortFunc(modules, func(a, b string) int { return int(sizes[b]) - int(sizes[a]) })
	for _, m := range modules[:min(15, len(modules))] {
		fmt.Fprintf(&text, "%6.1f MB %s\n", float64(sizes[m])/1e6, m)
	}
	return text.String()
}

// byName are the functions that call methods by their names.
var byName = map[string]bool{
	"text/template.(*Template).Execute": true,
	"html/template.(*Template).Execute": true,
}

// module is about the module that a symbol is of: the first three elements of its
// import path, or two where the second is a module's name.
func module(symbol string) string {
	symbol = strings.TrimPrefix(symbol, "type:")
	path := strings.TrimLeft(symbol, ".*[]0123456789")
	host, _, found := strings.Cut(path, "/")
	if !found || !strings.Contains(host, ".") {
		return "the standard library, the runtime and data"
	}
	n := 3
	if strings.HasSuffix(host, "k8s.io") {
		n = 2
	}
	parts := strings.SplitN(path, "/", n+1)
	parts = parts[:min(n, len(parts))]
	last := &parts[len(parts)-1]
	*last, _, _ = strings.Cut(*last, ".(")
	return strings.Join(parts, "/")
}
