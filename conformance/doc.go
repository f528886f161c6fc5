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
// The answers were written by -record, and are only ever written that way. The first
// line of a session says from which version of Kubernetes; all are of the one that
// scripts/controlplane builds and runs:
//
//	scripts/controlplane DIR
//	go test ./conformance -run /NAME -record DIR/kubeconfig
//
// It is etcd, kube-apiserver and kube-controller-manager, without nodes; the script says
// what differs from a cluster of kubeadm's. All sessions take some eight minutes. On a machine
// that has more to do, give the control plane a head start (renice), and record again
// what differs: a session that was caught half way does so only once.
//
// See docs/adr/0005-conformance-by-recording.md.
package conformance
