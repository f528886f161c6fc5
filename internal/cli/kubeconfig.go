package cli

import (
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sampan-batch/sampan/internal/engine"
)

func newKubeconfig() *cobra.Command {
	dir, name := engine.Default().DataDir, mergedContext
	merge := false
	cmd := &cobra.Command{
		Use:   "kubeconfig",
		Short: "Print the kubeconfig of this machine's engine, or merge it into yours",
		Long: `Kubeconfig prints the administrator's kubeconfig of an engine, which need not run.

With --merge it becomes a context of the kubeconfig that kubectl uses: the first file of
$KUBECONFIG that is there, else ~/.kube/config. The file is replaced as a whole, with mode
0600; everything else in it stays, and so does the context that is used, unless there is
none. "sampan serve --merge-kubeconfig" does the same at each start.`,
		Example: `  sampan kubeconfig --merge && kubectl --context sampan get jobs
  sampan kubeconfig --merge --name batch --data-dir /srv/sampan
  sampan kubeconfig > sampan.kubeconfig`,
		Args: wantArgs(cobra.NoArgs, "kubeconfig takes no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := engine.KubeconfigIn(dir)
			if errors.Is(err, os.ErrNotExist) {
				return fmt.Errorf("no engine has worked on %s yet: `sampan serve` writes its kubeconfig (--data-dir names another directory)", dir)
			}
			if err != nil {
				return err
			}
			if merge {
				return mergeKubeconfig(cmd.OutOrStdout(), path, name)
			}
			text, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(text)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&dir, "data-dir", dir, "the engine's data directory")
	f.BoolVar(&merge, "merge", false, "add it to the kubeconfig that kubectl uses")
	f.StringVar(&name, "name", name, "what the context, its cluster and its user are called there")
	return cmd
}

// mergedContext is what the context is called in the user's kubeconfig.
const mergedContext = "sampan"

// mergeKubeconfig makes an engine's kubeconfig a context of the user's, and says so.
func mergeKubeconfig(out io.Writer, from, name string) error {
	if name == "" {
		return usage(errors.New("--name must not be empty"))
	}
	source, err := clientcmd.LoadFromFile(from)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	target := clientcmd.NewDefaultPathOptions().GetDefaultFilename()
	if sameFile(from, target) {
		fmt.Fprintf(out, "%s is the engine's own kubeconfig, and used already\n", plain(target))
		return nil
	}
	current, err := currentContext(target)
	if err != nil {
		return err
	}
	m := merger{name: name, source: source, use: current == ""}
	if err := m.into(target); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s has the context %q\n", plain(target), plain(name))
	switch current {
	case "", name:
		fmt.Fprintf(out, "kubectl uses it\n")
	default:
		fmt.Fprintf(out, "kubectl uses %q: kubectl config use-context %s switches, --context %[2]s is for one command\n", plain(current), plain(name))
	}
	return nil
}

// currentContext is the one that kubectl uses, "" if there is none. A file that cannot
// be read is an error with its name: to write beside it could lose what is in it.
func currentContext(target string) (string, error) {
	current := ""
	for _, file := range append(clientcmd.NewDefaultPathOptions().GetLoadingPrecedence(), target) {
		config, err := clientcmd.LoadFromFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("%s: %w; nothing was changed", file, err)
		}
		if current == "" {
			current = config.CurrentContext
		}
	}
	return current, nil
}

func sameFile(a, b string) bool {
	infoA, err := os.Stat(a)
	if err != nil {
		return false
	}
	infoB, err := os.Stat(b)
	return err == nil && os.SameFile(infoA, infoB)
}
