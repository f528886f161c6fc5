package agent

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/kind"
	"github.com/sampan-batch/sampan/internal/runner"
)

// withToken gives a pod the volume that admission gives it.
func withToken(p *corev1.Pod) {
	p.Spec.ServiceAccountName = "bot"
	if err := kind.AdmitAccount(p, nil); err == nil {
		panic("bot exists")
	}
	if err := kind.AdmitAccount(p, &corev1.ServiceAccount{}); err != nil {
		panic(err)
	}
}

// tokenFails makes asking for tokens fail, or work again.
func (b *bench) tokenFails(fails bool) {
	b.fakeClient.mu.Lock()
	defer b.fakeClient.mu.Unlock()
	b.fail = nil
	if fails {
		b.fail = func(verb string) error {
			if verb == "token" {
				return errors.New("not now")
			}
			return nil
		}
	}
}

// A pod has a token, which is renewed before it ends, and not before that.
func TestTokenIsRenewed(t *testing.T) {
	story(t, func(b *bench) {
		b.setConfig(kind.RootCAName, map[string]string{"ca.crt": "authority"})
		b.put(testPod("p", withToken))
		after(5 * time.Second)
		b.want("p", corev1.PodRunning)
		mounts := b.run.specs[0].Mounts
		at := len(mounts) - 1
		for i := range mounts {
			if mounts[i].Target == kind.TokenDir {
				at = i
			}
		}
		if mounts[at].Target != kind.TokenDir || !mounts[at].ReadOnly {
			t.Fatalf("mounts: %+v", mounts)
		}
		read := func(name string) string {
			v, _ := b.run.Volume("uid-p", mounts[at].Volume)
			return string(v.Files[name].Data)
		}
		const first = `ns/bot of p for [], number 1`
		if read("token") != first || read("ca.crt") != "authority" || read("namespace") != "ns" {
			t.Errorf("token %q, ca.crt %q, namespace %q", read("token"), read("ca.crt"), read("namespace"))
		}
		after(47 * time.Minute) // of 3607 s
		if got := read("token"); got != first {
			t.Errorf("renewed after 47 minutes: %q", got)
		}
		b.tokenFails(true)
		after(5 * time.Minute)
		if got := read("token"); got != first {
			t.Errorf("while none is to be had: %q", got)
		}
		b.tokenFails(false)
		after(2 * time.Minute)
		if got := read("token"); got != strings.Replace(first, "1", "2", 1) {
			t.Errorf("after 54 minutes: %q", got)
		}
	})
}

// A token for another audience is another; one that lives for weeks is renewed each day.
func TestTokensOfAPod(t *testing.T) {
	story(t, func(b *bench) {
		source := func(audience string, seconds int64) corev1.VolumeProjection {
			return corev1.VolumeProjection{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: audience, ExpirationSeconds: ptr.To(seconds), Path: audience + "token"}}
		}
		b.put(testPod("p", func(p *corev1.Pod) {
			p.Spec.ServiceAccountName = "bot"
			p.Spec.Volumes = []corev1.Volume{{Name: "v", VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
				Sources: []corev1.VolumeProjection{source("vault", 600), source("", 30*24*3600)}}}}}
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "v", MountPath: "/v"}}
		}))
		after(5 * time.Second)
		b.want("p", corev1.PodRunning)
		number := func(name string) string {
			v, _ := b.run.Volume("uid-p", "v")
			_, number, _ := strings.Cut(string(v.Files[name].Data), "number ")
			return number
		}
		v, _ := b.run.Volume("uid-p", "v")
		if got := string(v.Files["vaulttoken"].Data); !strings.Contains(got, `for ["vault"]`) {
			t.Errorf("got %q", got)
		}
		long := number("token")
		after(23 * time.Hour)
		if got := number("token"); got != long {
			t.Errorf("renewed within a day: %s, after %s", got, long)
		}
		after(2 * time.Hour)
		if got := number("token"); got == long {
			t.Error("not renewed after a day")
		}
	})
}

// A process of the machine has no place for it, and starts without.
func TestNoTokenForTheMachine(t *testing.T) {
	story(t, func(b *bench) {
		b.put(testPod("p", func(p *corev1.Pod) {
			withToken(p)
			p.Spec.RuntimeClassName = ptr.To(string(runner.Host))
			p.Spec.Containers[0].Command = []string{"true"}
		}))
		after(5 * time.Second)
		b.want("p", corev1.PodRunning)
		if b.fakeClient.tokens != 0 {
			t.Errorf("%d tokens that nobody can read", b.fakeClient.tokens)
		}
		for _, kv := range b.host.specs[0].Env {
			if strings.HasPrefix(kv, "KUBERNETES_") {
				t.Errorf("got %s", kv)
			}
		}
	})
}
