// Package expand makes manifests of a template: one text for each row of values. A value
// "item" takes the place of $ITEM, ${ITEM}, $item and ${item}, as sed would put it there;
// templates for Jinja2 are rendered by Jinja2 itself, which is the caller's business.
//
// It is pure. In the order of events: rows.go makes rows of what the user gave, and this
// file fills them in.
package expand

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// placeholder is a $NAME or ${NAME}.
var placeholder = regexp.MustCompile(`\$(?:\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*))`)

// Fill returns the template with the values of a row in their places. What has the form of
// a place and no value stays: it is the shell's of a command.
func Fill(template []byte, row Row) ([]byte, error) {
	var errs []error
	values := map[string]string{}
	for _, v := range row.Values {
		text, err := v.text()
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", row.Name, err))
		}
		values[v.Name], values[strings.ToUpper(v.Name)] = text, text
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return placeholder.ReplaceAllFunc(template, func(match []byte) []byte {
		if value, ok := values[nameIn(match)]; ok {
			return []byte(value)
		}
		return match
	}), nil
}

// nameIn is the name in a $NAME or ${NAME}.
func nameIn(match []byte) string { return string(bytes.Trim(match, "${}")) }

// Unused returns an error for each name that the template has no place for.
func Unused(template []byte, names []string) error {
	var places []string
	for _, match := range placeholder.FindAll(template, -1) {
		places = append(places, nameIn(match))
	}
	var errs []error
	for _, name := range names {
		if slices.Contains(places, name) || slices.Contains(places, strings.ToUpper(name)) {
			continue
		}
		has := "it has no $NAME at all"
		if len(places) > 0 {
			slices.Sort(places)
			has = "it has $" + strings.Join(slices.Compact(slices.Clone(places)), ", $")
		}
		errs = append(errs, fmt.Errorf("the template has no place for %q ($%s): %s", name, strings.ToUpper(name), has))
	}
	return errors.Join(errs...)
}

// text is a value as it stands in a manifest.
func (v Value) text() (string, error) {
	var text string
	switch value := v.Value.(type) {
	case nil:
		return "", nil
	case []any, map[string]any:
		return "", fmt.Errorf("%q is a list or a map, which only a Jinja2 template can use", v.Name)
	default:
		text = fmt.Sprint(value)
	}
	if i := strings.IndexFunc(text, unicode.IsControl); i >= 0 {
		return "", fmt.Errorf("the value of %q has a line break or another control character (%q), which would change the manifest", v.Name, text[i])
	}
	return text, nil
}

// IsJinja reports whether a template is one for Jinja2.
func IsJinja(name string, text []byte) bool {
	for _, extension := range []string{".jinja2", ".jinja", ".j2"} {
		if strings.HasSuffix(name, extension) {
			return true
		}
	}
	return bytes.Contains(text, []byte("{%")) || bytes.Contains(text, []byte("{{"))
}

// marker is what begins a document of YAML.
var marker = regexp.MustCompile(`(?m)^---([ \t].*)?$\n?`)

// Documents cuts a text at the marks between YAML documents. Those in which nothing but
// comments stands are left out.
func Documents(text []byte) [][]byte {
	var all [][]byte
	for _, part := range marker.Split(string(text), -1) {
		said := slices.ContainsFunc(strings.Split(part, "\n"), func(line string) bool {
			line = strings.TrimSpace(line)
			return line != "" && !strings.HasPrefix(line, "#")
		})
		if said {
			all = append(all, []byte(strings.Trim(part, "\n")+"\n"))
		}
	}
	return all
}
