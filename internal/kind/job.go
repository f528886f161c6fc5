package kind

import (
	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// Job is the row of batch/v1 jobs.
func Job() *Kind {
	return &Kind{
		Resource:        "jobs",
		Singular:        "job",
		Categories:      []string{"all"},
		Namespaced:      true,
		GVK:             batchv1.SchemeGroupVersion.WithKind("Job"),
		OrphanByDefault: true,
		New:             func() Object { return &batchv1.Job{} },
		NewList:         func() runtime.Object { return &batchv1.JobList{} },
	}
}
