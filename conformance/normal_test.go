package conformance

import (
	"regexp"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	sigsyaml "sigs.k8s.io/yaml"

	"github.com/sampan-batch/sampan/internal/kind"
)

// text is an object as YAML, without what differs from cluster to cluster.
func (s *session) text(value any) string {
	if object, ok := value.(map[string]any); ok {
		if _, ok := object["metadata"]; ok {
			for _, field := range []string{"uid", "creationTimestamp", "managedFields"} {
				unstructured.RemoveNestedField(object, "metadata", field)
			}
			for _, annotation := range []string{kind.CronJobSchedule, kind.CronJobExplained, kind.Backoff} {
				unstructured.RemoveNestedField(object, "metadata", "annotations", annotation)
			}
			if a, found, _ := unstructured.NestedMap(object, "metadata", "annotations"); found && len(a) == 0 {
				unstructured.RemoveNestedField(object, "metadata", "annotations")
			}
		}
	}
	withoutRevisions(value)
	out, err := sigsyaml.Marshal(value)
	if err != nil {
		return err.Error()
	}
	return s.normal(string(out))
}

// withoutRevisions drops them from references too: a reference in a CronJob's
// status.active has the revision at which the Job was created, and the engine's
// none, because one commit writes both.
func withoutRevisions(value any) {
	switch v := value.(type) {
	case map[string]any:
		delete(v, "resourceVersion")
		for _, field := range v {
			withoutRevisions(field)
		}
	case []any:
		for _, item := range v {
			withoutRevisions(item)
		}
	}
}

var normalForms = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`), "<uid>"},
	{regexp.MustCompile(`"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"?`), "<time>"},
	{regexp.MustCompile(`"?\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([+-]\d\d:\d\d)"?`), "<time>$1"},
	{regexp.MustCompile(`-\d{8}\b`), "-<minute>"},
	{regexp.MustCompile(`[A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d [+-]\d{4}`), "<time>"},
	{regexp.MustCompile(`\b([0-9a-z][0-9a-z-]{56}[0-9a-z])[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "$1<random>"}, // of the full 63 characters
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{5}\b`), "-<random>"},
	{regexp.MustCompile(`(ResourceVersion in record \(|resource version: \d+, current: |not decodable revision=)\d+`), "$1<revision>"},
	{regexp.MustCompile(`\b10\.96\.\d+\.\d+\b`), "<cluster ip>"},
	{regexp.MustCompile(`(nodePort: |\d:)3[0-2]\d{3}\b`), "$1<node port>"},
	// A patch that makes no object is refused with the object that it was for.
	{regexp.MustCompile(`patch: Invalid value: "\{.*\}": `), `patch: Invalid value: "<object>": `},
}

// normal replaces what is different each time: names, times and UIDs.
func (s *session) normal(text string) string {
	text = strings.ReplaceAll(text, s.namespace, "<namespace>")
	text = s.hooks.unspell(text)
	text = s.unspell(text)
	for _, f := range normalForms {
		text = f.pattern.ReplaceAllString(text, f.text)
	}
	return text
}
