package manifest

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"unicode/utf8"
)

// foreign says what a document is that has no place among manifests, "" if it may be
// one.
func foreign(at place, top map[string]any) string {
	dir := filepath.Dir(at.file)
	has := func(names ...string) bool {
		for _, name := range names {
			if _, ok := top[name]; !ok {
				return false
			}
		}
		return true
	}
	version, _ := top["apiVersion"].(string)
	base := strings.ToLower(strings.TrimSuffix(filepath.Base(at.file), filepath.Ext(at.file)))
	switch {
	case strings.HasPrefix(version, "kustomize.config.k8s.io/"), base == "kustomization" && !has("kind"):
		return fmt.Sprintf("this is kustomize's own file: sampan run -k %s", dir)
	case has("kind"):
		return ""
	case (version == "v1" || version == "v2") && has("name", "version"):
		return fmt.Sprintf("this describes a Helm chart: helm template %s | sampan run -", dir)
	case has("services") && !has("apiVersion"):
		return "this looks like a compose file; sampan runs Kubernetes manifests (kompose converts the one into the other)"
	case has("jobs") && (has("on") || has("true")): // YAML takes on for a truth
		return "this looks like a workflow of GitHub Actions; sampan runs Kubernetes manifests"
	case !has("apiVersion") && scripted(top):
		return "this looks like a pipeline of GitLab; sampan runs Kubernetes manifests"
	case base == "values" && !has("apiVersion"):
		return "this looks like the values of a Helm chart: helm template CHART -f " + at.file + " | sampan run -"
	}
	return ""
}

// scripted: something of a document is a job of GitLab's.
func scripted(top map[string]any) bool {
	for _, value := range top {
		if job, ok := value.(map[string]any); ok && job["script"] != nil {
			return true
		}
	}
	return false
}

// helm is what only templates of Helm have.
var helm = regexp.MustCompile(`\{\{-?\s*(\.(Values|Release|Chart|Capabilities|Files)\b|include |template |tpl |toYaml |if |range |with |end\b|define |\$)`)

// page is how web pages begin.
var page = regexp.MustCompile(`(?i)^\s*<(!doctype html|html)\b`)

// blob is where GitHub shows a file.
var blob = regexp.MustCompile(`^https://github\.com/([^/]+/[^/]+)/blob/(.+)$`)

// rawHint says where the text of a file is that a web page shows.
func rawHint(url string) string {
	if m := blob.FindStringSubmatch(url); m != nil {
		return fmt.Sprintf("; the file itself is at https://raw.githubusercontent.com/%s/%s", m[1], m[2])
	}
	return ""
}

// braces are what most templates have.
var braces = regexp.MustCompile(`\{\{-?\s*[.$A-Za-z]`)

const fromHelm = "this looks like a template of Helm: helm template CHART | sampan run -"

// templateHint says how a template becomes a manifest, "" if the text is none.
func templateHint(text []byte) string {
	if helm.Match(text) {
		return fromHelm
	}
	if braces.Match(text) && utf8.Valid(text) {
		return "the text has {{, as templates have: sampan expand FILE | sampan run -, if it is one of Jinja2"
	}
	return ""
}

// Unfilled returns why a value is not meant to be used as it is: it belongs to a
// template that nobody has filled in. It is "" for any other value.
func Unfilled(value string) string {
	switch {
	case helm.MatchString(value):
		return fromHelm
	case strings.Contains(value, "{{"):
		return "a template that was not filled in"
	case variable.MatchString(value):
		return "a variable that was not filled in: sampan expand FILE --set NAME=VALUE | sampan run -"
	case placeholder.MatchString(value):
		return "a place that was not filled in"
	}
	return ""
}

// placeholder is how people write what a reader is to put there: "<node-hostname>".
var placeholder = regexp.MustCompile(`<[A-Za-z][A-Za-z0-9 _.-]*>`)

var variable = regexp.MustCompile(`\$\{?[A-Za-z_][A-Za-z0-9_]*\}?`)
