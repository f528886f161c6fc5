// Package podspec holds Kubernetes' own rules for pods and pod templates:
// defaults, validation, warnings, the classes and sums that are derived from a
// spec, and the form in which the API prints one inside an error.
//
// The rules are those of kube-apiserver 1.37 with its default feature gates,
// applied to the versioned types of k8s.io/api/core/v1. Field paths, reasons,
// messages and their order are Kubernetes' own, because people and programs
// read them. Where upstream walks a map in random order, this package walks it
// sorted.
//
// A write goes through the package in this order:
//
//	DefaultPod, DefaultTemplate       what decoding fills in
//	Prepare, DropDisabled             what the API server itself sets and drops
//	ValidatePod, ValidateTemplate, …  what is wrong
//	Warnings, TemplateWarnings        what is right, but doubtful
//
// What admission plugins fill in (service account, priority, tolerations) comes
// between the first two and is not here.
//
// Nothing here stores, schedules or runs anything, and nothing modifies what it
// is given, except the functions whose purpose that is (Default…, Prepare,
// Drop…).
package podspec
