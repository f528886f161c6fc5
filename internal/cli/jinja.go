package cli

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/sampan-batch/sampan/internal/expand"
)

// jinjaScript has Jinja2 render a template. No library of Go renders all that Jinja2 does.
//
//go:embed jinja.py
var jinjaScript string

// pythons are where Jinja2 may be: that of a virtual environment, or the machine's own.
var pythons = []string{"python3", "/usr/bin/python3"}

// withoutJinja is what the script exits with when Python has no Jinja2.
const withoutJinja = 42

const noJinja = "Jinja2 renders this template, and is not installed here: apt-get install python3-jinja2, or pip install jinja2"

// jinjaAsked is what the script reads, jinjaAnswer what it prints.
type jinjaAsked struct {
	Name      string           `json:"name"`
	Text      string           `json:"text"`
	Directory string           `json:"directory"` // of templates that it includes; "" if there is none
	Rows      []map[string]any `json:"rows"`
}

type jinjaAnswer struct {
	Texts []string `json:"texts"`
	// Error is what is wrong at a line of a file, with a row if it came to that.
	Error string `json:"error"`
	File  string `json:"file"`
	Line  int    `json:"line"`
	Row   *int   `json:"row"`
}

// jinja renders a template once for each row.
func jinja(ctx context.Context, s source, text []byte, rows []expand.Row) ([][]byte, error) {
	asked := jinjaAsked{Name: s.name, Text: string(text)}
	if exists(s.name) {
		asked.Directory = filepath.Dir(s.name)
	}
	for _, row := range rows {
		asked.Rows = append(asked.Rows, row.Map())
	}
	input, err := json.Marshal(asked)
	if err != nil {
		return nil, err
	}
	output, err := python(ctx, input)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", s.name, err)
	}
	var answer jinjaAnswer
	if err := json.Unmarshal(output, &answer); err != nil {
		return nil, fmt.Errorf("%s: Jinja2: %w", s.name, err)
	}
	if answer.Error != "" {
		in := ""
		if answer.Row != nil && rows[*answer.Row].Name != "" {
			in = " (" + rows[*answer.Row].Name + ")"
		}
		return nil, fmt.Errorf("%s:%d: %s%s", answer.File, answer.Line, answer.Error, in)
	}
	texts := make([][]byte, len(answer.Texts))
	for i, text := range answer.Texts {
		texts[i] = []byte(text)
	}
	return texts, nil
}

// python has the first Python that has Jinja2 run the script.
func python(ctx context.Context, input []byte) ([]byte, error) {
	for _, program := range pythons {
		path, err := exec.LookPath(program)
		if err != nil {
			continue
		}
		cmd := exec.CommandContext(ctx, path, "-c", jinjaScript)
		var said complaint
		cmd.Stdin, cmd.Stderr = bytes.NewReader(input), &said
		output, err := cmd.Output()
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && exit.ExitCode() == withoutJinja {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("Jinja2: %w: %s", err, strings.TrimSpace(said.String()))
		}
		return output, nil
	}
	return nil, errors.New(noJinja)
}
