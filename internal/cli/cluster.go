package cli

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sampan-batch/sampan/internal/doctor"
	"github.com/sampan-batch/sampan/internal/engine"
)

// cluster is the API that a command talks to: this machine's engine or any
// Kubernetes cluster.
type cluster struct {
	kubeconfig, context, namespace string
	// bulk: there are many calls, a few of them at a time, and it is the API that says
	// when these are too many.
	bulk bool
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
		rules.ExplicitPath = engine.Kubeconfig()
	}
	overrides := &clientcmd.ConfigOverrides{CurrentContext: c.context}
	overrides.Context.Namespace = c.namespace
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides)
}

// connect returns a client and the namespace that is meant.
func (c *cluster) connect() (client kubernetes.Interface, namespace string, err error) {
	config, namespace, err := c.config()
	if err != nil {
		return nil, "", err
	}
	client, err = kubernetes.NewForConfig(config)
	return client, namespace, err
}

// config returns how clients reach the API, and the namespace that is meant.
func (c *cluster) config() (config *rest.Config, namespace string, err error) {
	loader := c.loader()
	config, err = loader.ClientConfig()
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
	used := c.used()
	config.Wrap(func(next http.RoundTripper) http.RoundTripper { return answering{next, used} })
	if c.bulk {
		config.QPS = -1
		config.ContentType, config.AcceptContentTypes = runtime.ContentTypeProtobuf, runtime.ContentTypeProtobuf+","+runtime.ContentTypeJSON
	}
	return config, namespace, nil
}

// answering says of an API that nobody serves what to do about it.
type answering struct {
	next http.RoundTripper
	used string // the kubeconfig
}

func (a answering) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := a.next.RoundTrip(req)
	switch ip := net.ParseIP(req.URL.Hostname()); {
	case errors.Is(err, unix.ECONNREFUSED):
		err = &unservedError{req.URL.Host, a.used, err}
	case errors.Is(err, unix.ENETUNREACH) && ip != nil && ip.IsLoopback():
		err = fmt.Errorf("%w; %s: `%s`", err, doctor.LoopbackDown, doctor.LoopbackUp)
	}
	return resp, err
}

// unservedError: nobody serves the API at an address.
type unservedError struct {
	host, kubeconfig string
	err              error
}

func (e *unservedError) Error() string {
	return fmt.Sprintf("nobody serves the API at %s: start `sampan serve`, or name another kubeconfig than %s by --kubeconfig or $KUBECONFIG", e.host, e.kubeconfig)
}

func (e *unservedError) Unwrap() error { return e.err }

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

// completeTargets completes arguments with objects of these kinds: one that may
// be named without its kind, if there is but one kind, else any number.
func (c *cluster) completeTargets(kinds ...string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		kind, _, prefixed := strings.Cut(typed, "/")
		switch {
		case len(kinds) == 1 && len(args) > 0:
			return nil, cobra.ShellCompDirectiveNoFileComp
		case prefixed:
		case len(kinds) == 1:
			kind = kinds[0]
		case len(args) > 0 && !strings.Contains(args[0], "/"):
			kind = args[0] // "job NAME..."
		default:
			var heads []string
			for _, k := range kinds {
				heads = append(heads, k+"/")
			}
			return heads, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
		}
		at, err := parseTarget("*", kind)
		if err != nil || !slices.Contains(kinds, at.kind) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return c.complete(cmd, func(ctx context.Context, client kubernetes.Interface, namespace string) ([]string, error) {
			targets, err := listTargets(ctx, client, namespace, at.kind)
			var names []string
			for _, t := range targets {
				if prefixed {
					t.name = kind + "/" + t.name
				}
				names = append(names, t.name)
			}
			return names, err
		})
	}
}
