package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// outputFormat is what a command prints for scripts: "json" or "yaml"; "" is for
// people.
type outputFormat string

// addFlag adds --output; instead is what is printed without it.
func (o *outputFormat) addFlag(cmd *cobra.Command, instead string) {
	cmd.Flags().StringVarP((*string)(o), "output", "o", "", `print "json" or "yaml" instead of `+instead)
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml"}, cobra.ShellCompDirectiveNoFileComp))
}

func (o outputFormat) check() error {
	switch o {
	case "", "json", "yaml":
		return nil
	}
	return usage(fmt.Errorf("--output: %q is not known; use json or yaml", string(o)))
}

// print prints a value for scripts.
func (o outputFormat) print(out io.Writer, value any) error {
	data, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		return err
	}
	data = escapeJSON(append(data, '\n'))
	if o == "yaml" {
		asYAML, err := yaml.JSONToYAML(data)
		if err != nil {
			return err
		}
		// What YAML would not escape stays JSON, which is YAML, too.
		if !bytes.ContainsFunc(asYAML, controlsInJSON) {
			data = asYAML
		}
	}
	_, err = out.Write(data)
	return err
}
