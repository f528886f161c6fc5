package explain

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// ahead says what may end the Job before it is done.
func (s *jobStory) ahead(missing int) {
	st, spec := &s.job.Status, &s.job.Spec
	if limit := spec.BackoffLimit; limit != nil && *limit < math.MaxInt32 && (st.Failed > 0 || len(s.failed) > 0 || *limit == 0) {
		if left := *limit - st.Failed; left > 0 {
			s.next("%s may fail; one more, and the Job fails (backoffLimit %d)", count(int(left), "more pod"), *limit)
		} else {
			s.next("the Job fails with the next pod that fails (backoffLimit %d)", *limit)
		}
	}
	if spec.Template.Spec.RestartPolicy == corev1.RestartPolicyOnFailure {
		s.restarting()
	}
	if limit := spec.MaxFailedIndexes; limit != nil {
		s.next("the Job fails when more than %s have failed; so far %d (maxFailedIndexes)", count(int(*limit), "index"), s.lost.Len())
	}
	if limit := spec.ActiveDeadlineSeconds; limit != nil && st.StartTime != nil {
		deadline := st.StartTime.Add(time.Duration(*limit) * time.Second)
		s.wake(deadline)
		s.next("the Job fails if it is not done %s (activeDeadlineSeconds)", s.c.at(deadline))
	}
	if spec.SuccessPolicy != nil {
		s.next("the Job succeeds early when a rule of successPolicy is met: %s", rules(spec.SuccessPolicy))
	}
	if spec.Completions == nil && st.Succeeded > 0 {
		s.next("no further pod starts, as one has succeeded; it is Complete when those that run have ended")
	} else if later := s.later(missing); later > 0 && ptr.Deref(spec.Parallelism, 1) > 0 {
		s.next("%s to start when others have ended (parallelism %d)", count(later, "more pod"), ptr.Deref(spec.Parallelism, 1))
	}
	switch {
	case s.lost.Len() > 0:
		s.next("it is Failed when all other indexes have ended, as %s failed for good (backoffLimitPerIndex)", indexes(s.lost))
	case len(s.Next) == 0:
		s.next("it is Complete when its pods have succeeded")
	}
}

// restarting says how often containers may be restarted in their pods before
// the Job fails.
func (s *jobStory) restarting() {
	var n int32
	for _, pod := range s.active {
		for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
			n += c.RestartCount
		}
	}
	if limit := ptr.Deref(s.job.Spec.BackoffLimit, 6); n > 0 && limit < math.MaxInt32 {
		s.next("the Job fails when its containers have been restarted %s; now it is %d (backoffLimit)", count(int(max(limit, 1)), "time"), n)
	}
}

// later is how many pods have no place yet.
func (s *jobStory) later(missing int) int {
	if s.job.Spec.Completions == nil {
		return 0
	}
	return int(*s.job.Spec.Completions-s.job.Status.Succeeded-s.lost.Len()) - len(s.active) - missing
}

// rules puts successPolicy into words.
func rules(p *batchv1.SuccessPolicy) string {
	var all []string
	for _, r := range p.Rules {
		switch {
		case r.SucceededIndexes != nil && r.SucceededCount != nil:
			all = append(all, fmt.Sprintf("%d of the indexes %s succeeded", *r.SucceededCount, *r.SucceededIndexes))
		case r.SucceededIndexes != nil:
			all = append(all, fmt.Sprintf("all of the indexes %s succeeded", *r.SucceededIndexes))
		case r.SucceededCount != nil:
			all = append(all, fmt.Sprintf("any %d indexes succeeded", *r.SucceededCount))
		}
	}
	return strings.Join(all, ", or ")
}
