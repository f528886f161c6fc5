// Package dns answers what pods ask for by name: Services, their endpoints and pods, as the
// Kubernetes DNS specification 1.1.0 says
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md), and everything
// else by asking who this machine asks.
//
//	Zone     what there is at a time; it does not change (zone.go, answer.go)
//	Server   takes questions by UDP and TCP, and answers from the newest Zone (server.go)
//	forward  the machine's own name servers (forward.go)
//
// Who asks may be hostile. A question costs some looks at maps and what fits into its answer, and no more
// than maxAtOnce are asked elsewhere at once; others are lost, as packets may be. Who has a quarter of the
// places that are still free gets no more of them.
package dns
