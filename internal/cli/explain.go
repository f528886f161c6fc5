package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sampan-batch/sampan/internal/explain"
)

type explainOptions struct {
	cluster  cluster
	selector string
	all      bool
	output   outputFormat
}

func newExplain() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain KIND/NAME... | KIND [NAME...]",
		Short: "Say why a Job, CronJob or pod is (not) running, and what happens next",
		Long: `Explain answers in a few lines: why is it (not) running, what happened so far, what happens
next and when. It reads the object, what belongs to it and their events, and changes
nothing; it works with this machine's engine and with any Kubernetes cluster.

KIND is job, cronjob or pod, or another name that kubectl has for these. A kind without
names means all objects of the kind, or those that --selector selects.

For scripts, -o json and -o yaml print kind, namespace, name, state, summary, why, soFar,
next and, if it is known when that will be, nextTime; for several objects a list of that as
items. The state is one of:
  Running      a process of it runs
  Pending      it wants to run, and something is missing
  Waiting      for a time: its next slot, the end of a back-off
  Suspended    until somebody lets it go on
  Terminating  its end is decided, and takes its time
  Complete     a Job that has succeeded
  Succeeded    a pod that has
  Failed       a Job or a pod
  Never        a CronJob whose schedule matches no time, or cannot be read
  Unknown      only somebody else knows: a Job with managedBy, a pod whose node is silent

It exits with 0 when it has answered, whatever the answer is; 1 when an object was not
found or could not be read; 2 when the input is wrong.`,
		Example: `  sampan explain job/import
  sampan explain cronjob nightly weekly
  sampan explain pods -l app=import -n batch --kubeconfig ~/.kube/config
  sampan explain job/import -o json | jq -r .state`,
		Args: wantArgs(cobra.MinimumNArgs(1), "explain what? Give job/NAME, cronjob/NAME or pod/NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
		ValidArgsFunction: o.cluster.completeTargets(kindJob, kindCronJob, kindPod),
	}
	f := cmd.Flags()
	f.StringVarP(&o.selector, "selector", "l", "", "of a kind, only the objects with these labels: app=import,tier!=test")
	f.BoolVarP(&o.all, "all-namespaces", "A", false, "of a kind, the objects of all namespaces")
	o.output.addFlag(cmd, "text")
	o.cluster.addFlags(cmd, f, "n")
	return cmd
}

func (o *explainOptions) run(ctx context.Context, args []string, out, notes io.Writer) error {
	if err := o.output.check(); err != nil {
		return err
	}
	targets, all, err := readTargets(args, kindJob, kindCronJob, kindPod)
	if err != nil {
		return usage(err)
	}
	if !all && (o.selector != "" || o.all) {
		return usage(errors.New("--selector and --all-namespaces are for a kind without names"))
	}
	client, namespace, err := o.cluster.connect()
	if err != nil {
		return err
	}
	if o.all {
		namespace = metav1.NamespaceAll
	}
	reader := &explainer{client: client, notes: notes}
	if all {
		if targets, err = reader.readAll(ctx, namespace, targets[0].kind, o.selector); err != nil {
			return err
		}
		if len(targets) == 0 {
			fmt.Fprintln(notes, "No resources found.")
		}
	}
	answers := []explain.Answer{}
	var failed []error
	for _, at := range targets {
		at.namespace = cmp.Or(at.namespace, namespace)
		answer, err := reader.explain(ctx, at)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		answers = append(answers, answer)
	}
	if len(answers) > 0 || all {
		if err := o.print(out, answers, len(targets) == 1 && !all); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// print writes the answers; single is the form of an object that was named
// alone.
func (o *explainOptions) print(out io.Writer, answers []explain.Answer, single bool) error {
	if o.output == "" {
		for i, answer := range answers {
			if i > 0 {
				fmt.Fprintln(out)
			}
			if o.all {
				fmt.Fprintf(out, "namespace %s: ", plain(answer.Namespace))
			}
			if _, err := fmt.Fprint(out, plainAnswer(answer)); err != nil {
				return err
			}
		}
		return nil
	}
	var value any = map[string]any{"items": answers}
	if single {
		value = answers[0]
	}
	return o.output.print(out, value)
}
