// Package agent is the node: it runs the pods that are bound to it and reports
// how they fare, as a kubelet does.
//
// One watch yields the pods. Each pod that is not over has one goroutine, its pod
// worker, which owns all that is known about the pod. Whatever takes time (pulling,
// starting, hooks, probes, stopping) runs beside it and hands its result back. After
// every result the pod worker asks the pure part, package podstate, what to do next
// and what status to report, does it, and sleeps until something happens.
//
// Beside the pods, package node tells the API of the node, the limit enforcer compares
// pods with their limits on the disk, and the eviction manager watches what the machine
// has left. Package eviction decides what these two do.
//
// The order of events in a pod's life:
//
//	seen ─▶ volumes ─▶ init containers ─▶ containers ─▶ all ended ─▶ over
//	            │             │                │
//	            └── deleted, or past its deadline ──▶ stopping ──▶ over ──▶ object removed
//
// The agent keeps no state of its own beside the runner's: after a restart of
// the engine it finds its containers through runner.List and its pods through
// the watch. What it refuses: volumes that need a cluster, and pod identities.
package agent
