package cli

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/plan"
)

// overrides are the flags that say what is to be otherwise, this time, than a template
// has it.
type overrides struct {
	env, args        []string
	image, container string
}

func (o *overrides) addFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringArrayVar(&o.env, "env", nil, "set an environment variable, as NAME=VALUE; NAME alone takes it from this environment (may be repeated)")
	f.StringArrayVar(&o.args, "arg", nil, "replace the container's args; one flag for each")
	f.StringVar(&o.image, "image", "", "use this image instead")
	f.StringVarP(&o.container, "container", "c", "", "the container that --env, --arg and --image are for (default: the only one; --env: all)")
}

var variableName = regexp.MustCompile(`^[-._a-zA-Z][-._a-zA-Z0-9]*$`)

// read reads the flags; lookup finds variables of this environment.
func (o *overrides) read(lookup func(string) (string, bool)) (plan.Overrides, error) {
	r := plan.Overrides{Args: o.args, Image: o.image, Container: o.container}
	for _, assignment := range o.env {
		name, value, given := strings.Cut(assignment, "=")
		if !variableName.MatchString(name) {
			return r, usage(fmt.Errorf("--env: %q is not of the form NAME=VALUE", assignment))
		}
		if !given {
			if value, given = lookup(name); !given {
				return r, usage(fmt.Errorf("--env: %s is not set in this environment; set it, or give %s=VALUE", name, name))
			}
			// What looks like $(NAME) in it is no reference to another variable.
			value = strings.ReplaceAll(value, "$", "$$")
		}
		r.Env = append(r.Env, corev1.EnvVar{Name: name, Value: value})
	}
	return r, nil
}
