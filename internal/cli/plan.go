package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/sampan-batch/sampan/internal/engine"
	"github.com/sampan-batch/sampan/internal/image"
	"github.com/sampan-batch/sampan/internal/plan"
)

// plan reads the input and decides what becomes of it. dir is the engine's directory.
func (o *runOptions) plan(ctx context.Context, paths []string, dir string) (*plan.Plan, error) {
	config := o.node
	config.DataDir, config.Listen, config.Private = dir, "127.0.0.1:0", true
	node, err := engine.Node(config)
	if err != nil {
		return nil, err
	}
	overrides, err := o.change.read(os.LookupEnv)
	if err != nil {
		return nil, err
	}
	w := plan.World{
		Now: time.Now(), Zones: time.LoadLocation, ImageName: imageName, Namespace: o.namespace, Node: node, IPv6: config.HasIPv6(), Runtime: o.runtime,
		Volumes: filepath.Join(dir, engine.RunVolumes), Kept: o.volumes != "", Strict: o.strict, OnlyJobs: o.onlyJobs,
		Overrides: overrides,
	}
	if w.Kept {
		if w.Volumes, err = filepath.Abs(o.volumes); err != nil {
			return nil, err
		}
	}
	in := inputs{paths: paths, kustomize: o.kustomize, recursive: o.recursive, stdin: os.Stdin}
	objects, unreadable := in.read(ctx)
	w.Partial = unreadable != nil
	p, err := plan.Make(w, objects)
	if unreadable != nil || err != nil {
		return nil, flatten(unreadable, err)
	}
	return p, nil
}

// flatten joins errors that may be joined themselves.
func flatten(errs ...error) error {
	var all []error
	for _, err := range errs {
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			err = flatten(joined.Unwrap()...)
			if joined, ok := err.(interface{ Unwrap() []error }); ok {
				all = append(all, joined.Unwrap()...)
				continue
			}
		}
		if err != nil {
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// dryRun says what would be run, and what has no effect here.
func dryRun(p *plan.Plan, out *console) error {
	for _, line := range p.NoEffect {
		out.Note("no effect here: %s", line)
	}
	works := 0
	for _, o := range p.Objects {
		if o.Role == plan.Support {
			continue
		}
		if works++; works <= rowsOfResults {
			fmt.Fprintf(out.lines, "%s: %s would run\n", plain(o.Where), plain(o.Name()))
		}
	}
	if works > rowsOfResults {
		fmt.Fprintf(out.lines, "and %d more\n", works-rowsOfResults)
	}
	_, err := fmt.Fprintln(out.lines, "nothing is wrong")
	return err
}

// makeClaims makes the directories that claims are. Whoever a container runs as may write
// them; nobody else comes through the directory above.
func makeClaims(claims []string) error {
	for _, dir := range claims {
		if err := os.MkdirAll(filepath.Dir(dir), 0o700); err != nil {
			return err
		}
		if err := os.Mkdir(dir, 0o700); errors.Is(err, os.ErrExist) {
			continue
		} else if err != nil {
			return err
		}
		if err := os.Chmod(dir, 0o777); err != nil {
			return err
		}
	}
	return nil
}

func imageName(text string) error {
	_, err := image.Canonical(text)
	return err
}
