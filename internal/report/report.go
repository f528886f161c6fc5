// Package report says in the forms of others what became of a run: a line for each pod as
// GNU parallel logs its jobs (joblog.go), the test report of JUnit (junit.go), and the
// commands by which a step of a GitHub workflow marks its output (command.go).
//
// It is pure, and it trusts no text: what pods write and what manifests say is data in
// each of these forms, and never more.
package report
