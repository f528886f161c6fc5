// Package admission judges what is written through the API: by webhooks and by policies, as
// the objects of admissionregistration.k8s.io say that others have stored (docs/adr/0016).
//
// What is matched, called, evaluated, patched and answered is Kubernetes' own code, of
// k8s.io/apiserver. It wants informers, and gets what looks into the store instead: a write is
// judged by the configurations, policies, bindings, parameters and namespaces of the newest
// state, from the very next one after that in which they appear.
//
// Order of a write: what the row of the kind admits; mutating policies; mutating webhooks; the
// same again for those that want it, when one of them has changed the object; preparation and
// validation, which are the storage's; validating policies; validating webhooks. The
// configurations and policies themselves are judged by nobody, nor are questions about who
// may do what: whoever has locked himself out must be able to take it back.
//
// It costs nothing, but for a look at whether there is any, until there is one. Only what says in
// the status of policies whether their types fit runs beside the requests (typecheck.go).
package admission
