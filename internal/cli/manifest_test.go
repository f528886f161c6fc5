package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestReadManifests(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, body string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	job := func(name string) string {
		return "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + name + "\n"
	}
	write("many/b.yaml", job("b")+"---\n# only a comment\n---\n"+job("c"))
	write("many/a.json", `{"apiVersion":"v1","kind":"List","items":[{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"a"}}]}`)
	write("many/readme.md", "no")
	write("many/sub/d.yaml", job("d"))
	write("empty/readme.md", "no")

	for _, tc := range []struct {
		name  string
		paths []string
		stdin string
		want  string // names, or an error if it starts with "!"
	}{
		{"directory", []string{filepath.Join(dir, "many")}, "", "a b c"},
		{"stdin and file", []string{"-", filepath.Join(dir, "many/a.json")}, job("z"), "z a"},
		{"nothing there", []string{filepath.Join(dir, "none.yaml")}, "", "!does not exist"},
		{"empty directory", []string{filepath.Join(dir, "empty")}, "", "!no .yaml, .yml or .json file"},
		{"empty input", []string{"-"}, "\n---\n", "!no objects found"},
		{"not yaml", []string{"-"}, "a: b: c", "!stdin: "},
		{"duplicate key", []string{"-"}, job("x") + "kind: Job\n", `!key "kind" already set`},
		{"no kind", []string{"-"}, "apiVersion: v1\nmetadata: {name: x}\n", "!stdin: not a Kubernetes object: Object 'Kind' is missing"},
		{"no apiVersion", []string{"-"}, "kind: Job\nmetadata: {name: x}\n", "!stdin: apiVersion is not set"},
		{"second document", []string{"-"}, job("x") + "---\n- 1\n", "!stdin (document 2): not a Kubernetes object: want apiVersion"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := readManifests(tc.paths, strings.NewReader(tc.stdin))
			if want, isErr := strings.CutPrefix(tc.want, "!"); isErr {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("error %v, want %q", err, want)
				}
				return
			}
			var names []string
			for _, m := range got {
				names = append(names, m.GetName())
			}
			if err != nil || strings.Join(names, " ") != tc.want {
				t.Errorf("got %v, %v; want %s", names, err, tc.want)
			}
		})
	}
}
