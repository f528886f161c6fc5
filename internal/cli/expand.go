package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sampan-batch/sampan/internal/disk"
	"github.com/sampan-batch/sampan/internal/expand"
	"github.com/sampan-batch/sampan/internal/manifest"
	"github.com/sampan-batch/sampan/internal/plan"
)

const expandHelp = `Make manifests of a template, one for each item of a list or row of a file, and print
them, or write a file for each with -o DIR.

A value "item" takes the place of $ITEM (or ${ITEM}, $item, ${item}), as sed would put it
there: it is not quoted. Lists are combined, each value with each. Files have values as
  .csv           a row in each line; the first has the names
  .json, .yaml   a list of maps, of which each is a row, or a map of values for all
What has the form of a place and no value stays as it is: it may be the shell's.

Templates that end with .jinja2 or .j2, or have {{ or {%, are rendered by Jinja2
(python3-jinja2), once for each row. It runs in its sandbox; a value that is missing is an
error.

Everything is checked before anything is printed or written: names that would be invalid,
or that two manifests would have, wrong fields, values that the template has no place for.

It exits with 0, or with 2 when something is wrong.`

// expandOptions say what becomes of a template.
type expandOptions struct {
	given  expand.Given
	output string
}

func newExpand() *cobra.Command {
	var o expandOptions
	cmd := &cobra.Command{
		Use:   "expand TEMPLATE...",
		Short: "Make manifests of a template and lists of values",
		Long:  expandHelp,
		Example: `  sampan expand job-tmpl.yaml --each item=apple,banana,cherry | kubectl create -f -
  sampan expand job-tmpl.yaml --each item=apple,banana,cherry -o jobs
  sampan expand render.yaml --each scene=1,2 --each eye=left,right --set quality=high | sampan run -
  sampan expand import.yaml --values days.csv | sampan run -j 8 -
  sampan expand job.yaml.jinja2 --values sites.yaml`,
		Args: wantArgs(cobra.MinimumNArgs(1), "which template? Give files"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.given.Each, "each", nil, "a list of values, NAME=VALUE,VALUE…; quote one that has a comma")
	f.StringArrayVar(&o.given.Set, "set", nil, "a value for all, NAME=VALUE")
	f.StringVar(&o.given.File, "values", "", "a file of values: .csv, .json or .yaml")
	f.StringVarP(&o.output, "output-dir", "o", "", "write a file for each manifest into this directory")
	_ = cmd.RegisterFlagCompletionFunc("values", cobra.FixedCompletions([]string{"csv", "json", "yaml", "yml"}, cobra.ShellCompDirectiveFilterFileExt))
	_ = cmd.RegisterFlagCompletionFunc("output-dir", dirs)
	return cmd
}

func (o *expandOptions) run(ctx context.Context, paths []string, out, errOut io.Writer) error {
	if o.given.File != "" {
		text, err := os.ReadFile(o.given.File)
		if err != nil {
			return usage(err)
		}
		o.given.Text = text
	}
	rows, names, err := expand.Rows(o.given)
	if err != nil {
		return usage(err)
	}
	sources, err := inputs{paths: paths, stdin: os.Stdin}.sources()
	if err != nil {
		return usage(err)
	}
	var all []expanded
	for _, s := range sources {
		made, err := expandOne(ctx, s, rows, names)
		if err != nil {
			return usage(few(err))
		}
		all = append(all, made...)
	}
	if err := valid(all); err != nil {
		return usage(few(err))
	}
	if o.output == "" {
		return printExpanded(out, all)
	}
	if err := writeExpanded(o.output, all); err != nil {
		return err
	}
	_, err = fmt.Fprintf(errOut, "%d files are in %s\n", len(all), o.output)
	return err
}

// expanded is one document that was made.
type expanded struct {
	text    []byte
	objects []manifest.Object
}

// expandOne makes the documents of one template.
func expandOne(ctx context.Context, s source, rows []expand.Row, names []string) ([]expanded, error) {
	template, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	if why := manifest.Unfilled(string(template)); strings.Contains(why, "Helm") {
		return nil, fmt.Errorf("%s: %s", s.name, why)
	}
	var texts [][]byte
	if expand.IsJinja(s.name, template) {
		texts, err = jinja(ctx, s, template, rows)
	} else {
		texts, err = fill(s, template, rows, names)
	}
	if err != nil {
		return nil, err
	}
	var all []expanded
	var errs []error
	for i, text := range texts {
		name := s.name
		if row := rows[i].Name; row != "" {
			name += " (" + row + ")"
		}
		documents := expand.Documents(text) // before Decode writes over the marks between them
		objects, err := manifest.Decode(name, text)
		switch {
		case err != nil:
			errs = append(errs, err)
		case len(objects) == len(documents):
			for j := range documents {
				all = append(all, expanded{documents[j], objects[j : j+1]})
			}
		default: // a list, or several JSON values in one
			all = append(all, expanded{bytes.Join(documents, []byte("---\n")), objects})
		}
	}
	return all, errors.Join(errs...)
}

// fill makes the texts of a template that has $NAMEs.
func fill(s source, template []byte, rows []expand.Row, names []string) ([][]byte, error) {
	if err := expand.Unused(template, names); err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	if len(rows) == 1 && len(rows[0].Values) == 0 {
		return nil, fmt.Errorf("%s: what is to be filled in? Give --each NAME=VALUE,VALUE…, --values FILE or --set NAME=VALUE", s.name)
	}
	texts := make([][]byte, len(rows))
	var errs []error
	for i, row := range rows {
		var err error
		texts[i], err = expand.Fill(template, row)
		errs = append(errs, err)
	}
	return texts, errors.Join(errs...)
}

// valid checks all that was made, together.
func valid(all []expanded) error {
	var objects []manifest.Object
	for _, e := range all {
		objects = append(objects, e.objects...)
	}
	if len(objects) == 0 {
		return errors.New("no manifests came of it")
	}
	return plan.Valid(objects)
}

func printExpanded(out io.Writer, all []expanded) error {
	var text bytes.Buffer
	for _, e := range all {
		text.WriteString("---\n")
		text.Write(e.text)
	}
	_, err := out.Write(text.Bytes())
	return err
}

// writeExpanded writes a file for each document: job-process-item-apple.yaml.
func writeExpanded(dir string, all []expanded) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	taken := map[string]bool{}
	for _, e := range all {
		first := e.objects[0]
		parts := []string{strings.ToLower(first.GetKind()), first.GetNamespace(), strings.TrimSuffix(first.GetName()+first.GetGenerateName(), "-")}
		base := strings.Join(slices.DeleteFunc(parts, func(part string) bool { return part == "" }), "-")
		name := base
		for n := 2; taken[name]; n++ {
			name = fmt.Sprint(base, "-", n)
		}
		taken[name] = true
		if err := disk.Replace(filepath.Join(dir, name+".yaml"), e.text); err != nil {
			return err
		}
	}
	return nil
}
