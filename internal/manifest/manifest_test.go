package manifest

import (
	"fmt"
	"strings"
	"testing"
)

func job(name string) string {
	return "apiVersion: batch/v1\nkind: Job\nmetadata:\n  name: " + name + "\n"
}

const jobJSON = `{"apiVersion":"batch/v1","kind":"Job","metadata":{"name":"%s"}}`

func asJSON(name string) string { return fmt.Sprintf(jobJSON, name) }

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, in, want, wrong string }{
		{"one", job("a"), "a", ""},
		{"documents", job("a") + "---\n# only a comment\n---\n" + job("b"), "a b", ""},
		{"an end", job("a") + "...\n" + job("b"), "a b", ""},
		{"an end and a beginning", job("a") + "... # over\n---\n" + job("b") + "...\n", "a b", ""},
		{"a marker with a comment", job("a") + "--- # next\n" + job("b"), "a b", ""},
		{"a marker with a value", "--- " + asJSON("a") + "\n--- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n", "a b", ""},
		{"markers in a text", job("a") + "data:\n  x: |\n    ---\n    ...\n", "a", ""},
		{"directives", "%YAML 1.1\n---\n" + job("a") + "...\n%YAML 1.1\n---\n" + job("b"), "a b", ""},
		{"lines of another system", strings.ReplaceAll(job("a")+"---\n"+job("b"), "\n", "\r\n"), "a b", ""},
		{"a byte order mark", "\xef\xbb\xbf" + job("a"), "a", ""},
		{"no end of the last line", strings.TrimSuffix(job("a")+"---\n"+job("b"), "\n"), "a b", ""},

		{"JSON values, one a line", asJSON("a") + "\n" + asJSON("b") + "\n", "a b", ""},
		{"JSON values, glued", asJSON("a") + asJSON("b"), "a b", ""},
		{"JSON values between markers", asJSON("a") + "\n---\n" + asJSON("b") + asJSON("c"), "a b c", ""},
		{"JSON after YAML", job("a") + "---\n" + asJSON("b"), "a b", ""},
		{"JSON with tabs", "{\n\t\"apiVersion\": \"v1\",\n\t\"kind\": \"Pod\",\n\t\"metadata\": {\"name\": \"a\"}\n}\n", "a", ""},
		{"flow YAML", "{apiVersion: v1, kind: Pod, metadata: {name: a}}", "a", ""},
		{"rubbish after a value", asJSON("a") + "\nrubbish\n" + asJSON("b"), "a", "x:2: after 1 JSON values: invalid character 'r' looking for beginning of value"},
		{"a value that breaks off", asJSON("a") + "\n{\"apiVersion\":", "a", "x:2: after 1 JSON values: unexpected EOF"},
		{"two flows", "{apiVersion: v1, kind: Pod}\n{apiVersion: v1, kind: Pod}", "", "x:1: after a value comes something else, without --- in front of it"},

		{"a margin that moves", "  apiVersion: v1\n  kind: Pod\napiVersion: v1\n", "", "x:1: after a value comes something else, without --- in front of it"},

		{"a list", `{"apiVersion":"v1","kind":"List","items":[` + asJSON("a") + "," + asJSON("b") + "]}", "a b", ""},
		{"a list of Jobs", "apiVersion: batch/v1\nkind: JobList\nitems:\n- metadata: {name: a}\n- metadata: {name: b}\n", "a b", ""},
		{"a list in a list", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: List\n  items: [" + asJSON("a") + "]\n- " + asJSON("b") + "\n", "a b", ""},
		{"an empty list", "apiVersion: v1\nkind: List\nitems: []\n", "", ""},
		{"a list of something", "apiVersion: v1\nkind: List\nitems:\n- " + asJSON("a") + "\n- 7\n- {kind: Job}\n", "a",
			"x:5: items[1] is not an object\nx:6: not a Kubernetes object: apiVersion is not set"},
		{"not a list", "apiVersion: v1\nkind: List\nitems: 7\n", "", "x:1: items is not a list"},

		{"a merge key that is overridden", "x-: &d {name: d, namespace: n}\napiVersion: v1\nkind: Pod\nmetadata:\n  <<: *d\n  name: a\n", "a", ""},
		{"two merge keys", "x-: &d {name: d}\ny-: &e {namespace: n}\napiVersion: v1\nkind: Pod\nmetadata:\n  <<: [*d, *e]\n  name: a\n", "a", ""},
		{"a key that is there twice", job("a") + "kind: Pod\n", "", `x:5: the key "kind" is there twice, on line 2 first`},
		{"the same beside a merge key", "x-: &d {name: d}\napiVersion: v1\nkind: Pod\nmetadata:\n  <<: *d\n  name: a\n  name: b\n", "", `x:7: the key "name" is there twice, on line 6 first`},
		{"the same in JSON", `{"apiVersion":"v1","kind":"Pod",` + "\n" + `"metadata":{"name":"a","name":"b"}}`, "", `x:2: the key "name" is there twice`},

		{"nothing", "\n---\n", "", ""},
		{"all that is wrong", "a: b: c\n---\n" + job("a") + "---\n- 1\n---\n\n# c\nkind: Job\n", "a",
			"x:1: mapping values are not allowed in this context\nx:8: not a Kubernetes object: want apiVersion, kind and so on, not a list or a single value\nx:12: not a Kubernetes object: apiVersion is not set"},
		{"no kind", "apiVersion: v1\nmetadata: {name: x}\n", "", "x:1: not a Kubernetes object: kind is not set"},
		{"a tab", "kind: Job\n\tspec: 1\n", "", "x:2: found a tab character that violates indentation"},
		{"a template", "{{- if .Values.on }}\nkind: Job\n{{- end }}\n", "", "x:1: did not find expected node content; this looks like a template of Helm: helm template CHART | sampan run -"},
		{"nothing but a template", "{{ .Values.x }}\n", "", "x:1: this looks like a template of Helm: helm template CHART | sampan run -"},
		{"a web page", "\n<!DOCTYPE html>\n<html lang='en'>\n", "", "x:2: this is a web page, not a manifest"},
		{"a chart", "apiVersion: v2\nname: x\nversion: 1.0.0\n", "", "x:1: this describes a Helm chart: helm template . | sampan run -"},
		{"a compose file", "services:\n  db: {image: postgres}\n", "", "x:1: this looks like a compose file; sampan runs Kubernetes manifests (kompose converts the one into the other)"},
		{"a pipeline of GitLab", "build: {stage: build, script: [make]}\n", "", "x:1: this looks like a pipeline of GitLab; sampan runs Kubernetes manifests"},
		{"a workflow", "on: push\njobs: {}\n", "", "x:1: this looks like a workflow of GitHub Actions; sampan runs Kubernetes manifests"},
		{"a kustomization", "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n", "", "x:1: this is kustomize's own file: sampan run -k ."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			objects, err := Decode("x", []byte(c.in))
			var names []string
			for _, o := range objects {
				names = append(names, o.GetName())
			}
			wrong := ""
			if err != nil {
				wrong = err.Error()
			}
			if got := strings.Join(names, " "); got != c.want || wrong != c.wrong {
				t.Errorf("got  %q, %q\nwant %q, %q", got, wrong, c.want, c.wrong)
			}
		})
	}
}

// Every object, and every field of it, knows its line.
func TestPlaces(t *testing.T) {
	t.Parallel()
	text := "# a\n\n" + job("a") + "spec:\n  template:\n    spec:\n      containers:\n      - name: c\n        image: i\n" +
		"---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n  metadata:\n    labels:\n      example.com/x: y\n" +
		"---\n" + asJSON("j") + "\n" + asJSON("k")
	objects, err := Decode("x", []byte(text))
	if err != nil || len(objects) != 4 {
		t.Fatal(objects, err)
	}
	for i, wants := range []map[string]int{
		{"": 3, "kind": 4, "metadata.name": 6, "spec.template.spec.containers[0].image": 12, "spec.template.spec.containers[0].command": 11, "spec.template.spec.containers[7]": 10, "nothing": 3},
		{"": 17, "kind": 18, "metadata.labels[example.com/x]": 21},
		{"": 23, "metadata.name": 23},
		{"": 24},
	} {
		for path, line := range wants {
			if got, want := objects[i].At(path), fmt.Sprintf("x:%d", line); got != want {
				t.Errorf("object %d, %q: %s, want %s", i, path, got, want)
			}
		}
	}
}

// What a template was not filled into is told from what a program may want.
func TestUnfilled(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]bool{
		"busybox:1.36": false, "{{ .Values.image }}": true, "registry/x:${TAG}": true, "$IMAGE": true, "{{image}}": true, "a$": false,
	} {
		if got := Unfilled(value) != ""; got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

// FuzzDecode: no text crashes or hangs the reader, and whatever it refuses it says where.
func FuzzDecode(f *testing.F) {
	for _, s := range []string{job("a"), asJSON("a") + asJSON("b"), "--- x\n...\n%", "{", "a: &a [*a]", "- {kind: List, items: [1]}", "{{ x }}", "\xef\xbb\xbf---"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := Decode("x", data)
		for _, o := range objects {
			if o.GetKind() == "" || o.GetAPIVersion() == "" || !strings.HasPrefix(o.At("a.b[0]"), "x:") {
				t.Errorf("%v at %s", o, o.Where())
			}
		}
		if err != nil && !strings.HasPrefix(err.Error(), "x:") {
			t.Errorf("no place: %v", err)
		}
	})
}

// A page of GitHub's that shows a file says where the file is.
func TestRawHint(t *testing.T) {
	t.Parallel()
	_, err := Decode("https://github.com/o/r/blob/main/deploy/job.yaml", []byte("<html>"))
	if want := "; the file itself is at https://raw.githubusercontent.com/o/r/main/deploy/job.yaml"; err == nil || !strings.HasSuffix(err.Error(), want) {
		t.Errorf("got %v", err)
	}
}
