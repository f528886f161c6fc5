package cli

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// manifest is one object of the input, with where it stands.
type manifest struct {
	*unstructured.Unstructured
	// Where is the file and, when it holds several documents, which one.
	Where string
}

// extensions are those that kubectl reads in a directory.
var extensions = []string{".json", ".yaml", ".yml"}

// readManifests reads files, directories (not their subdirectories, as kubectl)
// and, for "-", stdin, in the order given.
func readManifests(paths []string, stdin io.Reader) ([]manifest, error) {
	var all []manifest
	for _, path := range paths {
		files, err := expand(path)
		if err != nil {
			return nil, err
		}
		for _, file := range files {
			found, err := readFile(file, stdin)
			if err != nil {
				return nil, err
			}
			all = append(all, found...)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s: no objects found", strings.Join(paths, ", "))
	}
	return all, nil
}

func expand(path string) ([]string, error) {
	if path == "-" {
		return []string{path}, nil
	}
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("the path %q does not exist", path)
	}
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, e := range entries {
		if !e.IsDir() && slices.Contains(extensions, filepath.Ext(e.Name())) {
			files = append(files, filepath.Join(path, e.Name()))
		}
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("the directory %q has no .yaml, .yml or .json file", path)
	}
	return files, nil
}

func readFile(path string, stdin io.Reader) ([]manifest, error) {
	in, name := stdin, "stdin"
	if path != "-" {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		in, name = f, path
	}
	return decodeManifests(name, in)
}

// decodeManifests reads YAML with several documents, or JSON, one value after
// the other.
func decodeManifests(name string, in io.Reader) ([]manifest, error) {
	var all []manifest
	docs := utilyaml.NewYAMLReader(bufio.NewReader(in))
	for n := 1; ; n++ {
		doc, err := docs.Read()
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		where := fmt.Sprintf("%s (document %d)", name, n)
		if n == 1 {
			where = name
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		found, err := decodeDocument(where, doc)
		if err != nil {
			return nil, err
		}
		all = append(all, found...)
	}
}

func decodeDocument(where string, doc []byte) ([]manifest, error) {
	trimmed := bytes.TrimSpace(doc)
	if len(trimmed) == 0 {
		return nil, nil
	}
	data, err := yaml.YAMLToJSONStrict(trimmed)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", where, err)
	}
	if string(data) == "null" {
		return nil, nil // only comments
	}
	if data[0] != '{' {
		return nil, fmt.Errorf("%s: not a Kubernetes object: want apiVersion, kind and so on, not a list or a single value", where)
	}
	var obj unstructured.Unstructured
	if err := obj.UnmarshalJSON(data); err != nil {
		return nil, fmt.Errorf("%s: not a Kubernetes object: %s", where, plainDecodeError(err))
	}
	if !obj.IsList() {
		if obj.GetAPIVersion() == "" {
			return nil, fmt.Errorf("%s: apiVersion is not set", where)
		}
		return []manifest{{&obj, where}}, nil
	}
	var all []manifest
	err = obj.EachListItem(func(item runtime.Object) error {
		u, ok := item.(*unstructured.Unstructured)
		if !ok {
			return fmt.Errorf("%s: a list in a list", where)
		}
		all = append(all, manifest{u, where})
		return nil
	})
	return all, err
}

// plainDecodeError drops the decoder's repetition of the whole document.
func plainDecodeError(err error) string {
	msg := err.Error()
	if i := strings.Index(msg, " in '"); i > 0 {
		msg = msg[:i]
	}
	return msg
}
