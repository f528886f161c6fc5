package agent

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// TestEtcIsTriedAgain has no room for a pod's own files at first, as on a full disk.
// The pod starts once there is.
func TestEtcIsTriedAgain(t *testing.T) {
	for name, volumes := range map[string][]corev1.Volume{
		"without volumes": nil, "with volumes": {{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
	} {
		t.Run(name, func(t *testing.T) {
			story(t, func(b *bench) {
				etc := b.agent.services.files.EtcDir()
				if err := os.Rename(etc, etc+".away"); err != nil {
					t.Fatal(err)
				}
				b.put(testPod("p", func(p *corev1.Pod) { p.Spec.Volumes = volumes }))
				after(10 * time.Second)
				b.want("p", corev1.PodPending, "c", "waiting ContainerCreating restarts=0")
				b.wantEvents("FailedCreatePodSandBox: Failed to create pod sandbox: create " + etc + "/uid-p.hosts: no such file or directory")
				if err := os.Rename(etc+".away", etc); err != nil {
					t.Fatal(err)
				}
				after(20 * time.Second)
				b.want("p", corev1.PodRunning)
				if _, err := os.Stat(filepath.Join(etc, "uid-p.hosts")); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
