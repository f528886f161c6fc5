package agent

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/sampan-batch/sampan/internal/agent/node"
	"github.com/sampan-batch/sampan/internal/agent/podstate"
	"github.com/sampan-batch/sampan/internal/change"
)

// note returns an Event about the pod, or about its container c if that is not
// nil.
func note(pod *corev1.Pod, c *podstate.Container, kind, reason, message string) change.Note {
	ref := corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod",
		Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID,
		ResourceVersion: pod.ResourceVersion,
	}
	if c != nil {
		field := "initContainers"
		switch c.Kind {
		case podstate.Main:
			field = "containers"
		case podstate.Ephemeral:
			field = "ephemeralContainers"
		}
		ref.FieldPath = "spec." + field + "{" + c.Spec.Name + "}"
	}
	return change.Note{Regarding: ref, Component: node.Component, Type: kind, Reason: reason, Message: message}
}

const (
	normal  = corev1.EventTypeNormal
	warning = corev1.EventTypeWarning
)
