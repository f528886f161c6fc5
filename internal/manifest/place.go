package manifest

import (
	"fmt"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// place is where an object stands: a path in a document of a file.
type place struct {
	file   string
	line   int    // where text begins
	first  int    // where something stands in it first; 0: at its beginning
	text   []byte // YAML or JSON, which is read again when somebody asks for a line
	prefix string // of the object in it: "items[3]"
}

// Where is the place of the object, as FILE:LINE.
func (p place) Where() string { return p.At("") }

// At is the place of a field of the object, "spec.template.spec.containers[0].image",
// or of the innermost one around it that there is.
func (p place) At(path string) string {
	line := p.line
	if p.first != 0 {
		line = p.first
	}
	if path = strings.TrimPrefix(p.prefix+"."+path, "."); path != "" {
		if n := p.find(path); n != 0 {
			line = p.line + n - 1
		}
	}
	return fmt.Sprintf("%s:%d", p.file, line)
}

// within is the place of a part.
func (p place) within(path string) place {
	p.prefix = strings.TrimPrefix(p.prefix+"."+path, ".")
	return p
}

func (p place) root() *yaml.Node {
	var doc yaml.Node
	if err := yaml.Unmarshal(p.text, &doc); err != nil || len(doc.Content) == 0 {
		return nil
	}
	return doc.Content[0]
}

// find returns the line in text of the field at path, as far as there is one.
func (p place) find(path string) (line int) {
	at := p.root()
	if at == nil {
		return 0
	}
	for _, step := range steps(path) {
		key, next := child(at, step)
		if next == nil {
			break
		}
		line, at = key.Line, next
	}
	return line
}

// steps cuts a path: "a.b[0].c[x/y]" is a, b, 0, c, x/y.
func steps(path string) []string {
	var all []string
	for path != "" {
		end := strings.IndexAny(path, ".[")
		if strings.HasPrefix(path, "[") {
			end = strings.IndexByte(path, ']')
			if end < 0 {
				return all
			}
			all = append(all, path[1:end])
			path = strings.TrimPrefix(path[end+1:], ".")
			continue
		}
		if end < 0 {
			return append(all, path)
		}
		if end > 0 {
			all = append(all, path[:end])
		}
		path = strings.TrimPrefix(path[end:], ".")
	}
	return all
}

// child returns an entry of a node, and the node that names it.
func child(at *yaml.Node, step string) (key, value *yaml.Node) {
	for at.Kind == yaml.AliasNode {
		at = at.Alias
	}
	if at.Kind == yaml.SequenceNode {
		if i, err := strconv.Atoi(step); err == nil && 0 <= i && i < len(at.Content) {
			return at.Content[i], at.Content[i]
		}
		return nil, nil
	}
	if at.Kind != yaml.MappingNode {
		return nil, nil
	}
	for i := 0; i+1 < len(at.Content); i += 2 {
		if at.Content[i].Value == step {
			return at.Content[i], at.Content[i+1]
		}
	}
	return nil, nil
}

// repetition returns the error of a key that a mapping has twice.
func (p place) repetition() error {
	root := p.root()
	if root == nil {
		return nil
	}
	var found error
	var walk func(at *yaml.Node)
	walk = func(at *yaml.Node) {
		if at.Kind == yaml.MappingNode {
			lines := make(map[string]int, len(at.Content)/2)
			for i := 0; i+1 < len(at.Content) && found == nil; i += 2 {
				key := at.Content[i]
				if first := lines[key.Value]; first != 0 && key.Kind == yaml.ScalarNode && key.Value != "<<" {
					found = fmt.Errorf("%s:%d: the key %q is there twice, on line %d first", p.file, p.line+key.Line-1, key.Value, p.line+first-1)
				}
				lines[key.Value] = key.Line
			}
		}
		for _, next := range at.Content {
			if found == nil {
				walk(next)
			}
		}
	}
	walk(root)
	return found
}
