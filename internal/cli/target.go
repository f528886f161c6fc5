package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// Kinds that arguments of the form kind/NAME name, as kubectl prints them.
const (
	kindJob     = "job"
	kindCronJob = "cronjob"
	kindPod     = "pod"
)

// target is an object that an argument names; without a namespace it is in the
// one that the command is about.
type target struct{ kind, namespace, name string }

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
		return target{kind: kindJob, name: name}, nil
	case "cronjob", "cronjobs", "cj", "cronjob.batch", "cronjobs.batch", "cronjob.v1.batch", "cronjobs.v1.batch":
		return target{kind: kindCronJob, name: name}, nil
	case "pod", "pods", "po":
		return target{kind: kindPod, name: name}, nil
	}
	return target{}, fmt.Errorf("%q: there is no kind %q here; give job/NAME, cronjob/NAME or pod/NAME", arg, head)
}

// readTargets reads arguments as kubectl does: "kind/NAME..." or "kind NAME...";
// all: a kind alone, which means all objects of it. Other kinds than those that
// are wanted are refused.
func readTargets(args []string, wanted ...string) (targets []target, all bool, err error) {
	kind, names := "", args
	if !strings.Contains(args[0], "/") {
		kind, names = args[0], args[1:]
	}
	if all = len(names) == 0; all {
		names = []string{"*"}
	}
	for _, name := range names {
		if strings.Contains(name, "/") == (kind != "") {
			return nil, false, fmt.Errorf("%q: give kind/NAME each time, or the kind once and then names", name)
		}
		if kind != "" {
			name = kind + "/" + name
		}
		t, err := parseTarget(name, "")
		if err != nil {
			return nil, false, err
		}
		if !slices.Contains(wanted, t.kind) {
			return nil, false, fmt.Errorf("%s/%s: give %s/NAME", t.kind, t.name, strings.Join(wanted, "/NAME or "))
		}
		targets = append(targets, t)
	}
	return targets, all, nil
}

// oneTarget reads the argument "NAME" or "kind/NAME", where only that kind will
// do.
func oneTarget(arg, kind string) (target, error) {
	t, err := parseTarget(arg, kind)
	if err == nil && t.kind != kind {
		err = fmt.Errorf("%s/%s: give %s/NAME", t.kind, t.name, kind)
	}
	if err != nil {
		return target{}, usage(err)
	}
	return t, nil
}

// listTargets lists the objects of a kind.
func listTargets(ctx context.Context, client kubernetes.Interface, namespace, kind string) ([]target, error) {
	options := metav1.ListOptions{}
	var list runtime.Object
	var err error
	switch kind {
	case kindJob:
		list, err = client.BatchV1().Jobs(namespace).List(ctx, options)
	case kindCronJob:
		list, err = client.BatchV1().CronJobs(namespace).List(ctx, options)
	case kindPod:
		list, err = client.CoreV1().Pods(namespace).List(ctx, options)
	}
	if err != nil {
		return nil, err
	}
	var targets []target
	err = meta.EachListItem(list, func(obj runtime.Object) error {
		o := obj.(metav1.Object)
		targets = append(targets, target{kind, o.GetNamespace(), o.GetName()})
		return nil
	})
	return targets, err
}
