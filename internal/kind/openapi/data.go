package openapi

import (
	"bytes"
	"compress/gzip"
	_ "embed" // for the data
	"encoding/json"
	"fmt"
	"math"
	"sync"

	"k8s.io/kube-openapi/pkg/common"
	"k8s.io/kube-openapi/pkg/validation/spec"
)

//go:embed definitions.json.gz
var packed []byte

// Definition is one of the models, as it is packed: its references are the names of others.
type Definition struct {
	Schema       *spec.Schema `json:"schema"`
	Dependencies []string     `json:"dependencies,omitempty"`
}

// unpacked has the definitions, which are shared: 4 MB from the first question on.
var unpacked = sync.OnceValue(func() map[string]Definition {
	all, err := unpack()
	if err != nil {
		panic(fmt.Sprintf("openapi: %v", err)) // it is a part of this program
	}
	return all
})

func unpack() (all map[string]Definition, err error) {
	r, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	if err := json.NewDecoder(r).Decode(&all); err != nil {
		return nil, err
	}
	for _, def := range all {
		if err := restore(def.Schema); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// restore gives back the types that the generated code has, and data does not.
func restore(s *spec.Schema) error {
	if number, ok := s.Default.(float64); ok && number == math.Trunc(number) {
		s.Default = int(number)
	}
	for name, property := range s.Properties {
		if err := restore(&property); err != nil {
			return err
		}
		s.Properties[name] = property
	}
	v2, ok := s.Extensions[common.ExtensionV2Schema]
	if !ok {
		return nil
	}
	text, err := json.Marshal(v2)
	if err != nil {
		return err
	}
	var schema spec.Schema
	if err := json.Unmarshal(text, &schema); err != nil {
		return err
	}
	s.Extensions[common.ExtensionV2Schema] = schema
	return nil
}
