package control

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/sampan-batch/sampan/internal/change"
)

// A CronJob's Job is never created before its slot, and an idle engine does not
// let it wait. (Deciding takes no fake time; bench measures the real one.)
func TestCronJobIsPunctual(t *testing.T) {
	bubble(t, func(b *bundle) {
		t := b.t
		b.namespace("default")
		b.node("n")
		time.Sleep(1234567 * time.Microsecond) // away from the full second
		ctx, stop := context.WithCancel(t.Context())
		w, err := b.store.Watch("jobs.batch", b.store.View().Rev())
		if err != nil {
			t.Fatal(err)
		}
		var seen sync.WaitGroup
		jobs := 0
		seen.Go(func() {
			for {
				events, _, err := w.Next(ctx)
				if err != nil {
					return
				}
				for _, ev := range events {
					if ev.Op != change.Create {
						continue
					}
					jobs++
					slot, err := time.Parse(time.RFC3339, ev.Object.GetAnnotations()[batchv1.CronJobScheduledTimestampAnnotation])
					if late := time.Since(slot); err != nil || late != 0 {
						t.Errorf("%s is created %v after its slot (%v)", ev.Key.Name, late, err)
					}
				}
			}
		})
		for i, schedule := range []string{"* * * * *", "*/5 * * * *", "@every 90s"} {
			for n := range 2 {
				b.create(&batchv1.CronJob{
					ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("c-%d-%d", i, n)},
					Spec: batchv1.CronJobSpec{
						Schedule: schedule, TimeZone: ptr.To([]string{"Asia/Kolkata", "Etc/UTC"}[n%2]),
						JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Suspend: ptr.To(true), Template: newJob("x").Spec.Template}},
					},
				})
			}
		}
		time.Sleep(40 * time.Minute)
		synctest.Wait()
		stop()
		seen.Wait()
		if want := 2 * (40 + 8 + 26); jobs < want {
			t.Errorf("%d Jobs were created, want at least %d", jobs, want)
		}
	})
}
