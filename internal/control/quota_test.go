package control

import (
	"strings"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
	"github.com/sampan-batch/sampan/internal/kind"
)

// A Job whose pods a quota refuses has those that there is room for, says why there are
// no more, and gets them once there is.
func TestQuotaRefusesPods(t *testing.T) {
	bubble(t, func(b *bundle) {
		b.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "default"}})
		var set change.Set
		set.Create(kind.ResourceQuotas.Key("default", "q"), &corev1.ResourceQuota{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "q"},
			Spec:       corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("2")}},
		})
		b.apply(set)
		j := newJob("wide")
		j.Spec.Parallelism, j.Spec.Completions = ptr.To[int32](5), ptr.To[int32](5)
		b.create(j)
		b.settle()
		pods := func() (n int) {
			for range b.store.View().List(kind.Pods, "default") {
				n++
			}
			return n
		}
		active := func() int32 {
			obj, _ := b.store.View().Get(kind.Jobs.Key("default", "wide"))
			return obj.(*batchv1.Job).Status.Active
		}
		if pods() != 2 || active() != 2 {
			t.Errorf("%d pods, %d of them active", pods(), active())
		}
		told := false
		for obj := range b.store.View().List(kind.Events, "default") {
			if e := obj.(*corev1.Event); e.Reason == "FailedCreate" {
				told = strings.HasPrefix(e.Message, `Error creating: pods "wide-`) &&
					strings.HasSuffix(e.Message, `" is forbidden: exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2`)
			}
		}
		if !told {
			t.Error("no event says why there are no more")
		}
		key := kind.ResourceQuotas.Key("default", "q")
		obj, _ := b.store.View().Get(key)
		more := obj.DeepCopyObject().(*corev1.ResourceQuota)
		more.Spec.Hard[corev1.ResourcePods] = resource.MustParse("9")
		b.apply(change.Set{Writes: []change.Write{{Op: change.Update, Key: key, Rev: change.RevOf(obj), Object: more}}})
		time.Sleep(time.Minute)
		b.settle()
		if pods() != 5 || active() != 5 {
			t.Errorf("with more room: %d pods, %d of them active", pods(), active())
		}
	})
}
