package explain

import (
	"fmt"
	"math"
	"strings"

	batchv1 "k8s.io/api/batch/v1"
	"k8s.io/utils/ptr"
)

// ahead says what may end the Job before it is done.
func (s *jobStory) ahead() {
	st, spec, o := &s.job.Status, &s.job.Spec, &s.outlook
	s.failing()
	if limit := spec.MaxFailedIndexes; limit != nil {
		s.next("the Job fails when more than %s have failed; so far %d (maxFailedIndexes)", count(int(*limit), "index"), o.Lost.Len())
	}
	if at := o.Limits.Deadline; !at.IsZero() {
		s.wake(at)
		s.next("the Job fails if it is not done %s (activeDeadlineSeconds)", s.c.at(at))
	}
	if spec.SuccessPolicy != nil {
		s.next("the Job succeeds early when a rule of successPolicy is met: %s", rules(spec.SuccessPolicy))
	}
	if spec.Completions == nil && st.Succeeded > 0 {
		s.next("no further pod starts, as one has succeeded; it is Complete when those that run have ended")
	} else if o.Later > 0 && ptr.Deref(spec.Parallelism, 1) > 0 {
		s.next("%s to start when others have ended (parallelism %d)", count(o.Later, "more pod"), ptr.Deref(spec.Parallelism, 1))
	}
	switch {
	case o.Lost.Len() > 0:
		s.next("it is Failed when all other indexes have ended, as %s failed for good (backoffLimitPerIndex)", indexes(o.Lost))
	case len(s.Next) == 0:
		s.next("it is Complete when its pods have succeeded")
	}
}

// failing says how many pods may fail, and how often containers may be restarted in
// their pods, before the Job fails.
func (s *jobStory) failing() {
	l := s.outlook.Limits
	if s.job.Spec.BackoffLimit == nil || l.Backoff == math.MaxInt32 {
		return
	}
	if left := l.Backoff - l.Failures; left > 0 && (l.Failures > 0 || len(s.failed) > 0) {
		s.next("%s may fail; one more, and the Job fails (backoffLimit %d)", count(int(left), "more pod"), l.Backoff)
	} else if left <= 0 {
		s.next("the Job fails with the next pod that fails (backoffLimit %d)", l.Backoff)
	}
	if l.Restarts > 0 {
		s.next("the Job fails when its containers have been restarted %s; now it is %d (backoffLimit)", count(int(max(l.Backoff, 1)), "time"), l.Restarts)
	}
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
