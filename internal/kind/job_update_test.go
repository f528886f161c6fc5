package kind

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"
)

const baseJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: base}
spec:
  template:
    spec:
      restartPolicy: Never
      initContainers:
      - {name: fetch, image: busybox}
      containers:
      - {name: main, image: busybox, command: ["true"]}
`

const indexedJob = `
apiVersion: batch/v1
kind: Job
metadata: {name: base}
spec:
  completionMode: Indexed
  completions: 4
  parallelism: 4
  backoffLimitPerIndex: 1
  podFailurePolicy:
    rules:
    - {action: FailJob, onExitCodes: {operator: In, values: [1]}}
  successPolicy:
    rules:
    - {succeededCount: 2}
  template:
    spec:
      restartPolicy: Never
      containers:
      - {name: main, image: busybox}
`

// created returns the Job as it is stored.
func created(t *testing.T, manifest string) *batchv1.Job {
	t.Helper()
	k, obj := setup().decode(t, []byte(manifest))
	if errs, _ := create(k, obj); len(errs) > 0 {
		t.Fatal(errs.ToAggregate())
	}
	obj.SetResourceVersion("1")
	return obj.(*batchv1.Job)
}

// brief leaves out the values, which are often whole objects.
func brief(errs field.ErrorList) []string {
	var out []string
	for _, err := range errs {
		out = append(out, strings.TrimSuffix(fmt.Sprintf("%s: %s: %s", err.Field, err.Type, err.Detail), ": "))
	}
	return out
}

func compare(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	if got := brief(errs); !slices.Equal(got, want) {
		t.Errorf("got:\n\t%s\nwant:\n\t%s", strings.Join(got, "\n\t"), strings.Join(want, "\n\t"))
	}
}

type jobChange struct {
	name     string
	manifest string             // baseJob if empty
	before   func(*batchv1.Job) // the state that is changed
	change   func(*batchv1.Job)
	want     []string
}

func (test jobChange) run(t *testing.T, validate func(job, old Object) field.ErrorList) {
	t.Run(test.name, func(t *testing.T) {
		t.Parallel()
		manifest := test.manifest
		if manifest == "" {
			manifest = baseJob
		}
		old := created(t, manifest)
		if test.before != nil {
			test.before(old)
		}
		job := old.DeepCopy()
		test.change(job)
		compare(t, validate(job, old), test.want)
	})
}

func TestJobMutability(t *testing.T) {
	t.Parallel()
	for _, test := range []jobChange{
		{name: "nothing", change: func(*batchv1.Job) {}},
		{name: "what may change", change: func(job *batchv1.Job) {
			job.Spec.Parallelism = ptr.To[int32](3)
			job.Spec.Suspend = ptr.To(true)
			job.Spec.ActiveDeadlineSeconds = ptr.To[int64](60)
			job.Spec.BackoffLimit = ptr.To[int32](1)
			job.Spec.TTLSecondsAfterFinished = ptr.To[int32](0)
			job.Spec.PodReplacementPolicy = ptr.To(batchv1.Failed)
			job.Labels, job.Annotations = nil, map[string]string{"a": "b"}
		}},
		{name: "maxFailedIndexes", manifest: indexedJob, change: func(job *batchv1.Job) {
			job.Spec.MaxFailedIndexes = ptr.To[int32](2)
		}},
		{name: "completions", change: func(job *batchv1.Job) { job.Spec.Completions = ptr.To[int32](2) },
			want: []string{"spec.completions: Invalid value: field is immutable"}},
		{name: "completions removed", change: func(job *batchv1.Job) { job.Spec.Completions = nil },
			want: []string{"spec.completions: Invalid value: field is immutable"}},
		{name: "completions of an Indexed Job alone", manifest: indexedJob,
			change: func(job *batchv1.Job) { job.Spec.Completions = ptr.To[int32](5) },
			want:   []string{"spec.completions: Invalid value: can only be modified in tandem with spec.parallelism"}},
		{name: "completions of an Indexed Job with parallelism", manifest: indexedJob,
			change: func(job *batchv1.Job) {
				job.Spec.Completions, job.Spec.Parallelism = ptr.To[int32](5), ptr.To[int32](5)
			}},
		{name: "parallelism of an Indexed Job alone", manifest: indexedJob,
			change: func(job *batchv1.Job) { job.Spec.Parallelism = ptr.To[int32](1) }},
		{name: "completionMode", change: func(job *batchv1.Job) { job.Spec.CompletionMode = ptr.To(batchv1.IndexedCompletion) },
			want: []string{"spec.completionMode: Invalid value: field is immutable"}},
		{name: "podFailurePolicy", manifest: indexedJob,
			change: func(job *batchv1.Job) { job.Spec.PodFailurePolicy.Rules[0].OnExitCodes.Values = []int32{2} },
			want:   []string{"spec.podFailurePolicy: Invalid value: field is immutable"}},
		{name: "backoffLimitPerIndex", manifest: indexedJob,
			change: func(job *batchv1.Job) { job.Spec.BackoffLimitPerIndex = ptr.To[int32](2) },
			want:   []string{"spec.backoffLimitPerIndex: Invalid value: field is immutable"}},
		{name: "successPolicy", manifest: indexedJob, change: func(job *batchv1.Job) { job.Spec.SuccessPolicy = nil },
			want: []string{"spec.successPolicy: Invalid value: field is immutable"}},
		{name: "managedBy", change: func(job *batchv1.Job) { job.Spec.ManagedBy = ptr.To("example.com/me") },
			want: []string{"spec.managedBy: Invalid value: field is immutable"}},
		{name: "selector", change: func(job *batchv1.Job) { job.Spec.Selector.MatchLabels["job-name"] = "base" },
			want: []string{"spec.selector: Invalid value: field is immutable"}},
		{name: "uid in the template's labels", change: func(job *batchv1.Job) {
			job.Spec.Template.Labels["controller-uid"] = "other"
		}, want: []string{"spec.template: Invalid value: field is immutable"}},
		{name: "a wrong number", change: func(job *batchv1.Job) { job.Spec.BackoffLimit = ptr.To[int32](-1) },
			want: []string{"spec.backoffLimit: Invalid value: must be greater than or equal to 0"}},
		{name: "name", change: func(job *batchv1.Job) { job.Name = "other" },
			want: []string{"metadata.name: Invalid value: field is immutable"}},
		{name: "a Job from before the prefixed labels", before: func(job *batchv1.Job) {
			delete(job.Spec.Template.Labels, batchv1.JobNameLabel)
			delete(job.Spec.Template.Labels, batchv1.ControllerUidLabel)
			job.Spec.Selector.MatchLabels = map[string]string{"controller-uid": string(job.UID)}
		}, change: func(job *batchv1.Job) { job.Spec.Suspend = ptr.To(true) }},
	} {
		test.run(t, Job().Update.Validate)
	}
}

// suspended makes a Job one that was suspended from the start.
func suspended(job *batchv1.Job) { job.Spec.Suspend = ptr.To(true) }

// suspendedLater makes it one that ran, and whose pods are gone again.
func suspendedLater(job *batchv1.Job) {
	suspended(job)
	job.Status.StartTime = &testTime
	job.Status.Conditions = []batchv1.JobCondition{{Type: batchv1.JobSuspended, Status: corev1.ConditionTrue}}
}

func TestJobTemplateMutability(t *testing.T) {
	t.Parallel()
	request := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("1")}}
	nodeAffinity := &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
		NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
			{Key: "disk", Operator: corev1.NodeSelectorOpExists}}}}}}
	antiAffinity := &corev1.PodAntiAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{
		{TopologyKey: "kubernetes.io/hostname"}}}
	changes := map[string]func(*corev1.PodTemplateSpec){
		"labels":            func(t *corev1.PodTemplateSpec) { t.Labels["new"] = "yes" },
		"annotations":       func(t *corev1.PodTemplateSpec) { t.Annotations = map[string]string{"new": "yes"} },
		"nodeSelector":      func(t *corev1.PodTemplateSpec) { t.Spec.NodeSelector = map[string]string{"disk": "ssd"} },
		"tolerations":       func(t *corev1.PodTemplateSpec) { t.Spec.Tolerations = []corev1.Toleration{{Operator: "Exists"}} },
		"schedulingGates":   func(t *corev1.PodTemplateSpec) { t.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "a.b/c"}} },
		"nodeAffinity":      func(t *corev1.PodTemplateSpec) { t.Spec.Affinity = &corev1.Affinity{NodeAffinity: nodeAffinity} },
		"resources":         func(t *corev1.PodTemplateSpec) { t.Spec.Containers[0].Resources = request },
		"resources of init": func(t *corev1.PodTemplateSpec) { t.Spec.InitContainers[0].Resources = request },
	}
	never := map[string]func(*corev1.PodTemplateSpec){
		"image":           func(t *corev1.PodTemplateSpec) { t.Spec.Containers[0].Image = "perl" },
		"podAntiAffinity": func(t *corev1.PodTemplateSpec) { t.Spec.Affinity = &corev1.Affinity{PodAntiAffinity: antiAffinity} },
		"renamed":         func(t *corev1.PodTemplateSpec) { t.Spec.Containers[0].Name = "other" },
		"second container": func(t *corev1.PodTemplateSpec) {
			t.Spec.Containers = append(t.Spec.Containers, t.Spec.Containers[0])
			t.Spec.Containers[1].Name = "second"
		},
		"restartPolicy": func(t *corev1.PodTemplateSpec) { t.Spec.RestartPolicy = corev1.RestartPolicyOnFailure },
	}
	states := []struct {
		name    string
		before  func(*batchv1.Job)
		mutable bool
	}{
		{"running", nil, false},
		{"suspended", suspended, true},
		{"suspended later", suspendedLater, true},
		{"suspended with pods left", func(job *batchv1.Job) { suspendedLater(job); job.Status.Active = 1 }, false},
		{"suspended, not yet noticed", func(job *batchv1.Job) { suspendedLater(job); job.Status.Conditions = nil }, false},
	}
	for _, state := range states {
		for name, change := range changes {
			test := jobChange{name: state.name + "/" + name, before: state.before,
				change: func(job *batchv1.Job) { change(&job.Spec.Template) }}
			if !state.mutable {
				test.want = []string{"spec.template: Invalid value: field is immutable"}
			}
			test.run(t, Job().Update.Validate)
		}
		for name, change := range never {
			path := "spec.template"
			if state.mutable {
				path = "spec.template.spec"
			}
			jobChange{name: state.name + "/" + name, before: state.before,
				change: func(job *batchv1.Job) { change(&job.Spec.Template) },
				want:   []string{path + ": Invalid value: field is immutable"}}.run(t, Job().Update.Validate)
		}
	}
}

// Node affinity may be taken away again, but not together with other affinity.
func TestJobAffinityRemoval(t *testing.T) {
	t.Parallel()
	with := func(affinity corev1.Affinity) func(*batchv1.Job) {
		return func(job *batchv1.Job) {
			suspended(job)
			job.Spec.Template.Spec.Affinity = &affinity
		}
	}
	remove := func(job *batchv1.Job) { job.Spec.Template.Spec.Affinity = nil }
	jobChange{name: "node affinity alone", before: with(corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}),
		change: remove}.run(t, Job().Update.Validate)
	jobChange{name: "with pod affinity", before: with(corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}, PodAffinity: &corev1.PodAffinity{}}),
		change: remove, want: []string{"spec.template.spec: Invalid value: field is immutable"}}.run(t, Job().Update.Validate)
}

func TestJobGeneration(t *testing.T) {
	t.Parallel()
	k, old := Job(), created(t, baseJob)
	if old.Generation != 1 {
		t.Errorf("a new Job has generation %d", old.Generation)
	}
	same := old.DeepCopy()
	same.Labels = map[string]string{"a": "b"}
	same.Status.Active = 7
	k.Update.Prepare(same, old)
	if same.Generation != 1 || same.Status.Active != 0 {
		t.Errorf("an update of metadata: generation %d, active %d", same.Generation, same.Status.Active)
	}
	next := old.DeepCopy()
	next.Spec.Suspend = ptr.To(true)
	k.Update.Prepare(next, old)
	if next.Generation != 2 {
		t.Errorf("an update of the spec: generation %d", next.Generation)
	}
	status := next.DeepCopy()
	status.Spec, status.Status.Active = batchv1.JobSpec{}, 3
	k.Status.Prepare(status, next)
	if status.Spec.Template.Spec.Containers == nil || status.Status.Active != 3 {
		t.Errorf("a write to /status: %+v", status)
	}
}

// What `kubectl apply` shows when the template of a Job was edited.
func TestImmutableTemplateMessage(t *testing.T) {
	t.Parallel()
	k, old := Job(), created(t, baseJob)
	job := old.DeepCopy()
	job.Spec.Template.Spec.Containers[0].Image = "perl"
	message, causes := refusal(k, job, k.Update.Validate(job, old))
	start := `Job.batch "base" is invalid: spec.template: Invalid value: {"labels":{` +
		`"batch.kubernetes.io/controller-uid":"11111111-2222-3333-4444-555555555555","batch.kubernetes.io/job-name":"base",` +
		`"controller-uid":"11111111-2222-3333-4444-555555555555","job-name":"base"},"Spec":{"Volumes":null,"InitContainers":[{"Name":"fetch",`
	if !strings.HasPrefix(message, start) {
		t.Errorf("got  %s\nwant %s…", message, start)
	}
	if end := "}}: field is immutable"; !strings.HasSuffix(message, end) {
		t.Errorf("got %s\nwant …%s", message, end)
	}
	if len(causes) != 1 || causes[0].Field != "spec.template" || causes[0].Type != "FieldValueInvalid" {
		t.Errorf("causes %+v", causes)
	}
}
