// Package dns answers what pods ask for by name: Services, their endpoints and pods, as the
// Kubernetes DNS specification 1.1.0 says
// (https://github.com/kubernetes/dns/blob/master/docs/specification.md), and everything
// else by asking who this machine asks.
//
//	Zone     what there is at a time; it does not change (zone.go, answer.go)
//	Server   takes questions by UDP and TCP, and answers from the newest Zone (server.go)
//	forward  the machine's own name servers (forward.go)
//
// Who asks may be hostile. A question costs one look at maps, and no more than maxAtOnce
// are answered at once; others are not read until then, or are lost, as packets may be.
package dns
