package runspec

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

func TestAssigned(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"A='x'":                           "x",
		"A='x'\n":                         "x",
		"\n \t\n# A='no'\n\tA='x' # it\n": "x",
		"B='y'\nA='x=\"$y\" \\\\'":        `x="$y" \\`,
		"A='one\ntwo\n\nthree'\nB='y'":    "one\ntwo\n\nthree",
		"A='x'\r\nB='y'\r\n":              "x",
		"A='x'\nno assignment":            "x", // it is not looked at
		"B='A='\n":                        "",
		"A= 'x'\nA='y'":                   "",
		"B= 'x'\nA='y'":                   "y",
		"A=''":                            "",
		"":                                "",
		"B='y'":                           "",
		"A":                               "line 1: missing '='",
		"B='y'\n='x'":                     "line 2: empty variable name",
		"A ='x'":                          "line 1: whitespace before '='",
		"A=x":                             "line 1: value must be enclosed in single quotes",
		"A=":                              "line 1: value must be enclosed in single quotes",
		"\nA='x\ny":                       "starting at line 2: unclosed single quote",
		"A='x'y":                          "line 1: unexpected content after closing quote",
		"B='\n\n'y\nA='x'":                "line 3: unexpected content after closing quote",
		strings.Repeat("'", 1000):         "line 1: missing '='",
	} {
		got, err := parse(text, map[string]bool{"A": true}).of("A")
		if err != nil {
			got = strings.TrimPrefix(strings.TrimPrefix(err.Error(), "invalid environment variable format "), "at ")
			got = got[:min(len(got), len(want))]
		}
		if got != want {
			t.Errorf("%q: got %q, %v, want %q", text, got, err, want)
		}
	}
}

func FuzzAssigned(f *testing.F) {
	f.Add("A='x'\n# b\nB='y\nz'", "B")
	f.Fuzz(func(t *testing.T, text, key string) {
		if value, err := parse(text, map[string]bool{key: true}).of(key); err == nil && value != "" && strings.Contains(value, "'") {
			t.Errorf("%q has a quote", value)
		}
	})
}

func TestFileKeyRef(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		data     string
		err      error
		optional bool
		want     string
	}{
		{"A='x'", nil, false, "A=x"},
		{"B='x'", nil, true, ""},
		{"", fs.ErrNotExist, true, ""},
		{"B='x'", nil, false, `environment variable key "A" not found in file "sub/env" of volume "v"`},
		{"", fs.ErrNotExist, false, `couldn't parse env file "sub/env" of volume "v": file does not exist`},
		{"", errors.New("no"), true, `couldn't parse env file "sub/env" of volume "v": no`},
		{"A", nil, true, `couldn't parse env file "sub/env" of volume "v": invalid environment variable format at line 1: missing '='`},
	} {
		in := &Input{
			Pod: &corev1.Pod{},
			Container: &corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: &corev1.EnvVarSource{
				FileKeyRef: &corev1.FileKeySelector{VolumeName: "v", Path: "sub/env", Key: "A", Optional: ptr.To(test.optional)},
			}}}},
			ReadFile: func(volume, path string) ([]byte, error) {
				if volume != "v" || path != "sub/env" {
					t.Errorf("reads %s of %s", path, volume)
				}
				return []byte(test.data), test.err
			},
		}
		env, err := Environment(in, nil)
		got := fmt.Sprint(err)
		if err == nil {
			got = strings.Join(env.list, " ")
		}
		if got != test.want {
			t.Errorf("%+v: got %s", test, got)
		}
	}
}
