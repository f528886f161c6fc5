package upstream

import (
	"fmt"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// securityChecks are those of all levels and versions of Pod Security.
var securityChecks = sync.OnceValue(func() policy.Evaluator {
	checks, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		panic(fmt.Sprintf("upstream: the checks of Pod Security: %v", err)) // they are this program's
	}
	return checks
})

// CheckSecurity returns what each check of a level of Pod Security says of a pod.
func CheckSecurity(of api.LevelVersion, meta *metav1.ObjectMeta, spec *corev1.PodSpec) []policy.CheckResult {
	return securityChecks().EvaluatePod(of, meta, spec)
}
