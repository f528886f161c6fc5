package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
)

// kustomizers are the programs that build what -k names, the first that is installed.
// ADR 4 says why none of them is in this one.
var kustomizers = [][]string{{"kustomize", "build", "--"}, {"kubectl", "kustomize", "--"}}

// kustomize returns what a kustomization builds: a directory, or whatever else the program
// takes.
func kustomize(ctx context.Context, target string) (io.ReadCloser, error) {
	for _, program := range kustomizers {
		path, err := exec.LookPath(program[0])
		if err != nil {
			continue
		}
		b := &built{cmd: exec.CommandContext(ctx, path, append(program[1:len(program):len(program)], target)...), name: strings.Join(program[:2], " ") + " " + target}
		b.cmd.Stderr = &b.complaint
		if b.out, err = b.cmd.StdoutPipe(); err == nil {
			err = b.cmd.Start()
		}
		if err != nil {
			return nil, fmt.Errorf("-k: %s: %w", b.name, err)
		}
		return b, nil
	}
	return nil, errors.New("-k: neither kustomize nor kubectl, which has it, is installed here; install one of them, or build it elsewhere: kubectl kustomize DIR | sampan run -")
}

// built is what a program prints. Its end is one only if the program succeeded.
type built struct {
	name      string
	cmd       *exec.Cmd
	out       io.ReadCloser
	complaint complaint
	ended     bool
}

func (b *built) Read(p []byte) (int, error) {
	n, err := b.out.Read(p)
	if errors.Is(err, io.EOF) && !b.ended {
		b.ended = true
		if failed := b.cmd.Wait(); failed != nil {
			return n, fmt.Errorf("%s: %w: %s", b.name, failed, strings.TrimSpace(b.complaint.String()))
		}
	}
	return n, err
}

// Close ends the program if it has not ended.
func (b *built) Close() error {
	if !b.ended {
		b.ended = true
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
	return nil
}

// complaint keeps the beginning of what a program complains of.
type complaint struct{ bytes.Buffer }

func (c *complaint) Write(p []byte) (int, error) {
	const most = 2000
	c.Buffer.Write(p[:min(len(p), max(0, most-c.Len()))])
	return len(p), nil
}
