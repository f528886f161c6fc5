// Package models is what Kubernetes' generator makes of the types of the API. The program has
// it as data: see package openapi.
package models
