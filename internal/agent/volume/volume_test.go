package volume

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	certificatesv1 "k8s.io/api/certificates/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/network"
	"github.com/sampan-batch/sampan/internal/agent/runspec"
	"github.com/sampan-batch/sampan/internal/runner"
	"github.com/sampan-batch/sampan/internal/runner/hostpath"
	"github.com/sampan-batch/sampan/internal/runner/reap"
)

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

func (o objects) Claim(name string) (*corev1.PersistentVolumeClaim, error) {
	if c, ok := o[name].(*corev1.PersistentVolumeClaim); ok {
		return c, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("persistentvolumeclaim"), name)
}

func (o objects) Volume(name string) (*corev1.PersistentVolume, error) {
	if v, ok := o[name].(*corev1.PersistentVolume); ok {
		return v, nil
	}
	return nil, apierrors.NewNotFound(corev1.Resource("persistentvolume"), name)
}

func (o objects) TrustBundle(name string) (*certificatesv1.ClusterTrustBundle, error) {
	if b, ok := o[name].(*certificatesv1.ClusterTrustBundle); ok {
		return b, nil
	}
	return nil, apierrors.NewNotFound(certificatesv1.Resource("clustertrustbundle"), name)
}

func (o objects) TrustBundles(signer string) (list []*certificatesv1.ClusterTrustBundle, err error) {
	for _, name := range slices.Sorted(maps.Keys(o)) {
		if b, ok := o[name].(*certificatesv1.ClusterTrustBundle); ok && b.Spec.SignerName == signer {
			list = append(list, b)
		}
	}
	return list, nil
}

// newPod returns a pod with one volume, v, in a directory of the test.
func newPod(t *testing.T, api objects, src corev1.VolumeSource) *Pod {
	t.Helper()
	return &Pod{
		Class: runner.Sandbox, Objects: api, Addresses: network.Addresses{Pod: []string{"192.0.2.1"}, Node: []string{"192.0.2.1"}},
		Object: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"a": "1"}},
			Spec: corev1.PodSpec{
				Volumes:    []corev1.Volume{{Name: "v", VolumeSource: src}},
				Containers: []corev1.Container{{Name: "c"}},
			},
		},
	}
}

// volumes is a runner of which only the volumes matter.
type volumes map[string]*runner.Volume

func (vs volumes) SetVolume(_ context.Context, v *runner.Volume) error {
	vs[v.Name] = v
	return nil
}

// setup has the pod's volumes made and returns v, nil if there is none.
func setup(t *testing.T, p *Pod) (*runner.Volume, error) {
	t.Helper()
	vs := volumes{}
	err := p.Setup(t.Context(), vs)
	return vs["v"], err
}

// show returns the files of a volume, as "path mode content".
func show(v *runner.Volume) []string {
	var out []string
	for _, path := range slices.Sorted(maps.Keys(v.Files)) {
		f := v.Files[path]
		out = append(out, fmt.Sprintf("%s %o %s", path, f.Mode, f.Data))
	}
	return out
}

func TestConfigMap(t *testing.T) {
	t.Parallel()
	api := objects{"cm": &corev1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {3}}}}
	p := newPod(t, api, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, DefaultMode: ptr.To[int32](0o440),
	}})
	v, err := setup(t, p)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := show(v), []string{"a 440 1", "b 440 2", "c 440 \x03"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	v.Files = nil
	if want := (runner.Volume{Class: runner.Sandbox, PodUID: "u", Name: "v", Mode: 0o755}); !reflect.DeepEqual(*v, want) {
		t.Errorf("got %+v, want %+v", *v, want)
	}
	api["cm"] = &corev1.ConfigMap{}
	if v, err := setup(t, p); err != nil || v.Files == nil || len(v.Files) > 0 {
		t.Errorf("a volume that shows nothing: %+v, %v", v, err)
	}
}

func TestItemsAndOptional(t *testing.T) {
	t.Parallel()
	api := objects{"s": &corev1.Secret{Data: map[string][]byte{"a": []byte("1"), "b": []byte("2")}}}
	secret := func(optional *bool, name string, items ...corev1.KeyToPath) corev1.VolumeSource {
		return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: name, Items: items, Optional: optional}}
	}
	yes := ptr.To(true)
	for name, test := range map[string]struct {
		src  corev1.VolumeSource
		want []string
		err  string
	}{
		"items":          {src: secret(nil, "s", corev1.KeyToPath{Key: "a", Path: "x/y", Mode: ptr.To[int32](0o600)}), want: []string{"x/y 600 1"}},
		"missing key":    {src: secret(nil, "s", corev1.KeyToPath{Key: "no", Path: "x"}), err: `MountVolume.SetUp failed for volume "v" : references non-existent secret key: no`},
		"optional key":   {src: secret(yes, "s", corev1.KeyToPath{Key: "no", Path: "x"}, corev1.KeyToPath{Key: "b", Path: "y"}), want: []string{"y 644 2"}},
		"missing secret": {src: secret(nil, "no"), err: `MountVolume.SetUp failed for volume "v" : secret "no" not found`},
		"optional":       {src: secret(yes, "no")},
		"out of the volume": {src: secret(nil, "s", corev1.KeyToPath{Key: "a", Path: "../x"}),
			err: `MountVolume.SetUp failed for volume "v" : invalid path "../x" in a volume`},
		"claim": {src: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}},
			err: `MountVolume.SetUp failed for volume "v" : error processing PVC ns/x: failed to fetch PVC from API server: persistentvolumeclaim "x" not found`},
	} {
		p := newPod(t, api, test.src)
		v, err := setup(t, p)
		if err != nil {
			if err.Error() != test.err {
				t.Errorf("%s: got error %q, want %q", name, err, test.err)
			}
			continue
		}
		if got := show(v); test.err != "" || !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q %s", name, got, test.want, test.err)
		}
	}
}

func TestProjected(t *testing.T) {
	t.Parallel()
	api := objects{
		"cm": &corev1.ConfigMap{Data: map[string]string{"a": "1"}},
		"s":  &corev1.Secret{Data: map[string][]byte{"b": []byte("2")}},
	}
	src := &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{
		{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}},
		{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}},
		{DownwardAPI: &corev1.DownwardAPIProjection{Items: []corev1.DownwardAPIVolumeFile{
			{Path: "meta/labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}},
			{Path: "meta/cpu", ResourceFieldRef: &corev1.ResourceFieldSelector{ContainerName: "c", Resource: "limits.cpu", Divisor: resource.MustParse("1m")}},
		}}},
	}}
	p := newPod(t, api, corev1.VolumeSource{Projected: src})
	p.Object.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
	v, err := setup(t, p)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"a 644 1", "b 644 2", "meta/cpu 644 1000", `meta/labels 644 a="1"`}
	if got := show(v); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A token is for its pod's user only, if the pod has one.
func TestToken(t *testing.T) {
	t.Parallel()
	as := func(user int64) *corev1.SecurityContext { return &corev1.SecurityContext{RunAsUser: &user} }
	for name, test := range map[string]struct {
		pod        *corev1.PodSecurityContext
		containers []*corev1.SecurityContext
		mode       uint32
		uid        int64 // -1: root
	}{
		"nobody in particular":    {nil, []*corev1.SecurityContext{nil, nil}, 0o644, -1},
		"of the pod":              {&corev1.PodSecurityContext{RunAsUser: ptr.To[int64](7)}, []*corev1.SecurityContext{nil, nil}, 0o600, 7},
		"of each container":       {nil, []*corev1.SecurityContext{as(8), as(8)}, 0o600, 8},
		"of one container":        {nil, []*corev1.SecurityContext{as(8), nil}, 0o644, -1},
		"of another container":    {nil, []*corev1.SecurityContext{nil, as(8)}, 0o644, -1},
		"each another":            {nil, []*corev1.SecurityContext{as(8), as(9)}, 0o644, -1},
		"a group":                 {&corev1.PodSecurityContext{FSGroup: ptr.To[int64](5)}, []*corev1.SecurityContext{nil}, 0o640, -1},
		"the container's, not so": {&corev1.PodSecurityContext{RunAsUser: ptr.To[int64](7)}, []*corev1.SecurityContext{as(8)}, 0o600, 8},
	} {
		src := &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "a/token"}}}}
		object := &corev1.Pod{Spec: corev1.PodSpec{SecurityContext: test.pod, Volumes: []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: src}}}}}
		for _, sc := range test.containers {
			object.Spec.Containers = append(object.Spec.Containers, corev1.Container{SecurityContext: sc})
		}
		p := &Pod{Object: object, Token: func(*corev1.ServiceAccountTokenProjection) (string, error) { return "secret", nil }}
		v, err := p.Volume(&object.Spec.Volumes[0])
		if err != nil {
			t.Fatal(err)
		}
		f := v.Files["a/token"]
		uid := int64(-1)
		if f.UID != nil {
			uid = int64(*f.UID)
		}
		if string(f.Data) != "secret" || f.Mode != test.mode || uid != test.uid || !v.Memory {
			t.Errorf("%s: %q mode %o uid %d, in memory: %v", name, f.Data, f.Mode, uid, v.Memory)
		}
		p.Token = func(*corev1.ServiceAccountTokenProjection) (string, error) { return "", errors.New("no") }
		if _, err := p.Volume(&object.Spec.Volumes[0]); err == nil {
			t.Errorf("%s: a volume without its token", name)
		}
	}
}

// What is secret is kept in memory, and nothing else but what asks for it.
// TestTooLarge: a manifest that asks for the same megabyte again and again is refused before
// it has taken the node's memory.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", 1<<20)
	api := objects{"cm": &corev1.ConfigMap{Data: map[string]string{"k": large}}, "s": &corev1.Secret{Data: map[string][]byte{"k": []byte(large)}}}
	name := corev1.LocalObjectReference{Name: "cm"}
	var sources []corev1.VolumeProjection
	var items []corev1.KeyToPath
	var fields []corev1.DownwardAPIVolumeFile
	for i := range 12 {
		path := fmt.Sprint(i)
		items = append(items, corev1.KeyToPath{Key: "k", Path: path})
		sources = append(sources, corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: name, Items: []corev1.KeyToPath{{Key: "k", Path: path}}}})
		fields = append(fields, corev1.DownwardAPIVolumeFile{Path: path, FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['large']"}})
	}
	for kind, of := range map[string]func(n int) corev1.VolumeSource{
		"configMap": func(n int) corev1.VolumeSource {
			return corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: name, Items: items[:n]}}
		},
		"secret": func(n int) corev1.VolumeSource {
			return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", Items: items[:n]}}
		},
		"projected": func(n int) corev1.VolumeSource {
			return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: sources[:n]}}
		},
		"downwardAPI": func(n int) corev1.VolumeSource {
			return corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: fields[:n]}}
		},
	} {
		for n, fits := range map[int]bool{10: true, 12: false} {
			p := newPod(t, api, of(n))
			p.Object.Annotations = map[string]string{"large": large}
			switch v, err := setup(t, p); {
			case fits && (err != nil || len(v.Files) != n):
				t.Errorf("%s, %d MB: %v", kind, n, err)
			case !fits && (v != nil || !errors.Is(err, errTooLarge) || strings.Count(err.Error(), "MiB") != 1):
				t.Errorf("%s, %d MB: %v", kind, n, err)
			}
		}
	}
}

func TestMemory(t *testing.T) {
	t.Parallel()
	api := objects{"cm": &corev1.ConfigMap{}, "s": &corev1.Secret{}}
	projected := func(s corev1.VolumeProjection) corev1.VolumeSource {
		return corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{Sources: []corev1.VolumeProjection{s}}}
	}
	config := corev1.LocalObjectReference{Name: "cm"}
	for name, test := range map[string]struct {
		src  corev1.VolumeSource
		want bool
	}{
		"secret":            {corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}, true},
		"config":            {corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: config}}, false},
		"downward":          {corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{}}, false},
		"empty":             {corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, false},
		"empty in memory":   {corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}}, true},
		"projected config":  {projected(corev1.VolumeProjection{ConfigMap: &corev1.ConfigMapProjection{LocalObjectReference: config}}), false},
		"projected secret":  {projected(corev1.VolumeProjection{Secret: &corev1.SecretProjection{LocalObjectReference: corev1.LocalObjectReference{Name: "s"}}}), true},
		"projected nothing": {projected(corev1.VolumeProjection{}), false},
	} {
		v, err := setup(t, newPod(t, api, test.src))
		if err != nil || v.Memory != test.want || v.Size != 0 {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
	token := projected(corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{}})
	if !secret(&corev1.Volume{VolumeSource: token}) {
		t.Error("a token is no secret")
	}
}

func TestEmptyDir(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		src  corev1.EmptyDirVolumeSource
		want runner.Volume
		err  string
	}{
		{want: runner.Volume{Mode: 0o777}},
		{src: corev1.EmptyDirVolumeSource{Mode: ptr.To[int32](0o1700)}, want: runner.Volume{Mode: 0o1700}},
		{src: corev1.EmptyDirVolumeSource{Medium: "HugePages"}, err: `emptyDir medium "HugePages" is not supported by this node`},
	} {
		v, err := setup(t, newPod(t, nil, corev1.VolumeSource{EmptyDir: &test.src}))
		if test.err != "" {
			if err == nil || !strings.HasSuffix(err.Error(), test.err) {
				t.Errorf("got %v, want %s", err, test.err)
			}
			continue
		}
		test.want.Class, test.want.PodUID, test.want.Name = runner.Sandbox, "u", "v"
		if err != nil || !reflect.DeepEqual(*v, test.want) {
			t.Errorf("got %+v, %v, want %+v", v, err, test.want)
		}
	}
}

// A volume in memory may take the least of its own limit, the pod's memory and
// the node's.
func TestMemorySize(t *testing.T) {
	t.Parallel()
	container := func(memory string) corev1.Container {
		c := corev1.Container{}
		if memory != "" {
			c.Resources.Limits = corev1.ResourceList{"memory": resource.MustParse(memory)}
		}
		return c
	}
	sidecar := container("8Mi")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	for _, test := range []struct {
		name         string
		limit        string
		inits, mains []corev1.Container
		pod          string // limit of the pod as a whole
		allocatable  string
		want         int64 // MiB
	}{
		{name: "nothing is known", mains: []corev1.Container{container("")}},
		{name: "the node's", mains: []corev1.Container{container("")}, allocatable: "100Mi", want: 100},
		{name: "its own", mains: []corev1.Container{container("")}, allocatable: "100Mi", limit: "7Mi", want: 7},
		{name: "more than the node's", mains: []corev1.Container{container("")}, allocatable: "100Mi", limit: "200Mi", want: 100},
		{name: "the containers'", mains: []corev1.Container{container("20Mi"), container("10Mi")}, allocatable: "100Mi", want: 30},
		{name: "less than the containers'", mains: []corev1.Container{container("20Mi")}, allocatable: "100Mi", limit: "10Mi", want: 10},
		{name: "more than the containers'", mains: []corev1.Container{container("20Mi")}, allocatable: "100Mi", limit: "50Mi", want: 20},
		{name: "one has no limit", mains: []corev1.Container{container("20Mi"), container("")}, allocatable: "100Mi", want: 100},
		{name: "an init container has more", inits: []corev1.Container{container("40Mi")}, mains: []corev1.Container{container("20Mi")}, allocatable: "100Mi", want: 40},
		{name: "an init container has none", inits: []corev1.Container{container("")}, mains: []corev1.Container{container("20Mi")}, allocatable: "100Mi", want: 100},
		{name: "a sidecar", inits: []corev1.Container{sidecar}, mains: []corev1.Container{container("20Mi")}, allocatable: "100Mi", want: 28},
		{name: "the pod's", mains: []corev1.Container{container("")}, pod: "15Mi", allocatable: "100Mi", want: 15},
		{name: "a limit of 0 is none", mains: []corev1.Container{container("")}, limit: "0", allocatable: "100Mi", want: 100},
	} {
		src := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory}
		if test.limit != "" {
			src.SizeLimit = ptr.To(resource.MustParse(test.limit))
		}
		p := newPod(t, nil, corev1.VolumeSource{EmptyDir: src})
		p.Object.Spec.InitContainers, p.Object.Spec.Containers = test.inits, test.mains
		if test.pod != "" {
			p.Object.Spec.Resources = &corev1.ResourceRequirements{Limits: corev1.ResourceList{"memory": resource.MustParse(test.pod)}}
		}
		if test.allocatable != "" {
			p.Allocatable = corev1.ResourceList{"memory": resource.MustParse(test.allocatable)}
		}
		v, err := setup(t, p)
		if err != nil || v.Size != test.want<<20 || !v.Memory {
			t.Errorf("%s: %+v, %v, want %d MiB", test.name, v, err, test.want)
		}
	}
}

func TestFSGroup(t *testing.T) {
	t.Parallel()
	p := newPod(t, objects{"s": &corev1.Secret{Data: map[string][]byte{"a": nil}}},
		corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To[int32](0o400)}})
	p.Object.Spec.Volumes = append(p.Object.Spec.Volumes, corev1.Volume{Name: "e", VolumeSource: corev1.VolumeSource{
		EmptyDir: &corev1.EmptyDirVolumeSource{Mode: ptr.To[int32](0o700)}}})
	p.Object.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](4321)}
	vs := volumes{}
	if err := p.Setup(t.Context(), vs); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]uint32{"v": 0o2755, "e": 0o2770} {
		if v := vs[name]; v.Mode != mode || v.Group == nil || *v.Group != 4321 {
			t.Errorf("%s: %+v", name, v)
		}
	}
	if got := show(vs["v"]); !slices.Equal(got, []string{"a 440 "}) {
		t.Errorf("got %q", got)
	}
}

// hostPath checks a path as Setup does.
func hostPath(t *testing.T, src *corev1.HostPathVolumeSource) error {
	p := &Pod{Paths: hostpath.New(reap.New())}
	return p.hostPath(t.Context(), src)
}

func TestHostPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file, fresh := filepath.Join(dir, "f"), filepath.Join(dir, "new")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		kind corev1.HostPathType
		err  string
	}{
		{dir, corev1.HostPathUnset, ""},
		{dir, corev1.HostPathDirectory, ""},
		{file, corev1.HostPathFile, ""},
		{fresh, corev1.HostPathDirectory, "hostPath type check failed: " + fresh + " is not a directory"},
		{fresh + "1", corev1.HostPathDirectoryOrCreate, ""},
		{fresh + "2", corev1.HostPathFileOrCreate, ""},
		{fresh + "3", corev1.HostPathUnset, ""},
		{dir, corev1.HostPathFile, "hostPath type check failed: " + dir + " is not a file"},
		{file, corev1.HostPathSocket, "hostPath type check failed: " + file + " is not a socket file"},
		{"/dev/null", corev1.HostPathCharDev, ""},
		{"/dev/null", corev1.HostPathBlockDev, "hostPath type check failed: /dev/null is not a block device"},
	} {
		got := ""
		if err := hostPath(t, &corev1.HostPathVolumeSource{Path: test.path, Type: &test.kind}); err != nil {
			got = err.Error()
		}
		if got != test.err {
			t.Errorf("%s %q: got %q, want %q", test.path, test.kind, got, test.err)
		}
	}
}

// Neither a check nor the making of a file waits for a stranger.
func TestHostPathWaitsForNobody(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	fifo, link, fresh := filepath.Join(dir, "fifo"), filepath.Join(dir, "link"), filepath.Join(dir, "fresh")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(fresh, link); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		path string
		kind corev1.HostPathType
		err  string
	}{
		{fifo, corev1.HostPathFileOrCreate, "hostPath type check failed: " + fifo + " is not a file"},
		{fifo, corev1.HostPathFile, "hostPath type check failed: " + fifo + " is not a file"},
		{fifo, corev1.HostPathDirectoryOrCreate, "mkdir " + fifo + ": not a directory"},
		{fifo, corev1.HostPathSocket, "hostPath type check failed: " + fifo + " is not a socket file"},
		{fifo, corev1.HostPathCharDev, "hostPath type check failed: " + fifo + " is not a character device"},
		{fifo, corev1.HostPathBlockDev, "hostPath type check failed: " + fifo + " is not a block device"},
		{fifo, corev1.HostPathUnset, ""},
		{dir, corev1.HostPathFileOrCreate, "hostPath type check failed: " + dir + " is not a file"},
		{"/dev/null", corev1.HostPathFileOrCreate, "hostPath type check failed: /dev/null is not a file"},
		{link, corev1.HostPathFileOrCreate, ""}, // what it leads to is made
		{fifo + "/x", corev1.HostPathFileOrCreate, "stat " + fifo + "/x: not a directory"},
	} {
		done := make(chan error, 1)
		go func() { done <- hostPath(t, &corev1.HostPathVolumeSource{Path: test.path, Type: &test.kind}) }()
		select {
		case err := <-done:
			if got := fmt.Sprint(err); err == nil && test.err != "" || err != nil && got != test.err {
				t.Errorf("%s %q: got %v, want %q", test.path, test.kind, err, test.err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s %q: it waits", test.path, test.kind)
		}
	}
	if info, err := os.Stat(fresh); err != nil || !info.Mode().IsRegular() {
		t.Error(err)
	}
	// The attack works on an open that waits.
	opened := make(chan struct{})
	go func() {
		if f, err := os.OpenFile(fifo, os.O_RDONLY, 0); err == nil {
			f.Close()
		}
		close(opened)
	}()
	select {
	case <-opened:
		t.Error("opening a FIFO does not wait")
	case <-time.After(50 * time.Millisecond):
	}
	w, err := os.OpenFile(fifo, os.O_RDWR|unix.O_NONBLOCK, 0) // lets it go
	if err != nil {
		t.Fatal(err)
	}
	<-opened
	w.Close()
}

func TestMounts(t *testing.T) {
	t.Parallel()
	p := newPod(t, objects{}, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	p.Object.Spec.Volumes = append(p.Object.Spec.Volumes,
		corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}}},
		corev1.Volume{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	mounts, err := p.Mounts(&corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "v", MountPath: "/cm"},
		{Name: "v", MountPath: "etc/a", SubPath: "a"},
		{Name: "h", MountPath: "/h", ReadOnly: true, MountPropagation: ptr.To(corev1.MountPropagationHostToContainer)},
		{Name: "h", MountPath: "/h2", SubPath: "x/./y"},
		{Name: "e", MountPath: "/e"},
	}}, &runspec.Env{})
	if err != nil {
		t.Fatal(err)
	}
	want := []runner.Mount{
		{Volume: "v", Target: "/cm", ReadOnly: true},
		{Volume: "v", SubPath: "a", Target: "/etc/a", ReadOnly: true},
		{Volume: "h", Source: "/tmp", Target: "/h", ReadOnly: true, Recursive: true, Propagation: "HostToContainer"},
		{Volume: "h", Source: "/tmp", SubPath: "x/y", Target: "/h2", Recursive: true},
		{Volume: "e", Target: "/e"},
	}
	if !slices.Equal(mounts, want) {
		t.Errorf("got %+v, want %+v", mounts, want)
	}
	if _, err := p.Mounts(&corev1.Container{VolumeMounts: []corev1.VolumeMount{{Name: "no"}}}, &runspec.Env{}); err == nil {
		t.Error("a volume that there is not")
	}
}

func TestSubPath(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	env := &runspec.Env{}
	if err := env.Set("POD", "p1"); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct{ sub, expr, want, err string }{
		{sub: "a/b", want: "a/b"},
		{sub: ".", want: "."},
		{expr: "logs/$(POD)", want: "logs/p1"},
		{expr: "$(NO)", err: `missing value for "NO"`},
		{sub: "/etc", err: "must not be an absolute path"},
		{sub: "a/../../x", err: "must not contain '..'"},
	} {
		vm := corev1.VolumeMount{Name: "v", MountPath: "/m", SubPath: test.sub, SubPathExpr: test.expr}
		mounts, err := p.Mounts(&corev1.Container{Name: "c", VolumeMounts: []corev1.VolumeMount{vm}}, env)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) ||
				!strings.HasPrefix(err.Error(), `failed to prepare subPath for volumeMount "v" of container "c"`) {
				t.Errorf("%+v: got %v, %+v", test, err, mounts)
			}
			continue
		}
		if err != nil || mounts[0].SubPath != test.want {
			t.Errorf("%+v: got %+v, %v", test, mounts, err)
		}
	}
}
