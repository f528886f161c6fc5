package cli

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/sampan-batch/sampan/internal/doctor"
	"github.com/sampan-batch/sampan/internal/plan"
)

// What errors say besides what went wrong: where that comes from, and what to do next.

// wrongFlag is the error of a flag that is not understood: with the flag that was
// probably meant.
func wrongFlag(cmd *cobra.Command, err error) error {
	hint := fmt.Sprintf("See '%s --help'", cmd.CommandPath())
	if invalid := (*pflag.InvalidValueError)(nil); errors.As(err, &invalid) && !errors.Is(err, strconv.ErrRange) {
		if want := formOf(invalid.GetFlag().Value.Type()); want != "" {
			return usage(fmt.Errorf("--%s: %q is not %s\n%s", invalid.GetFlag().Name, invalid.GetValue(), want, hint))
		}
	}
	if wrong := (*pflag.NotExistError)(nil); errors.As(err, &wrong) {
		if near := nearestFlag(cmd, wrong.GetSpecifiedName()); near != "" {
			hint = fmt.Sprintf("Did you mean --%s?", near)
		}
	}
	return usage(fmt.Errorf("%w\n%s", err, hint))
}

// formOf says how a flag of some type is written, "" if there is nothing to say.
func formOf(flagType string) string {
	switch flagType {
	case "duration":
		return "a time, as 90s, 10m or 1h30m"
	case "int", "int32", "int64":
		return "a number"
	case "bool":
		return "true or false"
	}
	return ""
}

// nearestFlag is the flag whose name is most like another, "" if none is like it.
func nearestFlag(cmd *cobra.Command, name string) (best string) {
	near := 1 + len(name)/3
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := plan.Distance(f.Name, name); d <= near && !f.Hidden && (best == "" || d < near) {
			best, near = f.Name, d
		}
	})
	return best
}

// reachable refuses an address to listen on that nobody would reach, not even on this machine.
func reachable(address string) error {
	if doctor.Reachable(address) {
		return nil
	}
	return usage(fmt.Errorf("nobody could reach the API at %s: %s: `%s`", address, doctor.LoopbackDown, doctor.LoopbackUp))
}

// explainListen says of an address at which an engine cannot listen what to do.
func explainListen(err error, address string) error {
	switch {
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return usage(fmt.Errorf("the address %s is none of this machine's: name another by --listen", address))
	case !errors.Is(err, unix.EADDRINUSE):
		return err
	}
	return fmt.Errorf("the address %s is taken by %s: end that, or name another address by --listen (127.0.0.1:0 picks one)", address, doctor.Listening(address))
}

// used names the files and the context that are used, and why these files.
func (c *cluster) used() string {
	loader := c.loader()
	files := strings.Join(loader.ConfigAccess().GetLoadingPrecedence(), ", ")
	if explicit := loader.ConfigAccess().GetExplicitFile(); explicit != "" {
		files = explicit
	}
	context := c.context
	if raw, err := loader.RawConfig(); err == nil && context == "" {
		context = raw.CurrentContext
	}
	why := ""
	switch {
	case c.kubeconfig != "":
		why = " (--kubeconfig)"
	case os.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "":
		why = " ($KUBECONFIG)"
	}
	return fmt.Sprintf("%s%s, context %q", files, why, context)
}
