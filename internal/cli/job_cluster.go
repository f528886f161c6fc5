package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sampan-batch/sampan/internal/engine"
)

// cluster is the API that a command talks to: this machine's engine or any
// Kubernetes cluster.
type cluster struct {
	kubeconfig, context, namespace string
}

// addFlags adds the flags that choose the cluster; short is the shorthand of
// --namespace.
func (c *cluster) addFlags(cmd *cobra.Command, f *pflag.FlagSet, short string) {
	f.StringVar(&c.kubeconfig, "kubeconfig", "", "how to reach the API (default: $KUBECONFIG, else that of this machine's engine, else ~/.kube/config)")
	f.StringVar(&c.context, "context", "", "the context of the kubeconfig to use")
	f.StringVarP(&c.namespace, "namespace", short, "", "the namespace (default: that of the context)")
	_ = cmd.RegisterFlagCompletionFunc("context", func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		config, err := c.loader().RawConfig()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		var names []string
		for name := range config.Contexts {
			names = append(names, name)
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	_ = cmd.RegisterFlagCompletionFunc("namespace", func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		return c.complete(cmd, func(ctx context.Context, client kubernetes.Interface, _ string) ([]string, error) {
			list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
			if err != nil {
				return nil, err
			}
			var names []string
			for i := range list.Items {
				names = append(names, list.Items[i].Name)
			}
			return names, nil
		})
	})
}

// loader finds the kubeconfig.
func (c *cluster) loader() clientcmd.ClientConfig {
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // $KUBECONFIG, ~/.kube/config
	rules.ExplicitPath = c.kubeconfig
	if c.kubeconfig == "" && os.Getenv(clientcmd.RecommendedConfigPathEnvVar) == "" {
		own := filepath.Join(engine.Default().DataDir, "kubeconfig")
		if _, err := os.Stat(own); err == nil {
			rules.ExplicitPath = own
		}
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: c.context}
	overrides.Context.Namespace = c.namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// connect returns a client and the namespace that is meant.
func (c *cluster) connect() (client kubernetes.Interface, namespace string, err error) {
	loader := c.loader()
	config, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, "", usage(errors.New("no API to talk to: start `sampan serve`, or name a kubeconfig by --kubeconfig or $KUBECONFIG"))
	case err != nil:
		return nil, "", usage(err)
	}
	if namespace, _, err = loader.Namespace(); err != nil {
		return nil, "", usage(err)
	}
	config.UserAgent = "sampan/" + Version()
	config.QPS, config.Burst = 50, 100
	client, err = kubernetes.NewForConfig(config)
	return client, namespace, err
}

// complete offers what list finds, within the time that a shell's user has.
func (c *cluster) complete(cmd *cobra.Command, list func(ctx context.Context, client kubernetes.Interface, namespace string) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	const none = cobra.ShellCompDirectiveNoFileComp
	client, namespace, err := c.connect()
	if err != nil {
		return nil, none
	}
	parent := cmd.Context()
	if parent == nil {
		parent = context.Background()
	}
	ctx, cancel := context.WithTimeout(parent, 2*time.Second)
	defer cancel()
	names, err := list(ctx, client, namespace)
	if err != nil {
		return nil, none
	}
	return names, none
}

// completeTargets completes the first argument with "kind/NAME" of these kinds.
func (c *cluster) completeTargets(kinds ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		kind, _, named := strings.Cut(typed, "/")
		if !named && len(kinds) > 1 {
			var heads []string
			for _, k := range kinds {
				heads = append(heads, k+"/")
			}
			return heads, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		if len(kinds) == 1 {
			kind = kinds[0]
		}
		return c.complete(cmd, func(ctx context.Context, client kubernetes.Interface, namespace string) ([]string, error) {
			return targetNames(ctx, client, namespace, kind)
		})
	}
}

// targetNames lists "kind/NAME" of all objects of a kind.
func targetNames(ctx context.Context, client kubernetes.Interface, namespace, kind string) ([]string, error) {
	var names []string
	var all metav1.ListOptions
	switch kind {
	case kindJob:
		list, err := client.BatchV1().Jobs(namespace).List(ctx, all)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			names = append(names, kind+"/"+list.Items[i].Name)
		}
	case kindCronJob:
		list, err := client.BatchV1().CronJobs(namespace).List(ctx, all)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			names = append(names, kind+"/"+list.Items[i].Name)
		}
	case kindPod:
		list, err := client.CoreV1().Pods(namespace).List(ctx, all)
		if err != nil {
			return nil, err
		}
		for i := range list.Items {
			names = append(names, kind+"/"+list.Items[i].Name)
		}
	}
	return names, nil
}
