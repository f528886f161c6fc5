package runspec

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
)

// An init container writes what it likes into the files that variables come from, and a manifest
// names them as often as it has fields for: neither may cost more than reading the files once.
func TestHostileEnvFiles(t *testing.T) {
	t.Parallel()
	newlines := strings.Repeat("\n", runner.MaxVolumeFile-8)
	for _, test := range []struct {
		name, data, err string
		variables       int
		path            func(i int) string
	}{
		{name: "a value of newlines", data: "A='" + newlines + "'", err: "argument list too long", variables: 1},
		{name: "newlines that do not end", data: "A='" + newlines, err: "starting at line 1: unclosed single quote", variables: 1},
		{name: "newlines before the variable", data: newlines + "A='x'", variables: 2000},
		{name: "a variable that is not there, asked for often", data: newlines + "B='x'", variables: 1, err: "not found"},
		{name: "assignments before the variable", data: strings.Repeat("B=''\n", 200_000) + "A='x'", variables: 2000},
		{name: "the same file by other names", data: newlines + "A='x'", variables: 2000,
			path: func(i int) string { return strings.Repeat("./", i) + "env" }},
		{name: "many files", data: newlines + "A='x'", variables: 2000, err: "more than 8 MiB together",
			path: func(i int) string { return fmt.Sprint("env", i) }},
		{name: "a line that is too long for a kubelet", data: strings.Repeat("#", 64<<10) + "\nA='x'", variables: 1, err: "token too long"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			in, read := &Input{Pod: &corev1.Pod{}, Container: &corev1.Container{}}, 0
			for i := range test.variables {
				path := "env"
				if test.path != nil {
					path = test.path(i)
				}
				in.Container.Env = append(in.Container.Env, corev1.EnvVar{Name: fmt.Sprint("V", i), ValueFrom: &corev1.EnvVarSource{
					FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: path, Key: "A"}}})
			}
			in.ReadFile = func(string, string) ([]byte, error) {
				read++
				return []byte(test.data), nil
			}
			began := time.Now()
			env, err := Environment(in, nil)
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("took %v", took)
			}
			switch {
			case test.err == "" && (err != nil || len(env.list) != test.variables || read != 1):
				t.Errorf("%v, read %d times", err, read)
			case test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)):
				t.Errorf("got %v, want %s", err, test.err)
			case read > 9:
				t.Errorf("read %d files", read)
			}
		})
	}
}
