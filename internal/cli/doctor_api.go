package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sampan-batch/sampan/internal/doctor"
	"github.com/sampan-batch/sampan/internal/engine"
)

// engineFares asks the engine of a data directory how it fares, if there is one.
func engineFares(ctx context.Context, dir string) []doctor.Finding {
	const name = "engine"
	who, held, err := engine.Working(dir)
	switch {
	case errors.Is(err, os.ErrPermission):
		return []doctor.Finding{{Name: name, Status: doctor.Limited, Message: "whether one runs, its owner can tell: " + err.Error()}}
	case err != nil || !held:
		return []doctor.Finding{{Name: name, Status: doctor.OK, Message: "none runs on this directory; `sampan serve` starts it, `sampan run` needs none"}}
	}
	if err := ready(ctx, filepath.Join(dir, "kubeconfig")); err != nil {
		return []doctor.Finding{{
			Name: name, Status: doctor.Limited, Message: fmt.Sprintf("%s does not say that it is ready: %s", who, strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; ")),
			Advice: "look at its log, and at /readyz?verbose",
		}}
	}
	return []doctor.Finding{{Name: name, Status: doctor.OK, Message: fmt.Sprintf("%s is ready on https://%s", who, who.Listen)}}
}

// ready returns what an API says that keeps it from being ready.
func ready(ctx context.Context, kubeconfig string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	body, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").Param("verbose", "true").DoRaw(ctx)
	if err == nil {
		return nil
	}
	var failing []string
	for line := range strings.Lines(string(body)) {
		if strings.HasPrefix(line, "[-]") {
			failing = append(failing, strings.TrimSpace(line))
		}
	}
	if len(failing) > 0 {
		return errors.New(strings.Join(failing, "; "))
	}
	return err
}

// finding tells which kubeconfig the commands use that are clients of an API.
func (c *cluster) finding() doctor.Finding {
	f := doctor.Finding{Name: "kubeconfig", Status: doctor.OK}
	loader := c.loader()
	config, err := loader.ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		f.Message = "there is none yet; `sampan serve` writes one"
	case err != nil:
		f.Status, f.Message, f.Advice = doctor.Limited, err.Error(), "name another by --kubeconfig or $KUBECONFIG"
	default:
		f.Message = fmt.Sprintf("%s: %s", c.used(), config.Host)
	}
	return f
}
