package manifest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// Decode returns the objects of one text, and what is wrong in it. It may write over
// data, and the objects keep it.
func Decode(name string, data []byte) ([]Object, error) {
	var all []Object
	var errs []error
	for _, doc := range split(name, data) {
		objects, err := doc.decode()
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, objects...)
	}
	return all, errors.Join(errs...)
}

// decode reads a document: JSON values, one after the other, or YAML.
func (d document) decode() ([]Object, error) {
	if page.Match(d.text) {
		return nil, fmt.Errorf("%s:%d: this is a web page, not a manifest%s", d.file, d.begin(), rawHint(d.file))
	}
	if c := bytes.TrimSpace(d.text)[0]; c == '{' || c == '[' {
		if objects, err, isJSON := d.decodeJSON(); isJSON {
			return objects, err
		}
	}
	return d.decodeYAML()
}

// decodeJSON reads JSON values. What does not even begin with one may be YAML.
func (d document) decodeJSON() (all []Object, err error, isJSON bool) {
	in := json.NewDecoder(bytes.NewReader(d.text))
	for n := 0; ; n++ {
		begin := int(in.InputOffset())
		var value json.RawMessage
		err := in.Decode(&value)
		if errors.Is(err, io.EOF) {
			return all, nil, true
		}
		begin += len(d.text[begin:]) - len(bytes.TrimLeft(d.text[begin:], " \t\r\n"))
		at := place{file: d.file, line: d.lineAt(begin), text: value}
		if err != nil {
			var syntax *json.SyntaxError
			if errors.As(err, &syntax) && n > 0 {
				at.line = d.lineAt(int(syntax.Offset))
			}
			return all, fmt.Errorf("%s: after %d JSON values: %w", at.Where(), n, err), n > 0
		}
		if key, offset := repeated(value); key != "" {
			at.line = d.lineAt(begin + offset)
			return all, fmt.Errorf("%s: the key %q is there twice", at.Where(), key), true
		}
		found, err := objectsOf(at, value)
		if err != nil {
			return all, err, true
		}
		all = append(all, found...)
	}
}

// repeated returns a key that an object of a JSON value has twice, and where.
func repeated(value []byte) (key string, offset int) {
	in := json.NewDecoder(bytes.NewReader(value))
	in.UseNumber()
	type level struct {
		keys   map[string]bool // nil in an array
		atName bool
	}
	levels := []level{{}}
	for {
		token, err := in.Token()
		if err != nil {
			return "", 0
		}
		top := &levels[len(levels)-1]
		if name, ok := token.(string); ok && top.atName {
			if top.keys[name] {
				return name, int(in.InputOffset()) - 1
			}
			top.keys[name], top.atName = true, false
			continue
		}
		top.atName = top.keys != nil
		switch token {
		case json.Delim('{'):
			levels = append(levels, level{map[string]bool{}, true})
		case json.Delim('['):
			levels = append(levels, level{})
		case json.Delim('}'), json.Delim(']'):
			levels = levels[:len(levels)-1]
		}
	}
}

// decodeYAML reads what has exactly one value.
func (d document) decodeYAML() ([]Object, error) {
	at := place{file: d.file, line: d.line, text: d.text}
	data, err := yaml.YAMLToJSONStrict(d.text)
	if err != nil {
		// A merge key whose values are overridden is a repetition to the strict reader,
		// and is none.
		if twice := at.repetition(); twice != nil {
			return nil, twice
		}
		data, err = yaml.YAMLToJSON(d.text)
	}
	if err != nil {
		return nil, d.syntax(err)
	}
	if err := d.leftOver(); err != nil {
		return nil, err
	}
	if string(data) == "null" {
		return nil, nil
	}
	at.first = d.begin()
	return objectsOf(at, data)
}

// leftOver is an error when something follows the value, which the reader does not look
// at. Nothing can follow fields that begin at the margin.
func (d document) leftOver() error {
	text := d.text
	for blankLine(text[:lineEnd(text)]) && len(text) > 0 {
		text = text[lineEnd(text):]
	}
	if len(text) == 0 || strings.IndexByte(" {[\"'", text[0]) < 0 {
		return nil
	}
	in := yamlv3.NewDecoder(bytes.NewReader(d.text))
	var value yamlv3.Node
	for range 2 {
		if err := in.Decode(&value); errors.Is(err, io.EOF) {
			return nil
		}
	}
	return fmt.Errorf("%s:%d: after a value comes something else, without --- in front of it", d.file, d.begin())
}

// lineEnd is where the first line of a text ends.
func lineEnd(text []byte) int {
	if i := bytes.IndexByte(text, '\n'); i >= 0 {
		return i + 1
	}
	return len(text)
}

var yamlLine = regexp.MustCompile(`line (\d+): `)

// syntax says where a document cannot be read, and what it may be instead.
func (d document) syntax(err error) error {
	text, line := err.Error(), d.begin()
	text = strings.TrimPrefix(text, "error converting YAML to JSON: ")
	text = strings.TrimPrefix(text, "yaml: ")
	if m := yamlLine.FindStringSubmatchIndex(text); m != nil {
		n, _ := strconv.Atoi(text[m[2]:m[3]])
		line = d.line + n - 1
		text = text[:m[0]] + text[m[1]:]
	}
	switch hint := templateHint(d.text); {
	case hint == "":
	case strings.HasPrefix(text, "invalid map key"): // of Go's types: it is {{ }} itself
		text = hint
	default:
		text += "; " + hint
	}
	return fmt.Errorf("%s:%d: %s", d.file, line, firstLines(text))
}

// firstLines keeps what a parser quotes of its input short.
func firstLines(s string) string {
	const most = 400
	if r := []rune(s); len(r) > most {
		s = string(r[:most]) + "…"
	}
	return s
}

// objectsOf makes objects of a JSON value, which stands at a place: one, or those of a
// list.
func objectsOf(at place, data []byte) ([]Object, error) {
	if data[0] != '{' {
		return nil, fmt.Errorf("%s: not a Kubernetes object: want apiVersion, kind and so on, not a list or a single value", at.Where())
	}
	var top map[string]any
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, fmt.Errorf("%s: %w", at.Where(), err)
	}
	if hint := foreign(at, top); hint != "" {
		return nil, fmt.Errorf("%s: %s", at.Where(), hint)
	}
	obj := &unstructured.Unstructured{Object: map[string]any{}}
	if hasIdentity(top) {
		// Numbers keep what they are: integers are not made floating.
		if err := obj.UnmarshalJSON(data); err != nil {
			return nil, fmt.Errorf("%s: not a Kubernetes object: %s", at.Where(), plainError(err))
		}
	}
	return flatten(at, obj.Object, top)
}

func hasIdentity(top map[string]any) bool {
	version, _ := top["apiVersion"].(string)
	kind, _ := top["kind"].(string)
	return version != "" && kind != ""
}

// flatten returns an object, or those that it lists, with lists in lists.
func flatten(at place, value map[string]any, top map[string]any) ([]Object, error) {
	if !hasIdentity(value) {
		return nil, fmt.Errorf("%s: not a Kubernetes object: %s", at.Where(), missing(top))
	}
	obj := &unstructured.Unstructured{Object: value}
	items, listed := value["items"]
	if !listed || !strings.HasSuffix(obj.GetKind(), "List") {
		return []Object{{obj, at}}, nil
	}
	list, ok := items.([]any)
	if items != nil && !ok {
		return nil, fmt.Errorf("%s: items is not a list", at.Where())
	}
	var all []Object
	var errs []error
	for i, item := range list {
		here := at.within(fmt.Sprintf("items[%d]", i))
		fields, ok := item.(map[string]any)
		if !ok {
			errs = append(errs, fmt.Errorf("%s: items[%d] is not an object", here.Where(), i))
			continue
		}
		// The API leaves out in a JobList what its kind says already.
		if kind := strings.TrimSuffix(obj.GetKind(), "List"); kind != "" {
			setDefault(fields, "apiVersion", obj.GetAPIVersion())
			setDefault(fields, "kind", kind)
		}
		found, err := flatten(here, fields, fields)
		if err != nil {
			errs = append(errs, err)
		}
		all = append(all, found...)
	}
	return all, errors.Join(errs...)
}

func setDefault(fields map[string]any, name, value string) {
	if _, set := fields[name]; !set {
		fields[name] = value
	}
}

// missing says what an object lacks to be one.
func missing(top map[string]any) string {
	if kind, _ := top["kind"].(string); kind == "" {
		return "kind is not set"
	}
	return "apiVersion is not set"
}

// plainError drops the decoder's repetition of the whole document.
func plainError(err error) string {
	msg, _, _ := strings.Cut(err.Error(), " in '")
	return firstLines(msg)
}
