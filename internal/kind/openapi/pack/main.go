// Command pack makes data of the definitions that the generator has made as code. They are
// the same for the same code.
package main

import (
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"k8s.io/kube-openapi/pkg/validation/spec"

	"github.com/sampan-batch/sampan/internal/kind/openapi"
	"github.com/sampan-batch/sampan/internal/kind/openapi/models"
)

func main() {
	if err := pack(os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func pack(w io.Writer) error {
	all := make(map[string]openapi.Definition)
	for name, def := range models.GetOpenAPIDefinitions(spec.MustCreateRef) {
		all[name] = openapi.Definition{Schema: &def.Schema, Dependencies: def.Dependencies}
	}
	text, err := json.Marshal(all) // by name
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(text); err != nil {
		return err
	}
	return z.Close()
}
