package runspec

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/runner"
)

func TestExpand(t *testing.T) {
	t.Parallel()
	vars := map[string]string{"A": "1", "B": "$(A)", "EMPTY": ""}
	lookup := func(name string) (string, bool) { v, ok := vars[name]; return v, ok }
	for in, want := range map[string]string{
		"":                  "",
		"plain":             "plain",
		"$(A)":              "1",
		"x$(A)y$(A)":        "x1y1",
		"$(B)":              "$(A)", // not expanded again
		"$(EMPTY)x":         "x",
		"$(NO)":             "$(NO)",
		"$$(A)":             "$(A)",
		"$$$(A)":            "$1",
		"$$$$(A)":           "$$(A)",
		"$A":                "$A",
		"$":                 "$",
		"a$":                "a$",
		"$$":                "$",
		"$(A":               "$(A",
		"$(A$(A)":           "$(A$(A)", // the name is all up to the first bracket
		"$()":               "$()",
		"foo$$$$$(A)":       "foo$$1",
		"$?$(A)":            "$?1",
		"\n$(A)":            "\n1",
		"${A}":              "${A}",
		"$(A))":             "1)",
		"$$(A)_$(A)_$(NO)_": "$(A)_1_$(NO)_",
	} {
		if got := Expand(in, lookup); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func FuzzExpand(f *testing.F) {
	f.Add("x$(A)$$(A)$")
	f.Fuzz(func(t *testing.T, s string) {
		none := func(string) (string, bool) { return "", false }
		got := Expand(s, none)
		if len(got) > len(s) {
			t.Errorf("%q: grew to %q without a variable", s, got)
		}
		if !strings.Contains(s, "$$") && got != s {
			t.Errorf("%q: got %q", s, got)
		}
	})
}

func TestCommand(t *testing.T) {
	t.Parallel()
	env := &Env{}
	if err := env.Set("X", "7"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ command, args, want string }{
		{"", "", "ep cmd"},
		{"c", "", "c"},
		{"", "a$(X)", "ep a7"},
		{"c$(X)", "a $(Y)", "c7 a $(Y)"},
	} {
		c := &corev1.Container{Command: strings.Fields(test.command), Args: strings.Fields(test.args)}
		list, err := Command(c, []string{"ep"}, []string{"cmd"}, env)
		if got := strings.Join(list, " "); got != test.want || err != nil {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}

// objects is what the API has.
type objects map[string]any

func (o objects) ConfigMap(name string) (*corev1.ConfigMap, error) {
	if cm, ok := o[name].(*corev1.ConfigMap); ok {
		return cm, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("configmap"), name)
}

func (o objects) Secret(name string) (*corev1.Secret, error) {
	if s, ok := o[name].(*corev1.Secret); ok {
		return s, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("secret"), name)
}

var api = objects{
	"cm":     &corev1.ConfigMap{Data: map[string]string{"b": "2", "a": "1"}},
	"secret": &corev1.Secret{Data: map[string][]byte{"key": []byte("hush")}},
}

func testInput(c corev1.Container) *Input {
	return &Input{
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"z": "1", "a": `say "hi"`},
				Annotations: map[string]string{"note": "x"},
			},
			Spec: corev1.PodSpec{NodeName: "n1", ServiceAccountName: "sa", Containers: []corev1.Container{c}},
		},
		Container: &c, Addresses: network.Addresses{Pod: []string{"192.0.2.1", "2001:db8::1"}, Node: []string{"192.0.2.1", "2001:db8::1"}}, Class: runner.Sandbox, Hostname: "p",
		Allocatable: corev1.ResourceList{"cpu": resource.MustParse("4"), "memory": resource.MustParse("8Gi")},
		Entrypoint:  []string{"run"},
		LookupUser: func(user string) (User, error) {
			switch user {
			case "":
				return User{Home: "/root"}, nil
			case "app", "1000":
				return User{UID: 1000, GID: 1000, Groups: []uint32{7}, Home: "/home/app"}, nil
			case "1666": // an image that says this were root
				return User{UID: 0, Home: "/root"}, nil
			}
			return User{}, fmt.Errorf("unable to find user %s", user)
		},
		Mounts: func(*Env) ([]runner.Mount, error) { return nil, nil },
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	local := func(name string) corev1.LocalObjectReference { return corev1.LocalObjectReference{Name: name} }
	field := func(path string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}
	}
	res := func(name, divisor string) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ResourceFieldRef: &corev1.ResourceFieldSelector{Resource: name, Divisor: resource.MustParse(divisor)}}
	}
	key := func(name, key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{LocalObjectReference: local(name), Key: key, Optional: optional}}
	}
	secret := func(name, key string, optional *bool) *corev1.EnvVarSource {
		return &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{LocalObjectReference: local(name), Key: key, Optional: optional}}
	}
	yes := ptr.To(true)
	limits := corev1.ResourceRequirements{
		Limits:   corev1.ResourceList{"cpu": resource.MustParse("1500m"), "memory": resource.MustParse("100Mi")},
		Requests: corev1.ResourceList{"cpu": resource.MustParse("250m")},
	}
	for name, test := range map[string]struct {
		c    corev1.Container
		want string
		err  string
	}{
		"order and references": {
			c: corev1.Container{
				EnvFrom: []corev1.EnvFromSource{
					{Prefix: "P_", ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("cm")}},
					{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("secret")}},
				},
				Env: []corev1.EnvVar{
					{Name: "X", Value: "$(P_a)-$(Y)-$$(P_a)"}, {Name: "Y", Value: "y"}, {Name: "P_b", Value: "over"}, {Name: "Z", Value: "$(X)$(Y)"},
				},
			},
			want: "P_a=1 P_b=over key=hush X=1-$(Y)-$(P_a) Y=y Z=1-$(Y)-$(P_a)y",
		},
		"optional": {
			c: corev1.Container{
				EnvFrom: []corev1.EnvFromSource{
					{ConfigMapRef: &corev1.ConfigMapEnvSource{LocalObjectReference: local("no"), Optional: yes}},
					{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("no"), Optional: yes}},
				},
				Env: []corev1.EnvVar{
					{Name: "A", ValueFrom: key("no", "a", yes)}, {Name: "B", ValueFrom: key("cm", "no", yes)},
					{Name: "C", ValueFrom: secret("no", "a", yes)}, {Name: "D", ValueFrom: secret("secret", "no", yes)},
					{Name: "E", ValueFrom: key("cm", "b", nil)}, {Name: "F", ValueFrom: secret("secret", "key", nil)}, {Name: "G"},
				},
			},
			want: "E=2 F=hush G=",
		},
		"fields": {
			c: corev1.Container{Env: []corev1.EnvVar{
				{Name: "A", ValueFrom: field("metadata.name")}, {Name: "B", ValueFrom: field("metadata.namespace")},
				{Name: "C", ValueFrom: field("metadata.uid")}, {Name: "D", ValueFrom: field("spec.nodeName")},
				{Name: "E", ValueFrom: field("spec.serviceAccountName")}, {Name: "F", ValueFrom: field("status.podIP")},
				{Name: "G", ValueFrom: field("status.hostIPs")}, {Name: "H", ValueFrom: field("metadata.labels['z']")},
				{Name: "I", ValueFrom: field("metadata.annotations['note']")}, {Name: "J", ValueFrom: field("metadata.labels['no']")},
			}},
			want: "A=p B=ns C=u D=n1 E=sa F=192.0.2.1 G=192.0.2.1,2001:db8::1 H=1 I=x J=",
		},
		"resources": {
			c: corev1.Container{Resources: limits, Env: []corev1.EnvVar{
				{Name: "A", ValueFrom: res("limits.cpu", "0")}, {Name: "B", ValueFrom: res("limits.cpu", "1m")},
				{Name: "C", ValueFrom: res("limits.memory", "1Mi")}, {Name: "D", ValueFrom: res("requests.cpu", "1m")},
				{Name: "E", ValueFrom: res("requests.memory", "1")},
			}},
			want: "A=2 B=1500 C=100 D=250 E=104857600",
		},
		"resources of the node": {
			c: corev1.Container{Env: []corev1.EnvVar{
				{Name: "A", ValueFrom: res("limits.cpu", "1")}, {Name: "B", ValueFrom: res("limits.memory", "1Gi")},
			}},
			want: "A=4 B=8",
		},
		"no ConfigMap": {c: corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("no", "a", nil)}}}, err: `configmap "no" not found`},
		"no key":       {c: corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: key("cm", "no", nil)}}}, err: "couldn't find key no in ConfigMap ns/cm"},
		"no Secret": {c: corev1.Container{EnvFrom: []corev1.EnvFromSource{{SecretRef: &corev1.SecretEnvSource{LocalObjectReference: local("no")}}}},
			err: `secret "no" not found`},
		"no secret key": {c: corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: secret("secret", "no", nil)}}}, err: "couldn't find key no in Secret ns/secret"},
		"field":         {c: corev1.Container{Env: []corev1.EnvVar{{Name: "A", ValueFrom: field("spec.what")}}}, err: "unsupported fieldPath: spec.what"},
	} {
		env, err := Environment(testInput(test.c), api)
		if err != nil {
			if err.Error() != test.err {
				t.Errorf("%s: got error %q, want %q", name, err, test.err)
			}
			continue
		}
		if got := strings.Join(env.list, " "); test.err != "" || got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want+test.err)
		}
	}
}

// Variables that are made of others, and those of others, and one that many ask for:
// a few lines of a manifest that would take all of the node's memory.
func TestTooLong(t *testing.T) {
	t.Parallel()
	laughs := []corev1.EnvVar{{Name: "V0", Value: "0123456789"}}
	for i := range 7 {
		laughs = append(laughs, corev1.EnvVar{Name: fmt.Sprint("V", i+1), Value: strings.Repeat(fmt.Sprintf("$(V%d)", i), 10)})
	}
	large := corev1.EnvVar{Name: "LARGE", Value: strings.Repeat("x", maxString-len("LARGE="))}
	var many []corev1.EnvVar
	var from []corev1.EnvFromSource
	var args []string
	for i := range 64 {
		many = append(many, corev1.EnvVar{Name: fmt.Sprint("M", i), Value: "$(LARGE)"})
		args = append(args, "$(LARGE)")
		from = append(from, corev1.EnvFromSource{Prefix: fmt.Sprint("P", i), ConfigMapRef: &corev1.ConfigMapEnvSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: "large"}}})
	}
	objects := objects{"large": &corev1.ConfigMap{Data: map[string]string{"k": large.Value}}}
	for name, test := range map[string]struct {
		c   corev1.Container
		err string
	}{
		"as much as there may be": {c: corev1.Container{Env: append([]corev1.EnvVar{large}, many[:40]...), Args: args[:48]}},
		"longer than a string":    {c: corev1.Container{Env: laughs}, err: "env: V5: argument list too long"},
		"one of others":           {c: corev1.Container{Env: append([]corev1.EnvVar{large}, many...)}, err: "env: M47: argument list too long"},
		"of a ConfigMap":          {c: corev1.Container{EnvFrom: from}, err: "env: P48k: argument list too long"},
		"replaced":                {c: corev1.Container{Env: slices.Repeat([]corev1.EnvVar{large}, 100)}},
		"argument":                {c: corev1.Container{Env: laughs[:5], Args: []string{"$(V4)$(V4)"}}, err: "exec: argument 0: argument list too long"},
		"arguments":               {c: corev1.Container{Env: []corev1.EnvVar{large}, Args: args}, err: "exec: argument 48: argument list too long"},
	} {
		_, err := New(testInput(test.c), objects)
		var start *runner.StartError
		switch {
		case test.err == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.err != "" && (!errors.As(err, &start) || start.Message != test.err || start.Code != 128):
			t.Errorf("%s: got %#v, want %q", name, err, test.err)
		}
	}
}

func TestMapField(t *testing.T) {
	t.Parallel()
	in := testInput(corev1.Container{})
	if got, _ := PodField(in.Pod, network.Addresses{}, "metadata.labels"); got != "a=\"say \\\"hi\\\"\"\nz=\"1\"" {
		t.Errorf("got %s", got)
	}
}

// A pod's addresses are its own, even where they are not its node's.
func TestAddressFields(t *testing.T) {
	t.Parallel()
	at := network.Addresses{Pod: []string{"10.0.0.7", "fd00::7"}, Node: []string{"192.0.2.1"}}
	for field, want := range map[string]string{
		"status.podIP": "10.0.0.7", "status.podIPs": "10.0.0.7,fd00::7", "status.hostIP": "192.0.2.1", "status.hostIPs": "192.0.2.1",
	} {
		if got, err := PodField(nil, at, field); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", field, got, err, want)
		}
	}
}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	caps := func(add, drop string) *corev1.Capabilities {
		out := &corev1.Capabilities{}
		for _, c := range strings.Fields(add) {
			out.Add = append(out.Add, corev1.Capability(c))
		}
		for _, c := range strings.Fields(drop) {
			out.Drop = append(out.Drop, corev1.Capability(c))
		}
		return out
	}
	if got := Capabilities(nil); len(got) != 14 || slices.Contains(got, "CAP_SYS_ADMIN") {
		t.Errorf("default: %v", got)
	}
	if got := Capabilities(caps("NET_ADMIN", "CHOWN CAP_KILL")); len(got) != 13 || !slices.Contains(got, "CAP_NET_ADMIN") || slices.Contains(got, "CAP_KILL") {
		t.Errorf("add and drop: %v", got)
	}
	if got := Capabilities(caps("NET_BIND_SERVICE", "ALL")); !slices.Equal(got, []string{"CAP_NET_BIND_SERVICE"}) {
		t.Errorf("all but one dropped: %v", got)
	}
	if got := Capabilities(caps("ALL", "SYS_ADMIN")); len(got) != len(allCapabilities)-1 {
		t.Errorf("all but one added: %v", got)
	}
	if got := Capabilities(caps("", "all")); got == nil && len(got) != 0 {
		t.Errorf("none: %v", got)
	}
}

// TestNetworkCapabilities: pods share the machine's network, so power over it is
// for those that ask for the machine's.
func TestNetworkCapabilities(t *testing.T) {
	t.Parallel()
	const both = "CAP_NET_ADMIN CAP_NET_RAW"
	list := func(names ...corev1.Capability) []corev1.Capability { return names }
	for name, test := range map[string]struct {
		sc       *corev1.SecurityContext
		want     string // of the two
		others   int    // how many others
		withheld string // without hostNetwork
	}{
		"nothing said":       {nil, "CAP_NET_RAW", 13, ""},
		"no capabilities":    {&corev1.SecurityContext{}, "CAP_NET_RAW", 13, ""},
		"another one":        {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("SYS_TIME")}}, "CAP_NET_RAW", 14, ""},
		"raw":                {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("NET_RAW")}}, "CAP_NET_RAW", 13, "CAP_NET_RAW"},
		"admin, odd":         {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("cap_net_admin", "Net_Raw")}}, both, 13, both},
		"all":                {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("ALL")}}, both, 39, both},
		"all, lower":         {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("all")}}, both, 39, both},
		"all but raw":        {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("ALL"), Drop: list("CAP_NET_RAW")}}, "CAP_NET_ADMIN", 39, "CAP_NET_ADMIN"},
		"only these":         {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("NET_ADMIN", "CAP_NET_RAW"), Drop: list("all")}}, both, 0, both},
		"nothing but ports":  {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("NET_BIND_SERVICE"), Drop: list("ALL")}}, "", 1, ""},
		"added and dropped":  {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("NET_RAW"), Drop: list("NET_RAW")}}, "", 13, ""},
		"dropped":            {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Drop: list("net_raw")}}, "", 13, ""},
		"privileged":         {&corev1.SecurityContext{Privileged: ptr.To(true)}, both, 39, both},
		"privileged, drops":  {&corev1.SecurityContext{Privileged: ptr.To(true), Capabilities: &corev1.Capabilities{Drop: list("ALL")}}, both, 39, both},
		"broadcast is spare": {&corev1.SecurityContext{Capabilities: &corev1.Capabilities{Add: list("NET_BROADCAST"), Drop: list("ALL")}}, "", 1, ""},
	} {
		for _, host := range []bool{true, false} {
			for _, class := range []runner.Class{runner.Sandbox, runner.Host} {
				in := testInput(corev1.Container{Name: "c", Command: []string{"x"}, SecurityContext: test.sc})
				in.Pod.Spec.HostNetwork, in.Class = host, class
				spec, err := New(in, api)
				if err != nil {
					t.Fatal(err)
				}
				owns := host || class == runner.Host
				want, withheld := test.want, ""
				if !owns {
					want, withheld = "", test.withheld
				}
				var got []string
				for _, c := range []string{"CAP_NET_ADMIN", "CAP_NET_RAW"} {
					if slices.Contains(spec.Capabilities, c) {
						got = append(got, c)
					}
				}
				// Of class host it is another test what is taken away.
				if class == runner.Sandbox && (strings.Join(got, " ") != want || len(spec.Capabilities)-len(got) != test.others) {
					t.Errorf("%s, hostNetwork %v, class %s: got %q", name, host, class, spec.Capabilities)
				}
				if got := strings.Join(Withheld(in), " "); got != withheld {
					t.Errorf("%s, hostNetwork %v, class %s: withheld %q, want %q", name, host, class, got, withheld)
				}
			}
		}
	}
}

func TestResources(t *testing.T) {
	t.Parallel()
	list := func(cpu, memory string) corev1.ResourceList {
		out := corev1.ResourceList{}
		if cpu != "" {
			out["cpu"] = resource.MustParse(cpu)
		}
		if memory != "" {
			out["memory"] = resource.MustParse(memory)
		}
		return out
	}
	for _, test := range []struct {
		requests, limits corev1.ResourceList
		want             runner.Resources
	}{
		{want: runner.Resources{}},
		{requests: list("100m", "1Mi"), want: runner.Resources{CPUShares: 102}},
		{requests: list("1m", ""), want: runner.Resources{CPUShares: 2}},
		{requests: list("1000", ""), want: runner.Resources{CPUShares: 262144}},
		{limits: list("2", "64Mi"), want: runner.Resources{CPUShares: 2048, CPUQuota: 200000, CPUPeriod: 100000, MemoryLimit: 64 << 20}},
		{requests: list("500m", ""), limits: list("5m", ""), want: runner.Resources{CPUShares: 512, CPUQuota: 1000, CPUPeriod: 100000}},
	} {
		if got := Resources(&corev1.ResourceRequirements{Requests: test.requests, Limits: test.limits}); got != test.want {
			t.Errorf("%v %v: got %+v, want %+v", test.requests, test.limits, got, test.want)
		}
	}
}

func TestUsers(t *testing.T) {
	t.Parallel()
	type result struct {
		uid, gid uint32
		groups   []uint32
	}
	strict := corev1.SupplementalGroupsPolicyStrict
	for name, test := range map[string]struct {
		image string
		pod   *corev1.PodSecurityContext
		own   *corev1.SecurityContext
		want  result
		err   string
	}{
		"root":             {want: result{0, 0, []uint32{0}}},
		"image":            {image: "app", want: result{1000, 1000, []uint32{1000, 7}}},
		"pod":              {pod: &corev1.PodSecurityContext{RunAsUser: ptr.To[int64](1000)}, want: result{1000, 1000, []uint32{1000, 7}}},
		"own":              {image: "app", own: &corev1.SecurityContext{RunAsUser: ptr.To[int64](1000), RunAsGroup: ptr.To[int64](5)}, want: result{1000, 5, []uint32{5, 7}}},
		"groups":           {image: "app", pod: &corev1.PodSecurityContext{FSGroup: ptr.To[int64](9), SupplementalGroups: []int64{7, 8}}, want: result{1000, 1000, []uint32{1000, 7, 8, 9}}},
		"strict":           {image: "app", pod: &corev1.PodSecurityContext{SupplementalGroups: []int64{8}, SupplementalGroupsPolicy: &strict}, want: result{1000, 1000, []uint32{1000, 8}}},
		"unknown user":     {image: "nobody-here", err: "unable to find user nobody-here"},
		"numeric image":    {image: "1000", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, want: result{1000, 1000, []uint32{1000, 7}}},
		"must not be 0":    {own: &corev1.SecurityContext{RunAsUser: ptr.To[int64](0), RunAsNonRoot: ptr.To(true)}, err: `container's runAsUser breaks non-root policy (pod: "p_ns(u)", container: c)`},
		"image is root":    {pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, err: `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`},
		"becomes root":     {image: "1666", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, err: `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`},
		"becomes another":  {own: &corev1.SecurityContext{RunAsUser: ptr.To[int64](1666)}, err: `runAsUser 1666 is user 0 of the image`},
		"zero in disguise": {image: "+00:5", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, err: `container has runAsNonRoot and image will run as root (pod: "p_ns(u)", container: c)`},
		"hexadecimal":      {image: "0x0", pod: &corev1.PodSecurityContext{RunAsNonRoot: ptr.To(true)}, err: `container has runAsNonRoot and image has non-numeric user (0x0), cannot verify user is non-root (pod: "p_ns(u)", container: c)`},
		"name is unknown":  {image: "app", own: &corev1.SecurityContext{RunAsNonRoot: ptr.To(true)}, err: `container has runAsNonRoot and image has non-numeric user (app), cannot verify user is non-root (pod: "p_ns(u)", container: c)`},
	} {
		in := testInput(corev1.Container{Name: "c", SecurityContext: test.own})
		in.Pod.Spec.SecurityContext, in.ImageUser = test.pod, test.image
		spec, err := New(in, api)
		if err != nil {
			if err.Error() != test.err {
				t.Errorf("%s: got error %q, want %q", name, err, test.err)
			}
			continue
		}
		if got := (result{*spec.UID, *spec.GID, spec.Groups}); test.err != "" || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, want %+v %s", name, got, test.want, test.err)
		}
	}
}

func TestSpec(t *testing.T) {
	t.Parallel()
	in := testInput(corev1.Container{
		Name: "c", Env: []corev1.EnvVar{{Name: "A", Value: "1"}, {Name: "B", Value: "own"}}, TTY: true,
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeUnconfined},
		},
	})
	in.ImageEnv, in.WorkingDir = []string{"PATH=/bin", "B=image"}, "/srv"
	spec, err := New(in, api)
	if err != nil {
		t.Fatal(err)
	}
	if want := []string{"HOME=/root", "PATH=/bin", "A=1", "B=own"}; !slices.Equal(spec.Env, want) {
		t.Errorf("env: got %q, want %q", spec.Env, want)
	}
	if spec.Dir != "/srv" || !spec.ReadOnlyRoot || spec.AllowPrivilegeEscalation || !spec.SeccompUnconfined || spec.Privileged || len(spec.Capabilities) != 13 || spec.UnmaskedProc {
		t.Errorf("got %+v", spec)
	}

	in = testInput(corev1.Container{SecurityContext: &corev1.SecurityContext{ProcMount: ptr.To(corev1.UnmaskedProcMount)}})
	in.PodPids = 77
	if spec, err = New(in, api); err != nil || !spec.UnmaskedProc || spec.PodPids != 77 {
		t.Errorf("unmasked: got %+v, %v", spec, err)
	}

	in = testInput(corev1.Container{SecurityContext: &corev1.SecurityContext{Privileged: ptr.To(true)}})
	if spec, err = New(in, api); err != nil || !spec.Privileged || !spec.AllowPrivilegeEscalation || !spec.SeccompUnconfined {
		t.Errorf("privileged: got %+v, %v", spec, err)
	}

	in = testInput(corev1.Container{})
	in.Class, in.Entrypoint = runner.Host, nil
	if _, err := New(in, api); err == nil || !strings.Contains(err.Error(), "the container needs a command") {
		t.Errorf("host without a command: got %v", err)
	}
}
