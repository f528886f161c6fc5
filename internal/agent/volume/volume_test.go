package volume

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/agent/recipe"
	"github.com/sampan-batch/sampan/internal/runner"
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

// newPod returns a pod with one volume, v, in a directory of the test.
func newPod(t *testing.T, api objects, src corev1.VolumeSource) *Pod {
	t.Helper()
	return &Pod{
		Dir: filepath.Join(t.TempDir(), "pods", "u"), Objects: api, Now: time.Now, IPs: []string{"192.0.2.1"},
		Object: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", UID: "u", Labels: map[string]string{"a": "1"}},
			Spec: corev1.PodSpec{
				Volumes:    []corev1.Volume{{Name: "v", VolumeSource: src}},
				Containers: []corev1.Container{{Name: "c"}},
			},
		},
	}
}

func (p *Pod) dir() string { return p.path(&p.Object.Spec.Volumes[0]) }

// show returns the files that a container sees in dir, as "path mode content".
func show(t *testing.T, dir string) []string {
	t.Helper()
	var out []string
	var walk func(string)
	walk = func(rel string) {
		entries, err := os.ReadDir(filepath.Join(dir, rel))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(rel, e.Name())
			if strings.HasPrefix(e.Name(), "..") {
				continue
			}
			info, err := os.Stat(filepath.Join(dir, path))
			if err != nil {
				t.Fatal(err)
			}
			if info.IsDir() {
				walk(path)
				continue
			}
			data, _ := os.ReadFile(filepath.Join(dir, path))
			out = append(out, path+" "+info.Mode().String()+" "+string(data))
		}
	}
	walk("")
	return out
}

func TestConfigMap(t *testing.T) {
	t.Parallel()
	api := objects{"cm": &corev1.ConfigMap{Data: map[string]string{"a": "1", "b": "2"}, BinaryData: map[string][]byte{"c": {3}}}}
	p := newPod(t, api, corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}, DefaultMode: ptr.To[int32](0o440),
	}})
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	if got, want := show(t, p.dir()), []string{"a -r--r----- 1", "b -r--r----- 2", "c -r--r----- \x03"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	before, _ := os.Readlink(filepath.Join(p.dir(), dataLink))
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	if after, _ := os.Readlink(filepath.Join(p.dir(), dataLink)); after != before {
		t.Error("written again although nothing had changed")
	}
	open, err := os.Open(filepath.Join(p.dir(), "a"))
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	api["cm"] = &corev1.ConfigMap{Data: map[string]string{"a": "new", "d": "4"}}
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	if got, want := show(t, p.dir()), []string{"a -r--r----- new", "d -r--r----- 4"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if entries, _ := os.ReadDir(p.dir()); len(entries) != 4 { // ..data, its generation, a, d
		t.Errorf("left behind: %v", entries)
	}
	if info, err := os.Stat(p.Dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the pod's directory: %v %v", info.Mode(), err)
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
		"items":          {src: secret(nil, "s", corev1.KeyToPath{Key: "a", Path: "x/y", Mode: ptr.To[int32](0o600)}), want: []string{"x/y -rw------- 1"}},
		"missing key":    {src: secret(nil, "s", corev1.KeyToPath{Key: "no", Path: "x"}), err: `MountVolume.SetUp failed for volume "v" : references non-existent secret key: no`},
		"optional key":   {src: secret(yes, "s", corev1.KeyToPath{Key: "no", Path: "x"}, corev1.KeyToPath{Key: "b", Path: "y"}), want: []string{"y -rw-r--r-- 2"}},
		"missing secret": {src: secret(nil, "no"), err: `MountVolume.SetUp failed for volume "v" : secret "no" not found`},
		"optional":       {src: secret(yes, "no")},
		"out of the volume": {src: secret(nil, "s", corev1.KeyToPath{Key: "a", Path: "../x"}),
			err: `MountVolume.SetUp failed for volume "v" : invalid path "../x" in a volume`},
		"claim": {src: corev1.VolumeSource{PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: "x"}},
			err: `MountVolume.SetUp failed for volume "v" : volumes of type persistentVolumeClaim are not supported by this node`},
	} {
		p := newPod(t, api, test.src)
		err := p.Setup()
		if err != nil {
			if err.Error() != test.err {
				t.Errorf("%s: got error %q, want %q", name, err, test.err)
			}
			continue
		}
		if got := show(t, p.dir()); test.err != "" || !slices.Equal(got, test.want) {
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
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	want := []string{"a -rw-r--r-- 1", "b -rw-r--r-- 2", "meta/cpu -rw-r--r-- 1000", `meta/labels -rw-r--r-- a="1"`}
	if got := show(t, p.dir()); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	src.Sources = append(src.Sources, corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{Path: "token"}})
	if err := p.Setup(); err == nil || !strings.Contains(err.Error(), "serviceAccountToken sources are not supported") {
		t.Errorf("got %v", err)
	}
}

func TestEmptyDir(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(p.dir()); info.Mode().Perm() != 0o777 {
		t.Errorf("mode %v", info.Mode())
	}
	os.WriteFile(filepath.Join(p.dir(), "kept"), nil, 0o600)
	if err := p.Setup(); err != nil { // after a restart of the node
		t.Fatal(err)
	}
	if len(show(t, p.dir())) != 1 {
		t.Error("what was in the volume is gone")
	}

	p = newPod(t, nil, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
		Medium: corev1.StorageMediumMemory, SizeLimit: ptr.To(resource.MustParse("1Mi")),
	}})
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	mounts, err := p.Mounts(&corev1.Container{VolumeMounts: []corev1.VolumeMount{{Name: "v", MountPath: "/m"}}}, &recipe.Env{})
	want := runner.Mount{Source: p.dir(), Target: "/m", Tmpfs: true, TmpfsSize: 1 << 20}
	if err != nil || len(mounts) != 1 || mounts[0] != want {
		t.Errorf("got %+v, %v", mounts, err)
	}
	if p.tmpfsSize(&corev1.EmptyDirVolumeSource{}) != 0 {
		t.Error("a volume without any limit has one")
	}
}

func TestFSGroup(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("only root can give files to a group")
	}
	p := newPod(t, objects{"s": &corev1.Secret{Data: map[string][]byte{"a": nil}}},
		corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s", DefaultMode: ptr.To[int32](0o400)}})
	p.Object.Spec.Volumes = append(p.Object.Spec.Volumes, corev1.Volume{Name: "e", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
	p.Object.Spec.SecurityContext = &corev1.PodSecurityContext{FSGroup: ptr.To[int64](4321)}
	for range 2 { // the second one must find nothing to do
		if err := p.Setup(); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{
		filepath.Join(p.dir(), "a"):       0o440,
		p.path(&p.Object.Spec.Volumes[1]): 0o777 | os.ModeSetgid | os.ModeDir,
	} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode() != mode || groupOf(info) != 4321 {
			t.Errorf("%s: %v, group %d", path, info.Mode(), groupOf(info))
		}
	}
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
		if err := hostPath(&corev1.HostPathVolumeSource{Path: test.path, Type: &test.kind}); err != nil {
			got = err.Error()
		}
		if got != test.err {
			t.Errorf("%s %q: got %q, want %q", test.path, test.kind, got, test.err)
		}
	}
}

func TestSubPath(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	env := &recipe.Env{}
	env.Set("POD", "p1")
	for link, to := range map[string]string{"in": "real", "abs": "/etc", "up": "../../..", "in2": "in/deep"} {
		if err := os.Symlink(to, filepath.Join(p.dir(), link)); err != nil {
			t.Fatal(err)
		}
	}
	os.MkdirAll(filepath.Join(p.dir(), "real/deep"), 0o755)
	for _, test := range []struct{ sub, expr, want, err string }{
		{sub: "a/b", want: "a/b"},
		{sub: "in", want: "real"},
		{sub: "in2", want: "real/deep"},
		{sub: "in/new", want: "real/new"},
		{expr: "logs/$(POD)", want: "logs/p1"},
		{expr: "$(NO)", err: `missing value for "NO"`},
		{sub: "/etc", err: "must not be an absolute path"},
		{sub: "a/../../x", err: "must not contain '..'"},
		{sub: "abs", err: "escapes"},
		{sub: "abs/passwd", err: "escapes"},
		{sub: "up", err: "escapes"},
		{sub: "up/x", err: "escapes"},
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
		if err != nil || mounts[0].Source != filepath.Join(p.dir(), test.want) || mounts[0].Within != p.dir() {
			t.Errorf("%+v: got %+v, %v", test, mounts, err)
			continue
		}
		if info, err := os.Stat(mounts[0].Source); err != nil || test.want != "real" && test.want != "real/deep" && info.Mode().Perm() != 0o777 {
			t.Errorf("%+v: %v %v", test, info, err)
		}
	}
}

func TestMounts(t *testing.T) {
	t.Parallel()
	p := newPod(t, objects{"cm": &corev1.ConfigMap{Data: map[string]string{"a": "1"}}},
		corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{LocalObjectReference: corev1.LocalObjectReference{Name: "cm"}}})
	p.Object.Spec.Volumes = append(p.Object.Spec.Volumes,
		corev1.Volume{Name: "h", VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/tmp"}}})
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	mounts, err := p.Mounts(&corev1.Container{VolumeMounts: []corev1.VolumeMount{
		{Name: "v", MountPath: "/cm"},
		{Name: "v", MountPath: "etc/a", SubPath: "a"},
		{Name: "h", MountPath: "/h", ReadOnly: true, MountPropagation: ptr.To(corev1.MountPropagationHostToContainer)},
	}}, &recipe.Env{})
	if err != nil {
		t.Fatal(err)
	}
	generation, _ := os.Readlink(filepath.Join(p.dir(), dataLink))
	want := []runner.Mount{
		{Source: p.dir(), Target: "/cm", ReadOnly: true},
		{Source: filepath.Join(p.dir(), generation, "a"), Within: p.dir(), Target: "/etc/a", ReadOnly: true},
		{Source: "/tmp", Target: "/h", ReadOnly: true, Recursive: true, Propagation: "HostToContainer"},
	}
	if !slices.Equal(mounts, want) {
		t.Errorf("got %+v, want %+v", mounts, want)
	}
}

func TestOverfull(t *testing.T) {
	t.Parallel()
	p := newPod(t, nil, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("1Mi"))}})
	if !Limited(p.Object) {
		t.Error("not limited")
	}
	if err := p.Setup(); err != nil {
		t.Fatal(err)
	}
	if got := p.Overfull(); got != "" {
		t.Errorf("empty, but %q", got)
	}
	os.MkdirAll(filepath.Join(p.dir(), "a"), 0o755)
	if err := os.WriteFile(filepath.Join(p.dir(), "a", "b"), make([]byte, 2<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, want := p.Overfull(), `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
