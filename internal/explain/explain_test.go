package explain

import (
	"encoding/json"
	"testing"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

// Scripts rely on these names, and on lists that are there when they are empty.
func TestJSON(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	c := &batchv1.CronJob{
		ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "c", CreationTimestamp: metav1.NewTime(now)},
		Spec:       batchv1.CronJobSpec{Schedule: "0 * * * *", TimeZone: ptr.To("Etc/UTC")},
	}
	got, err := json.Marshal(CronJob(now, time.LoadLocation, c, nil, nil))
	const want = `{"kind":"CronJob","namespace":"ns","name":"c","state":"Waiting","summary":"waits for its next time.",` +
		`"why":[],"soFar":["created at 12:00:00 (0s ago); schedule \"0 * * * *\" in Etc/UTC","no slot has been started yet"],` +
		`"next":["13:00:00 (in 60m)","then 14:00:00 (in 120m)"],"nextTime":"2026-03-01T13:00:00Z"}`
	if err != nil || string(got) != want {
		t.Errorf("got %s, %v", got, err)
	}
}
