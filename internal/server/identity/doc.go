// Package identity makes and reads the tokens of ServiceAccounts: it owns the key that signs them,
// what a TokenRequest is answered, and who a token says that its bearer is.
//
// Kubernetes' own code (k8s.io/kubernetes/pkg/serviceaccount) makes the claims, signs and checks
// them; what is here is what that asks for. Nothing is remembered of a token: each request that
// brings one has its signature checked and its objects looked up in the state of that moment. So a
// token ends with its account, and with the pod, the Secret or the node that it is bound to, and not
// a while later.
//
// See docs/adr/0011-tokens-by-kubernetes-itself.md.
package identity
