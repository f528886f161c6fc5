package plan

import (
	"encoding/json"
	"strings"
	"testing"
)

// What a run was to do is known again: names that are made, too. What is another now is
// said, but for what is secret.
func TestRecord(t *testing.T) {
	t.Parallel()
	generated := strings.Replace(job("g", "", ""), "name: g", "generateName: g-", 1)
	secret := object("v1", "Secret", "s", "stringData: {k: hidden}")
	in := job("j", "completions: 5", "") + generated + generated + secret
	record := func(text, runtime string) *Record {
		t.Helper()
		p, what := made(t, world(), text)
		if p == nil {
			t.Fatal(what)
		}
		r, err := p.Record(runtime)
		if err != nil {
			t.Fatal(err)
		}
		// As it is read again.
		data, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(data), "hidden") {
			t.Errorf("a secret is written down: %s", data)
		}
		r = &Record{}
		if err := json.Unmarshal(data, r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	for _, c := range []struct{ name, now, runtime, want string }{
		{"the same", in, "host", ""},
		{"another class", in, "sandbox", "--runtime is sandbox, and was host"},
		{"a number", strings.Replace(in, "completions: 5", "completions: 6", 1), "host", "job/default/j: spec.completions is 6, and was 5"},
		{"a field more", strings.Replace(in, "completions: 5", "completions: 5\n  parallelism: 2", 1), "host", "job/default/j: spec.parallelism is 2, and was not set"},
		{"in a list", strings.Replace(in, "image: i", "image: z", 1), "host", `job/default/j: spec.template.spec.containers[0].image is "z", and was "i"`},
		{"a longer list", strings.Replace(in, `["true"]`, `["true", "x"]`, 1), "host",
			`job/default/j: spec.template.spec.containers[0].command is ["true","x"], and was ["true"]`},
		{"a secret", strings.Replace(in, "hidden", "hidden more", 1), "host", "secret/default/s: is another one"},
		{"one more", in + job("k", "", ""), "host", "job/default/k is new"},
		{"one fewer", strings.Replace(in, "name: j", "name: k", 1), "host", "job/default/k is new\njob/default/j is not there any more"},
	} {
		if got := strings.Join(record(in, "host").Changes(record(c.now, c.runtime)), "\n"); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
	p, _ := made(t, world(), in)
	names := map[string]bool{}
	for _, o := range p.Objects {
		names[o.GetName()] = true
	}
	if len(names) != 4 {
		t.Errorf("got %v", names)
	}
}
