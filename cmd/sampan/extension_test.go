//go:build extension

package main_test

// The stories build testdata/extension, the server of an aggregated API, which needs modules
// that the product does not. "go mod tidy" looks into no testdata, but at every build tag:
// without this line it would take those modules away.
import _ "k8s.io/apiserver/pkg/server/options"
