package clients

import (
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// TestHelm: the life of a release, with hooks that are Jobs, from install to uninstall.
func TestHelm(t *testing.T) {
	t.Parallel()
	e := newEngine(t)
	chart := filepath.Join("testdata", "chart")
	schedule := func() string {
		c, err := e.api().BatchV1().CronJobs("default").Get(t.Context(), "shop-report", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		return c.Spec.Schedule
	}
	migrated := func() string {
		t.Helper()
		pods, err := e.api().CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{LabelSelector: "job-name=shop-migrate"})
		if err != nil || len(pods.Items) != 1 {
			t.Fatalf("the hook has %d pods: %v", len(pods.Items), err)
		}
		return pods.Items[0].Spec.Containers[0].Command[2]
	}

	for _, step := range []struct {
		helm, prints string // a pattern
		schedule     string
		migration    string
	}{
		{"install shop CHART --wait --timeout 60s", `STATUS: deployed\nREVISION: 1`, "0 3 * * *", "echo migrated to revision 1"},
		{"upgrade shop CHART --set greeting=salve,schedule=@hourly --wait --wait-for-jobs --timeout 60s", `REVISION: 2`, "@hourly", "echo migrated to revision 2"},
		{"test shop --logs", `(?s)Phase:\s+Succeeded.*it greets with salve`, "@hourly", "echo migrated to revision 2"},
		{"rollback shop 1 --wait --timeout 60s", `Rollback was a success`, "0 3 * * *", "echo migrated to revision 2"},
		{"history shop", `(?s)1\s.*superseded.*2\s.*superseded.*3\s.*deployed.*Rollback to 1`, "0 3 * * *", "echo migrated to revision 2"},
		{"status shop", `STATUS: deployed`, "0 3 * * *", "echo migrated to revision 2"},
		{"get manifest shop", `name: shop-import-1`, "0 3 * * *", "echo migrated to revision 2"},
		{"upgrade --install shop CHART --dry-run=server", `REVISION: 4`, "0 3 * * *", "echo migrated to revision 2"},
		{"list", `shop\s+default\s+3\s`, "0 3 * * *", "echo migrated to revision 2"},
	} {
		out := e.run("helm", strings.Fields(strings.ReplaceAll(step.helm, "CHART", chart))...)
		if !regexp.MustCompile(step.prints).MatchString(out) {
			t.Errorf("helm %s: printed, not %s:\n%s", step.helm, step.prints, out)
		}
		if got := schedule(); got != step.schedule {
			t.Errorf("helm %s: the schedule is %q", step.helm, got)
		}
		if got := migrated(); got != step.migration {
			t.Errorf("helm %s: the hook ran %q", step.helm, got)
		}
	}

	e.run("helm", "uninstall", "shop", "--wait", "--timeout", "60s")
	if _, err := e.api().BatchV1().CronJobs("default").Get(t.Context(), "shop-report", metav1.GetOptions{}); !apierrors.IsNotFound(err) {
		t.Errorf("uninstalled, the CronJob is there: %v", err)
	}
}

// TestHelmTemplate: what helm renders is what a run reads.
func TestHelmTemplate(t *testing.T) {
	t.Parallel()
	dir := programs(t)
	e := &engine{t: t, bin: dir, dir: t.TempDir()}
	out := e.run("sh", "-c", "helm template shop "+filepath.Join("testdata", "chart")+" | sampan run --runtime=host -")
	for _, want := range []string{"importing with hello", "pod/shop-greets (test) is left out: no installation runs it", "shop-migrate"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is not in:\n%s", want, out)
		}
	}
}
