package control

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// judge is an Admission of a few functions.
type judge struct {
	mutate, refuse func(ctx context.Context, by string, obj change.Object) error
}

func (judge) Sits() bool { return true }

func (j judge) Mutate(ctx context.Context, by string, k *kind.Kind, obj change.Object, wait func() error) error {
	if j.mutate == nil || k.Resource != kind.Pods {
		return nil
	}
	if strings.HasPrefix(obj.GetGenerateName(), "slow") {
		if err := wait(); err != nil {
			return err
		}
	}
	return j.mutate(ctx, by, obj)
}

func (j judge) Refuse(ctx context.Context, by string, k *kind.Kind, obj change.Object, _ func() error) error {
	if j.refuse == nil || k.Resource != kind.Pods {
		return nil
	}
	return j.refuse(ctx, by, obj)
}

// failures are the messages of FailedCreate, each once.
func (b *bundle) failures() map[string]bool {
	all := map[string]bool{}
	for obj := range b.store.View().List(kind.Events, "default") {
		if e := obj.(*corev1.Event); e.Reason == "FailedCreate" {
			all[e.Message] = true
		}
	}
	return all
}

func wideJob(name string, n int32) *batchv1.Job {
	j := newJob(name)
	j.Spec.Parallelism, j.Spec.Completions = ptr.To(n), ptr.To(n)
	return j
}

// The pods of a Job are changed before they have names, as the API does it, and those that are
// refused are asked for again.
func TestAdmissionJudgesPods(t *testing.T) {
	var mu sync.Mutex
	allowed := 2
	by := map[string]bool{}
	judgedBubble(t, judge{
		mutate: func(_ context.Context, account string, obj change.Object) error {
			mu.Lock()
			defer mu.Unlock()
			by[account] = true
			if obj.GetName() != "" || obj.GetUID() != "" || obj.(*corev1.Pod).Spec.RestartPolicy == "" || obj.(*corev1.Pod).Spec.ServiceAccountName == "" {
				return fmt.Errorf("named before it was judged, or not defaulted and admitted: %+v", obj)
			}
			obj.GetLabels()["judged"] = "yes"
			return nil
		},
		refuse: func(_ context.Context, _ string, obj change.Object) error {
			mu.Lock()
			defer mu.Unlock()
			if obj.GetName() == "" || obj.(*corev1.Pod).Spec.NodeName != "" {
				return fmt.Errorf("not what is created: %+v", obj)
			}
			if allowed--; allowed < 0 {
				return fmt.Errorf("admission webhook %q denied the request: %s", "w", strings.Repeat("no", 4000))
			}
			return nil
		},
	}, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		b.create(wideJob("j", 5))
		b.settle()
		if n := len(b.pods("default")); n != 0 {
			t.Errorf("%d pods though none is allowed twice", n)
		}
		told := b.failures()
		for message := range told {
			if !strings.HasPrefix(message, `Error creating: admission webhook "w" denied the request: nono`) || len(message) > 1100 {
				t.Errorf("%d bytes: %.80s", len(message), message)
			}
		}
		if len(told) != 1 {
			t.Errorf("told %d", len(told))
		}
		mu.Lock()
		allowed = 1000
		mu.Unlock()
		time.Sleep(15 * time.Second)
		b.settle()
		pods := b.pods("default")
		for _, p := range pods {
			if p.Labels["judged"] != "yes" || p.Spec.NodeName != "n" {
				t.Errorf("%s: %v on %q", p.Name, p.Labels, p.Spec.NodeName)
			}
		}
		if len(pods) != 5 || len(by) != 1 || !by["job-controller"] {
			t.Errorf("%d pods, by %v", len(pods), by)
		}
	})
}

// What a webhook has made of a pod is held to the rules of pods, and to what admission asks, though its
// template was.
func TestAdmissionDoesWrong(t *testing.T) {
	for told, wrong := range map[string]func(*corev1.PodSpec){
		`spec.restartPolicy: Unsupported value: "Sometimes"`: func(s *corev1.PodSpec) { s.RestartPolicy = "Sometimes" },
		`spec.containers[0].volumeMounts[0].name: Not found: "none"`: func(s *corev1.PodSpec) {
			s.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "none", MountPath: "/x"}}
		},
		`serviceaccount "nobody" not found`:         func(s *corev1.PodSpec) { s.ServiceAccountName = "nobody" },
		`no PriorityClass with name none was found`: func(s *corev1.PodSpec) { s.PriorityClassName, s.Priority = "none", nil },
	} {
		t.Run(told, func(t *testing.T) {
			judgedBubble(t, judge{mutate: func(_ context.Context, _ string, obj change.Object) error {
				wrong(&obj.(*corev1.Pod).Spec)
				return nil
			}}, func(b *bundle) {
				b.namespace("default")
				b.node("n")
				b.create(newJob("j"))
				b.settle()
				failures := b.failures()
				if n := len(b.pods("default")); n != 0 || len(failures) == 0 {
					t.Errorf("%d pods, told %v", n, failures)
				}
				for message := range failures {
					if !strings.Contains(message, told) {
						t.Error(message)
					}
				}
			})
		})
	}
}

// What is before the first that is refused is created at once.
func TestAdmissionRefusesSome(t *testing.T) {
	judgedBubble(t, judge{refuse: func(_ context.Context, _ string, obj change.Object) error {
		if i := obj.GetLabels()[batchv1.JobCompletionIndexAnnotation]; i >= "3" {
			return fmt.Errorf("index %s is not for me", i)
		}
		return nil
	}}, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		j := wideJob("j", 5)
		j.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion)
		b.create(j)
		b.settle()
		if n := len(b.pods("default")); n != 3 || !b.failures()["Error creating: index 3 is not for me"] {
			t.Errorf("%d pods, %v", n, b.failures())
		}
	})
}

// Who does not answer holds up whom he was asked about, and nobody else; when he never does, the
// end does not wait for him.
func TestSilentAdmission(t *testing.T) {
	judgedBubble(t, judge{mutate: func(ctx context.Context, _ string, obj change.Object) error {
		if !strings.HasPrefix(obj.GetGenerateName(), "slow") {
			return nil
		}
		wait := time.NewTimer(10 * time.Second)
		defer wait.Stop()
		select {
		case <-wait.C:
			return fmt.Errorf("failed calling webhook: context deadline exceeded")
		case <-ctx.Done():
			return ctx.Err()
		}
	}}, func(b *bundle) {
		b.namespace("default")
		b.node("n")
		const many = 150 // more than the loop has workers, and than may wait
		for i := range many {
			b.create(wideJob(fmt.Sprint("slow-", i), 2))
		}
		b.create(newJob("quick"))
		b.settle()
		if pods := b.pods("default"); len(pods) != 1 || pods[0].Labels["job-name"] != "quick" {
			t.Errorf("%d pods after 2 s", len(pods))
		}
		time.Sleep(90 * time.Second)
		b.settle()
		told := map[string]bool{}
		for obj := range b.store.View().List(kind.Events, "default") {
			if e := obj.(*corev1.Event); e.Reason == "FailedCreate" && strings.Contains(e.Message, "deadline exceeded") {
				told[e.InvolvedObject.Name] = true
			}
		}
		if len(told) != many {
			t.Errorf("%d Jobs say why they have no pods, want %d", len(told), many)
		}
	})
}
