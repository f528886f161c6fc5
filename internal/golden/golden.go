// Package golden is for tests: it holds what becomes of a file against the file
// beside it. `go test -update` writes the latter: read the difference before
// you commit it.
package golden

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/change"
)

var update = flag.Bool("update", false, "write the golden files instead of comparing with them")

// Pairs runs a subtest for every dir/x.input.yaml: become turns its text into
// that of dir/x.output.ext.
func Pairs(t *testing.T, dir, ext string, become func(t *testing.T, input []byte) []byte) {
	t.Helper()
	const suffix = ".input.yaml"
	inputs, err := filepath.Glob(filepath.Join(dir, "*"+suffix))
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no %s/*%s: %v", dir, suffix, err)
	}
	for _, path := range inputs {
		stem := strings.TrimSuffix(path, suffix)
		t.Run(filepath.Base(stem), func(t *testing.T) {
			t.Parallel()
			input, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			File(t, stem+".output."+ext, become(t, input))
		})
	}
}

// File holds got against a file.
func File(t *testing.T, path string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("%s is missing: run the test with -update", path)
	}
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s differs. Got:\n%s\nwant:\n%s", path, got, want)
	}
}

// Decision is a Set as text, with whole objects.
func Decision(t *testing.T, set change.Set) []byte {
	t.Helper()
	type write struct {
		Op     string        `json:"op"`
		Key    string        `json:"key"`
		Rev    uint64        `json:"rev,omitempty"`
		Object change.Object `json:"object,omitempty"`
	}
	out := struct {
		Writes []write       `json:"writes,omitempty"`
		Guards []string      `json:"guards,omitempty"`
		Notes  []change.Note `json:"notes,omitempty"`
		WakeAt *time.Time    `json:"wakeAt,omitempty"`
	}{Notes: set.Notes}
	ops := map[change.Op]string{change.Create: "create", change.Update: "update", change.Delete: "delete"}
	for _, w := range set.Writes {
		out.Writes = append(out.Writes, write{ops[w.Op], w.Key.String(), w.Rev, w.Object})
	}
	for _, g := range set.Guards {
		out.Guards = append(out.Guards, g.Key.String())
	}
	if !set.WakeAt.IsZero() {
		out.WakeAt = &set.WakeAt
	}
	text, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	return text
}
