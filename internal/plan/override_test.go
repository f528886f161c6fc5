package plan

import (
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
)

func env(name, value string) []corev1.EnvVar { return []corev1.EnvVar{{Name: name, Value: value}} }

// described are the containers of a pod: name, image, [args], variables.
func described(spec *corev1.PodSpec) string {
	var all []string
	for _, c := range spec.Containers {
		line := c.Name + " " + c.Image + " [" + strings.Join(c.Args, " ") + "]"
		for _, v := range c.Env {
			line += " " + v.Name + "=" + v.Value
		}
		all = append(all, line)
	}
	return strings.Join(all, "; ")
}

func TestOverridesOfAPod(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		o    Overrides
		want string // the containers, or the error
	}{
		{"nothing", Overrides{}, `a x [one] K= L=$(K); b y []`},
		{"env of all containers", Overrides{Env: append(env("K", "v=w"), env("N", "")...)}, `a x [one] K=v=w L=$(K) N=; b y [] K=v=w N=`},
		{"one container", Overrides{Container: "b", Image: "z", Args: []string{"--all", "-x"}, Env: env("K", "1")}, `a x [one] K= L=$(K); b z [--all -x] K=1`},
		{"which one?", Overrides{Image: "z"}, "--image is for which container? Name one by --container: a, b"},
		{"which one, again?", Overrides{Args: []string{"z"}}, "--arg is for which container? Name one by --container: a, b"},
		{"no such container", Overrides{Container: "c"}, `--container: there is no "c"; the containers are a, b`},
	} {
		spec := &corev1.PodSpec{
			InitContainers: []corev1.Container{{Name: "init", Image: "i"}},
			Containers: []corev1.Container{
				{Name: "a", Image: "x", Args: []string{"one"}, Env: []corev1.EnvVar{
					{Name: "K", ValueFrom: &corev1.EnvVarSource{}}, {Name: "L", Value: "$(K)"},
				}},
				{Name: "b", Image: "y"},
			},
		}
		err := tc.o.Apply(spec)
		got := described(spec)
		if err != nil {
			got = err.Error()
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.name, got, tc.want)
		}
	}
}

// Overrides change what a run is about, before it is looked at; where it is not clear
// what they are for, they are refused.
func TestOverridesOfARun(t *testing.T) {
	t.Parallel()
	two := job("j", "", "") + strings.Replace(job("k", "", ""), "name: c,", "name: d,", 1)
	for _, tc := range []struct {
		name, in string
		o        Overrides
		want     string // the containers of each Job and Pod, or what is wrong
	}{
		{"env of all", two + pod("p", "Never") + pod("stays", "Always"), Overrides{Env: env("K", "v")}, "c i [] K=v | d i [] K=v | c i [] K=v | c i []"},
		{"a CronJob's Job", cronJob(""), Overrides{Env: env("K", "v"), Image: "z", Args: []string{"a"}}, "c z [a] K=v"},
		{"the only Job beside a Pod that stays", job("j", "", "") + pod("stays", "Always"), Overrides{Image: "z"}, "c z [] | c i []"},
		{"an image that is not filled in", strings.Replace(job("j", "", ""), "image: i", `image: "${IMAGE}"`, 1), Overrides{Image: "z"}, "c z []"},
		{"the container that one Job has", two, Overrides{Image: "z", Container: "d"}, "c i [] | d z []"},
		{"no such container", two, Overrides{Image: "z", Container: "e"}, `--container: there is no "e"; the containers are c, d`},
		{"which Job?", two, Overrides{Args: []string{"a"}},
			"--arg is for which of job/j, job/k? Give that one to a run of its own, or name a container by --container that no other has"},
	} {
		w := world()
		w.Overrides = tc.o
		plan, got := made(t, w, tc.in)
		if plan != nil {
			var all []string
			for _, o := range plan.Objects {
				switch obj := o.Object.(type) {
				case *batchv1.Job:
					all = append(all, described(&obj.Spec.Template.Spec))
				case *corev1.Pod:
					all = append(all, described(&obj.Spec))
				}
			}
			// Companions come first in a plan.
			for i, o := range plan.Objects {
				if o.Role == Companion {
					all = append(append(all[:i:i], all[i+1:]...), all[i])
				}
			}
			got = strings.Join(all, " | ")
		}
		if got != tc.want {
			t.Errorf("%s: got %s\nwant %s", tc.name, got, tc.want)
		}
	}
}
