package expand

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Value is one by its name.
type Value struct {
	Name  string
	Value any
}

// Row is what one text is made with. Its values have the order in which they were given.
type Row struct {
	// Name tells it from the others: "item=apple", "values.csv:3".
	Name   string
	Values []Value
}

// Map returns the values by their names.
func (r Row) Map() map[string]any {
	values := make(map[string]any, len(r.Values))
	for _, v := range r.Values {
		values[v.Name] = v.Value
	}
	return values
}

// with returns the row with further values, which take the place of those of their names.
func (r Row) with(values []Value) Row {
	row := Row{r.Name, slices.Clone(r.Values)}
	for _, v := range values {
		i := slices.IndexFunc(row.Values, func(old Value) bool { return old.Name == v.Name })
		if i < 0 {
			row.Values = append(row.Values, v)
		} else {
			row.Values[i] = v
		}
	}
	return row
}

// Given is what the user has given: see Rows.
type Given struct {
	// Each has lists, "item=apple,banana", and Set single values, "k=v".
	Each, Set []string
	// File is the name of a file of values, "" if there is none, and Text what it has.
	File string
	Text []byte
}

// mostRows is how many rows lists may make when each is combined with each.
const mostRows = 1_000_000

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Rows returns the rows: those of the file (the lines of CSV, the elements of a list; a map
// is one), each with each of the values of each list, and with all of Set. Later ones
// of these take the place of earlier. It also returns the names that were given by hand,
// which the template has to have places for.
func Rows(g Given) (rows []Row, names []string, err error) {
	if rows, err = fileRows(g.File, g.Text); err != nil {
		return nil, nil, err
	}
	if len(rows) == 0 && g.File != "" {
		return nil, nil, fmt.Errorf("%s has no values", g.File)
	}
	if len(rows) == 0 {
		rows = []Row{{}}
	}
	for _, list := range g.Each {
		name, values, err := eachOf(list)
		if err != nil {
			return nil, nil, err
		}
		if len(rows)*len(values) > mostRows {
			return nil, nil, fmt.Errorf("--each %s: that makes more than %d manifests", name, mostRows)
		}
		names = append(names, name)
		rows = combine(rows, name, values)
	}
	var constant []Value
	for _, pair := range g.Set {
		name, value, found := strings.Cut(pair, "=")
		if !found || !identifier.MatchString(name) {
			return nil, nil, fmt.Errorf("--set %q: has to be NAME=VALUE, with a name of letters, digits and _", pair)
		}
		names, constant = append(names, name), append(constant, Value{name, value})
	}
	for i := range rows {
		rows[i] = rows[i].with(constant)
	}
	return rows, names, nil
}

// eachOf reads "item=apple,banana".
func eachOf(list string) (name string, values []string, err error) {
	name, text, found := strings.Cut(list, "=")
	if !found || !identifier.MatchString(name) {
		return "", nil, fmt.Errorf("--each %q: has to be NAME=VALUE,VALUE…, with a name of letters, digits and _", list)
	}
	if text == "" {
		return "", nil, fmt.Errorf("--each %s: there are no values behind the =", name)
	}
	values, err = csv.NewReader(strings.NewReader(text)).Read()
	if err != nil {
		return "", nil, fmt.Errorf("--each %s: its values, with commas between them, cannot be read: %w", name, errors.Unwrap(err))
	}
	return name, values, nil
}

// combine returns each row with each of the values.
func combine(rows []Row, name string, values []string) []Row {
	all := make([]Row, 0, len(rows)*len(values))
	for _, row := range rows {
		for _, value := range values {
			next := row.with([]Value{{name, value}})
			next.Name = strings.TrimPrefix(fmt.Sprintf("%s, %s=%s", row.Name, name, value), ", ")
			all = append(all, next)
		}
	}
	return all
}

// fileRows returns the rows of a file of values.
func fileRows(name string, text []byte) ([]Row, error) {
	switch filepath.Ext(name) {
	case "":
		if name == "" {
			return nil, nil
		}
	case ".csv":
		return csvRows(name, text)
	case ".json", ".yaml", ".yml":
		return yamlRows(name, text)
	}
	return nil, fmt.Errorf("%s: values are read from .csv, .json, .yaml and .yml files", name)
}

func csvRows(name string, text []byte) ([]Row, error) {
	in := csv.NewReader(strings.NewReader(strings.TrimPrefix(string(text), "\ufeff")))
	header, err := in.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: its first line has to have the names of the values: %w", name, err)
	}
	for _, column := range header {
		if !identifier.MatchString(column) {
			return nil, fmt.Errorf("%s:1: %q is no name: letters, digits and _", name, column)
		}
	}
	var rows []Row
	lines, err := in.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	for i, line := range lines {
		row := Row{Name: fmt.Sprintf("%s:%d", filepath.Base(name), i+2)}
		for j, value := range line {
			row.Values = append(row.Values, Value{header[j], value})
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func yamlRows(name string, text []byte) ([]Row, error) {
	converted, err := yaml.YAMLToJSON(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var content any
	in := json.NewDecoder(bytes.NewReader(converted))
	in.UseNumber() // 1000000 is no 1e+06
	if err := in.Decode(&content); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	list, many := content.([]any)
	if !many {
		list = []any{content}
	}
	var rows []Row
	for i, element := range list {
		row := Row{}
		if many {
			row.Name = fmt.Sprintf("%s[%d]", filepath.Base(name), i)
		}
		values, ok := element.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("%s: has to be a map of values, or a list of such maps", name)
		}
		for key, value := range values {
			switch {
			case key == "true" || key == "false":
				return nil, fmt.Errorf("%s: a name is %s: YAML takes y, n, on and off for truth values: put it in quotes", name, key)
			case !identifier.MatchString(key):
				return nil, fmt.Errorf("%s: %q is no name: letters, digits and _", name, key)
			}
			row.Values = append(row.Values, Value{key, value})
		}
		slices.SortFunc(row.Values, func(a, b Value) int { return strings.Compare(a.Name, b.Name) })
		rows = append(rows, row)
	}
	return rows, nil
}
