package conformance

import (
	"fmt"
	"io"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	sigsyaml "sigs.k8s.io/yaml"
)

// objects reads a file, and makes the changes KEY=VALUE to every object of it.
func (s *session) objects(args []string) ([]*unstructured.Unstructured, error) {
	body, known := s.files[args[0]]
	if !known {
		return nil, fmt.Errorf("no file %s", args[0])
	}
	text, err := s.spell(string(body))
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096)
	for {
		u := new(unstructured.Unstructured)
		if err := documents.Decode(u); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if err := change(u, args[1:]); err != nil {
			return nil, err
		}
		all = append(all, u)
	}
}

// change makes changes to an object: spec.containers.0.name=x. What comes
// after the = is YAML; nothing is null.
func change(u *unstructured.Unstructured, changes []string) error {
	for _, c := range changes {
		key, text, ok := strings.Cut(c, "=")
		if !ok {
			return fmt.Errorf("%s: not KEY=VALUE", c)
		}
		body, err := sigsyaml.YAMLToJSON([]byte(since(text)))
		if err != nil {
			return fmt.Errorf("%s: %v", c, err)
		}
		var value any
		if value, err = decode(body); err != nil {
			return fmt.Errorf("%s: %v", c, err)
		}
		changed, err := changeAt(u.Object, strings.Split(key, "."), value)
		if err != nil {
			return fmt.Errorf("%s: %v", c, err)
		}
		u.Object = changed.(map[string]any)
	}
	return nil
}

// decode reads JSON with whole numbers as int64, as unstructured objects have
// them.
func decode(body []byte) (any, error) {
	wrapped := new(unstructured.Unstructured)
	err := wrapped.UnmarshalJSON([]byte(`{"kind":"value","value":` + string(body) + `}`))
	return wrapped.Object["value"], err
}

// changeAt returns in with the value at path. The index after the last appends
// to a list.
func changeAt(in any, path []string, value any) (any, error) {
	if len(path) == 0 {
		return value, nil
	}
	var err error
	switch in := in.(type) {
	case nil:
		made, err := changeAt(nil, path[1:], value)
		return map[string]any{path[0]: made}, err
	case map[string]any:
		in[path[0]], err = changeAt(in[path[0]], path[1:], value)
		return in, err
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i > len(in) {
			return nil, fmt.Errorf("no index %s", path[0])
		}
		if i == len(in) {
			in = append(in, nil)
		}
		in[i], err = changeAt(in[i], path[1:], value)
		return in, err
	}
	return nil, fmt.Errorf("%s is in no object", path[0])
}
