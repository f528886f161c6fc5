package agent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/runner"
)

func (b *bench) setConfig(name string, data map[string]string) {
	b.fakeClient.mu.Lock()
	defer b.fakeClient.mu.Unlock()
	b.configs[name] = &corev1.ConfigMap{Data: data}
}

func TestVolumeAppearsAndChanges(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Labels = map[string]string{"a": "1"}
			p.Spec.Volumes = []corev1.Volume{
				{Name: "cfg", VolumeSource: corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
					LocalObjectReference: corev1.LocalObjectReference{Name: "cfg"},
				}}},
				{Name: "meta", VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
					Items: []corev1.DownwardAPIVolumeFile{{Path: "labels", FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.labels"}}},
				}}},
			}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "cfg", MountPath: "/cfg"}, {Name: "meta", MountPath: "/meta"}}
		}))
		after(time.Second)
		b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
		if got := condition(b.get("p"), corev1.PodReadyToStartContainers); got != "False" {
			t.Errorf("got %q", got)
		}
		b.wantEvents(`FailedMount: MountVolume.SetUp failed for volume "cfg" : configmap "cfg" not found`)
		if n := len(slices.DeleteFunc(b.events(), func(s string) bool { return !strings.HasPrefix(s, "FailedMount") })); n != 1 {
			t.Errorf("noted %d times", n)
		}
		b.setConfig("cfg", map[string]string{"k": "v1"})
		after(5 * time.Second)
		b.want("p", corev1.PodRunning)
		mounts := b.run.specs[0].Mounts
		read := func(i int, name string) string {
			v, _ := b.run.Volume("uid-p", mounts[i].Volume)
			return string(v.Files[name].Data)
		}
		if got := read(0, "k"); got != "v1" {
			t.Errorf("got %q", got)
		}
		b.setConfig("cfg", map[string]string{"k": "soon"})
		after(10 * time.Second)
		if got := read(0, "k"); got != "soon" {
			t.Errorf("after a change soon after the start: got %q", got)
		}
		b.setConfig("cfg", map[string]string{"k": "v2"})
		after(61 * time.Second)
		if got := read(0, "k"); got != "v2" {
			t.Errorf("after a change: got %q", got)
		}
		next := b.get("p").DeepCopy()
		next.Labels["a"] = "2"
		b.put(next)
		after(time.Second)
		if got := read(1, "labels"); got != `a="2"` {
			t.Errorf("after a change of labels: got %q", got)
		}
		b.kill("p", 0)
		after(5 * time.Second)
		if _, ok := b.run.Volume("uid-p", "cfg"); ok {
			t.Error("the volumes are still there")
		}
	})
}

// When the supervisor dies, what was in memory is made again before a container
// is started again.
func TestVolumeInMemoryIsLost(t *testing.T) {
	story(t, func(b *bench) {
		b.fakeClient.secrets["s"] = &corev1.Secret{Data: map[string][]byte{"k": []byte("v")}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			p.Spec.Volumes = []corev1.Volume{{Name: "s", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: "s"}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "s", MountPath: "/s"}}
		}))
		after(5 * time.Second)
		b.want("p", corev1.PodRunning)
		b.run.Lose()
		after(5 * time.Second)
		b.want("p", corev1.PodRunning, "c", "running ready=true restarts=1")
		if v, _ := b.run.Volume("uid-p", "s"); string(v.Files["k"].Data) != "v" || !v.Memory {
			t.Errorf("got %+v", v)
		}
	})
}

// What a former run of the node has left of pods that nobody has any more, is
// removed, even if none of their containers is left.
func TestVolumesOfFormerPods(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
		}))
		after(5 * time.Second)
		b.stop()
		for _, uid := range []string{"uid-gone", "uid-p"} {
			if err := b.run.SetVolume(context.Background(), &runner.Volume{PodUID: uid, Name: "v"}); err != nil {
				t.Fatal(err)
			}
		}
		b.boot()
		after(5 * time.Second)
		if _, ok := b.run.Volume("uid-gone", "v"); ok {
			t.Error("it is still there")
		}
		if _, ok := b.run.Volume("uid-p", "v"); !ok {
			t.Error("a living pod has lost its volume")
		}
	})
}

func TestUnsupportedVolume(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{NFS: &corev1.NFSVolumeSource{}}}}
			p.Spec.Volumes[0].NFS.Path = "/x"
		}))
		after(time.Minute)
		b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
		b.wantEvents(`FailedMount: MountVolume.SetUp failed for volume "v" : volumes of type nfs are not supported by this node`)
		b.kill("p", -1)
		after(time.Second)
		if b.get("p") != nil {
			t.Error("cannot be deleted")
		}
	})
}

func TestVolumeOutgrowsItsLimit(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RestartPolicy = corev1.RestartPolicyAlways
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				EmptyDir: &corev1.EmptyDirVolumeSource{SizeLimit: ptr.To(resource.MustParse("64Ki"))},
			}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}))
		after(25 * time.Second)
		b.want("p", corev1.PodRunning)
		b.run.SetUsage("uid-p", runner.PodUsage{Volumes: map[string]runner.DiskUsage{"v": {Bytes: 128 << 10, Inodes: 2}}})
		after(11 * time.Second)
		b.want("p", corev1.PodFailed, "c", "ended 143 Error restarts=0")
		message := `Usage of EmptyDir volume "v" exceeds the limit "64Ki". `
		if s := b.get("p").Status; s.Reason != "Evicted" || s.Message != message {
			t.Errorf("got %s %s", s.Reason, s.Message)
		}
		b.wantEvents("Evicted: "+message, "Killing: Stopping container c")
	})
}

func TestNamesFiles(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.HostAliases = []corev1.HostAlias{{IP: "192.0.2.9", Hostnames: []string{"db", "db.local"}}}
			p.Spec.DNSPolicy = corev1.DNSNone
			p.Spec.DNSConfig = &corev1.PodDNSConfig{
				Nameservers: []string{"192.0.2.53"}, Searches: []string{"a.test"},
				Options: []corev1.PodDNSConfigOption{{Name: "ndots", Value: ptr.To("2")}, {Name: "edns0"}},
			}
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: "X", Value: "1"}}
		}))
		after(time.Second)
		spec := b.run.specs[0]
		file := func(target string) string {
			i := slices.IndexFunc(spec.Mounts, func(m runner.Mount) bool { return m.Target == target })
			if i < 0 {
				t.Fatalf("%s is not mounted", target)
			}
			data, _ := os.ReadFile(spec.Mounts[i].Source)
			return string(data)
		}
		if got := file("/etc/hosts"); !strings.Contains(got, "\n192.0.2.1\tp\n") || !strings.HasSuffix(got, "\n192.0.2.9\tdb\tdb.local\n") {
			t.Errorf("hosts: %q", got)
		}
		if got, want := file("/etc/resolv.conf"), "search a.test\nnameserver 192.0.2.53\noptions ndots:2 edns0\n"; got != want {
			t.Errorf("resolv.conf: got %q, want %q", got, want)
		}
		b.kill("p", -1)
		after(time.Second)
		if left, _ := os.ReadDir(filepath.Join(b.dir, "etc")); len(left) != 0 {
			t.Errorf("left: %v", left)
		}
	})
}

// TestImageVolumes: who mounts an image waits for it, with the reasons and the back-off of a
// container's own, and nobody else does; what the runner has lost is shown again.
func TestImageVolumes(t *testing.T) {
	story(t, func(b *bench) {
		b.images.image = Image{Layers: []string{"/layers/1", "/layers/2"}}
		b.images.fails = map[string]*ImageError{"data:1": {Reason: ErrImagePull, Message: "no such thing"}}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{
				Image: &corev1.ImageVolumeSource{Reference: "data:1", PullPolicy: corev1.PullIfNotPresent},
			}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v", SubPath: "sub"}}
			p.Spec.Containers = append(p.Spec.Containers, corev1.Container{Name: "other", Image: "x", Command: []string{"x"}})
		}))
		after(time.Second)
		b.want("p", corev1.PodPending, "c", "waiting ErrImagePull restarts=0", "other", "running ready=true restarts=0")
		after(5 * time.Second)
		b.want("p", corev1.PodPending, "c", "waiting ImagePullBackOff restarts=0")
		b.wantEvents(`Failed: Failed to pull image "data:1": no such thing`, "Failed: Error: ErrImagePull", `BackOff: Back-off pulling image "data:1"`)
		b.images.set(nil)
		after(20 * time.Second)
		b.want("p", corev1.PodRunning)
		v, ok := b.run.Volume("uid-p", "v")
		if !ok || !slices.Equal(v.Layers, []string{"/layers/1", "/layers/2"}) {
			t.Errorf("the runner shows %+v", v)
		}
		m := b.run.specs[len(b.run.specs)-1].Mounts[0]
		if m.Volume != "v" || !m.ReadOnly || m.SubPath != "sub" {
			t.Errorf("it mounts %+v", m)
		}
		b.kill("p", 0)
		after(5 * time.Second)
	})
}

// TestClassHostHasNoImages: there is nothing that such a container could mount.
func TestClassHostHasNoImages(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.RuntimeClassName = ptr.To("host")
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "data:1"}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}))
		after(time.Second)
		b.want("p", corev1.PodPending, "c", "waiting CreateContainerConfigError restarts=0")
		b.kill("p", 0)
		after(5 * time.Second)
	})
}

// TestPullsAreTold: how far a pull is, is in the status, now and then, and that a registry is
// silent; afterwards there is nothing of it.
func TestPullsAreTold(t *testing.T) {
	story(t, func(b *bench) {
		b.images.slow = func(req ImageRequest) {
			time.Sleep(8 * time.Second)
			req.Progress(12_345_678, 45_600_000)
			time.Sleep(12 * time.Second)
			req.Progress(45_600_000, 45_600_000)
			time.Sleep(5 * time.Second)
		}
		b.put(testPod("p", nil))
		message := func() string {
			if w := b.get("p").Status.ContainerStatuses[0].State.Waiting; w != nil {
				return w.Reason + ": " + w.Message
			}
			return ""
		}
		after(time.Second)
		if got := message(); got != "ContainerCreating: " {
			t.Errorf("at first: %q", got)
		}
		for _, step := range []struct {
			wait time.Duration
			want string
		}{
			{2 * time.Second, `ContainerCreating: Pulling image "busybox:1": the registry has sent no layer for 2s`},
			{5 * time.Second, `ContainerCreating: Pulling image "busybox:1": the registry has sent no layer for 7s`},
			{5 * time.Second, `ContainerCreating: Pulling image "busybox:1": 12.3 MB of 45.6 MB`},
			{10 * time.Second, `ContainerCreating: Pulling image "busybox:1": 45.6 MB of 45.6 MB`},
			{5 * time.Second, ""},
		} {
			after(step.wait)
			if got := message(); got != step.want {
				t.Errorf("got %q, want %q", got, step.want)
			}
		}
		b.want("p", corev1.PodRunning)
		if writes := len(b.history["p"]); writes > 10 {
			t.Errorf("%d writes", writes)
		}
		b.kill("p", 0)
		after(5 * time.Second)
	})
}
