package cli

import (
	"errors"
	"fmt"
	"strings"
)

// Kinds that arguments of the form kind/NAME name, as kubectl prints them.
const (
	kindJob     = "job"
	kindCronJob = "cronjob"
	kindPod     = "pod"
)

// target is an object that an argument names.
type target struct{ kind, name string }

// parseTarget reads "job/NAME", with every name of a kind that kubectl takes;
// a name without a kind is of the kind plain, if that is not "".
func parseTarget(arg, plain string) (target, error) {
	head, name, both := strings.Cut(arg, "/")
	if !both {
		if plain == "" {
			return target{}, fmt.Errorf("%q: of what kind? Give job/NAME, cronjob/NAME or pod/NAME", arg)
		}
		head, name = plain, arg
	}
	if name == "" || strings.Contains(name, "/") {
		return target{}, fmt.Errorf("%q names no object; give kind/NAME", arg)
	}
	switch strings.ToLower(head) {
	case "job", "jobs", "job.batch", "jobs.batch", "job.v1.batch", "jobs.v1.batch":
		return target{kindJob, name}, nil
	case "cronjob", "cronjobs", "cj", "cronjob.batch", "cronjobs.batch", "cronjob.v1.batch", "cronjobs.v1.batch":
		return target{kindCronJob, name}, nil
	case "pod", "pods", "po":
		return target{kindPod, name}, nil
	}
	return target{}, fmt.Errorf("%q: there is no kind %q here; give job/NAME, cronjob/NAME or pod/NAME", arg, head)
}

// oneTarget reads the arguments "kind/NAME" or "kind NAME", and refuses other
// kinds than those that are wanted.
func oneTarget(args []string, plain string, wanted ...string) (target, error) {
	arg := args[0]
	if len(args) == 2 {
		if strings.Contains(args[0]+args[1], "/") {
			return target{}, usage(errors.New("one object at a time: kind/NAME"))
		}
		arg = args[0] + "/" + args[1]
	}
	t, err := parseTarget(arg, plain)
	if err != nil {
		return target{}, usage(err)
	}
	for _, kind := range wanted {
		if t.kind == kind {
			return t, nil
		}
	}
	return target{}, usage(fmt.Errorf("%s/%s: give %s/NAME", t.kind, t.name, strings.Join(wanted, "/NAME or ")))
}
