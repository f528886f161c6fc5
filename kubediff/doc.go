// Package kubediff holds the rules that are ours (of Jobs, CronJobs, Pods, and of the small kinds
// that were there before Kubernetes' own could be imported) to Kubernetes' code. It has tests only, and is a module of its own, so that nothing of what
// Kubernetes' strategies drag in gets into the product:
//
//	cd kubediff && go test .
//
// Every manifest of internal/kind/testdata and of testdata here is changed in one
// place at a time: every field that it has, in the manifests of testdata also every
// field that it could have, gets values that mean something somewhere, is left out, is
// doubled. What comes of it goes through our rows, as the server hands them to
// k8s.io/apiserver, and through the strategies of kube-apiserver with the feature
// gates that it has by default: defaults, preparation, validation, declarative
// validation, warnings. It is created; what can be created is also changed so, and so
// is its status. Answer, causes, warnings and object have to be the same, in this order.
//
// There are more values than time: of those beyond the first few, each field gets its
// own choice, always the same one. After a change of the rules, more of them are
//
//	go test . -timeout 2h -every 8
//
// What differs is mended in the row, and gets a case in the row's own tests. What differs
// on purpose is in the list of known_test.go, with the reason; an entry that nothing
// needs fails.
//
// What is not looked at: reading JSON and YAML, which is the same code for both;
// admission plugins, which are no part of a strategy; and what a controller or a storage
// does, which conformance has recordings of.
//
// See docs/adr/0005-conformance-by-recording.md.
package kubediff
