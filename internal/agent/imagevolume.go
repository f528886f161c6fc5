package agent

import (
	"context"

	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/runner"
)

// imageVolumes gets the images here that the container mounts as volumes, and has the pod's
// runner show their files. As with a kubelet, a container that mounts none waits for none.
func (a *attempt) imageVolumes(ctx context.Context) error {
	for _, v := range imageVolumesOf(a.object, a.container.Spec) {
		if a.class == runner.Host {
			return &runner.StartError{Reason: "CreateContainerConfigError", Message: "the host runtime class has no file system of its own: it cannot mount the image of the volume " + v.Name}
		}
		img, err := a.fetch(ctx, v.Image.Reference, v.Image.PullPolicy)
		if err != nil {
			return err
		}
		err = a.runner.SetVolume(ctx, &runner.Volume{Class: a.class, PodUID: a.pod.ref.UID, Name: v.Name, Layers: img.Layers})
		if err != nil {
			return err
		}
	}
	return nil
}

// imageVolumesOf returns the volumes that a container of the pod mounts and that are images.
func imageVolumesOf(pod *corev1.Pod, c *corev1.Container) (list []*corev1.Volume) {
	for i := range pod.Spec.Volumes {
		v := &pod.Spec.Volumes[i]
		if v.Image == nil {
			continue
		}
		for j := range c.VolumeMounts {
			if c.VolumeMounts[j].Name == v.Name {
				list = append(list, v)
				break
			}
		}
	}
	return list
}
