// Package conformance holds the engine to what Kubernetes does. It has tests
// only.
//
// Every file in testdata is a session with a Kubernetes control plane, and has
// the answers that a real one gave:
//
//	$ create job.yaml
//	  job/a created
//	$ show job/a .status
//	  active: 1
//	  ...
//
// Lines with "$ " are commands, see the method commands for what there is; lines
// indented below are their answers; all else is prose. The files of the archive
// are the manifests. Where the engine differs on purpose, lines with "! " below an
// answer say in which lines, and why:
//
//	$ table job
//	  Name | Status | Completions
//	! - Name | Status | Completions
//	! + Name | Status | Completions | Queue
//	! the queue is ours, see docs/differences.md
//
// What differs and is not marked is an error, and so is a mark that nothing differs by.
//
// Every session has a namespace of its own. Its pods are not
// run by any node: they name a scheduler that does not exist, or a node, and the
// session plays the kubelet for them.
//
// The answers were written by -record, from Kubernetes 1.36.3, and are only ever
// written that way:
//
//	go test ./conformance -run /NAME -record KUBECONFIG
//
// The cluster needs etcd, kube-apiserver without ServiceAccount admission and
// kube-controller-manager, but no node. See docs/adr/0005-conformance-by-recording.md.
package conformance
