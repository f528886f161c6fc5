package eviction

import (
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

const gi = 1 << 30

func TestParse(t *testing.T) {
	t.Parallel()
	list, err := Parse(" memory.available<100Mi, nodefs.available<50%,imagefs.available<0%,nodefs.inodesFree<100%,pid.available<1k ", "nodefs.available=500Mi,memory.available=25%")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, th := range list {
		limit, more := th.Value.of(1000*gi), th.Reclaim.of(1000*gi)
		got = append(got, string(th.Signal)+" "+limit.String()+" "+more.String())
	}
	if want := []string{"memory.available 100Mi 250Gi", "nodefs.available 500Gi 500Mi", "pid.available 1k 0"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	for text, want := range map[string]string{
		"cpu.available<1":                            "unsupported eviction signal cpu.available",
		"memory.available":                           `malformed pair, expect signal<value: "memory.available"`,
		"memory.available=1":                         `malformed pair`,
		"memory.available<x":                         "quantities must match",
		"memory.available<0":                         "eviction threshold memory.available must be positive: 0",
		"memory.available<-1":                        "eviction threshold memory.available must be positive: -1",
		"memory.available<-1%":                       "a percentage must be",
		"memory.available<101%":                      "a percentage must be",
		"memory.available<NaN%":                      "a percentage must be",
		"memory.available<ten%":                      "invalid syntax",
		"memory.available<1Gi,memory.available<2Gi":  "given twice",
		"memory.available<1Gi,,nodefs.available<10%": "",
		"": "",
	} {
		_, err := Parse(text, "")
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, want %q", text, err, want)
		}
	}
	if _, err := Parse("", "nodefs.available=-1"); err == nil || err.Error() != "negative eviction minimum reclaim specified for nodefs.available" {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("memory.available<100Mi,nodefs.available<10%", "nodefs.available=1")
	f.Fuzz(func(t *testing.T, hard, reclaim string) {
		list, err := Parse(hard, reclaim)
		if err != nil {
			return
		}
		for _, th := range list {
			if q := th.Value.of(1 << 40); q.Sign() < 0 {
				t.Errorf("%q: %s below nothing", hard, th.Signal)
			}
		}
	})
}

// TestDefaults: a tenth of a large disk is not kept free.
func TestDefaults(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		signal              Signal
		available, capacity int64
		short               bool
	}{
		{NodefsAvailable, 35 * gi, 500 * gi, false}, // 93 % full
		{NodefsAvailable, gi - 1, 500 * gi, true},
		{NodefsAvailable, gi / 2, 4 * gi, false},
		{NodefsAvailable, gi / 3, 4 * gi, true},
		{NodefsInodesFree, 60_000, 16 << 20, false},
		{NodefsInodesFree, 49_000, 16 << 20, true},
		{NodefsInodesFree, 700, 10_000, false},
		{MemoryAvailable, 101 << 20, 16 * gi, false},
		{MemoryAvailable, 99 << 20, 16 * gi, true},
		{PIDAvailable, 600, 32768, false},
		{PIDAvailable, 400, 32768, true},
		{PIDAvailable, 14, 300, true},
		{PIDAvailable, 16, 300, false},
		{ImagefsAvailable, 2 * gi, 400 * gi, false},
		{ImagefsAvailable, gi / 2, 400 * gi, true},
	} {
		c := &Config{Thresholds: Defaults()}
		_, a := Assess(c, State{}, time.Unix(0, 0), Observations{test.signal: {test.available, test.capacity}})
		if (a.Shortage != nil) != test.short {
			t.Errorf("%s %d of %d: got %+v", test.signal, test.available, test.capacity, a.Shortage)
		}
	}
}

func TestAssess(t *testing.T) {
	t.Parallel()
	thresholds, err := Parse("nodefs.available<1Gi,memory.available<100Mi,pid.available<10", "nodefs.available=1Gi")
	if err != nil {
		t.Fatal(err)
	}
	c := &Config{Thresholds: thresholds, Transition: 5 * time.Minute}
	const memory, disk, pid = corev1.NodeMemoryPressure, corev1.NodeDiskPressure, corev1.NodePIDPressure
	now := time.Unix(1000, 0)
	var s State
	for i, step := range []struct {
		after               time.Duration
		nodefs, memory, pid int64
		conditions          []corev1.NodeConditionType
		short               Signal
		near                bool
	}{
		{0, 9 * gi, gi, 100, nil, "", false},
		{time.Second, 3 * gi, gi, 100, nil, "", true},
		{time.Second, gi, gi, 100, nil, "", true}, // not below
		{time.Second, gi - 1, gi, 100, []corev1.NodeConditionType{disk}, NodefsAvailable, true},
		{time.Second, gi + 1, gi, 100, []corev1.NodeConditionType{disk}, NodefsAvailable, true}, // too little was reclaimed
		{time.Second, 2 * gi, gi, 100, []corev1.NodeConditionType{disk}, "", true},              // enough, but for how long?
		{time.Second, gi + 1, gi, 100, []corev1.NodeConditionType{disk}, "", true},              // now the threshold counts again
		{time.Minute, 9 * gi, 1 << 20, 5, []corev1.NodeConditionType{memory, disk, pid}, MemoryAvailable, true},
		{237 * time.Second, 9 * gi, gi, 100, []corev1.NodeConditionType{memory, disk, pid}, "", false},
		{time.Second, 9 * gi, gi, 100, []corev1.NodeConditionType{memory, pid}, "", false},
		{62 * time.Second, 9 * gi, gi, 100, nil, "", false},
	} {
		now = now.Add(step.after)
		before := s
		next, a := Assess(c, s, now, Observations{
			NodefsAvailable: {step.nodefs, 20 * gi}, MemoryAvailable: {step.memory, 4 * gi}, PIDAvailable: {step.pid, 1000},
		})
		if !reflect.DeepEqual(before, s) {
			t.Error("the state was changed in place")
		}
		s = next
		var short Signal
		if a.Shortage != nil {
			short = a.Shortage.Signal
		}
		if !slices.Equal(a.Conditions, step.conditions) || short != step.short || a.Close != step.near {
			t.Errorf("step %d: got %v, %q, %v", i, a.Conditions, short, a.Close)
		}
	}
	// What cannot be observed causes nothing.
	if _, a := Assess(c, State{}, now, nil); len(a.Conditions) > 0 || a.Shortage != nil {
		t.Errorf("got %+v", a)
	}
	// Without a transition period a condition lasts as long as its cause.
	c.Transition = 0
	s, a := Assess(c, State{}, now, Observations{NodefsAvailable: {0, gi}})
	if len(a.Conditions) != 1 {
		t.Errorf("got %+v", a)
	}
	if _, a = Assess(c, s, now.Add(time.Second), Observations{NodefsAvailable: {9 * gi, 20 * gi}}); len(a.Conditions) != 0 {
		t.Errorf("got %+v", a)
	}
}

// candidate is a pod of one container c that asks for so much.
func candidate(name string, priority int32, requests corev1.ResourceList, use *Use) Pod {
	p := Pod{Object: &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.PodSpec{Priority: &priority, Containers: []corev1.Container{
			{Name: "c", Resources: corev1.ResourceRequirements{Requests: requests}},
		}},
	}}
	if use != nil {
		p.Usage = &Usage{Containers: map[string]Use{"c": *use}}
	}
	return p
}

func TestVictim(t *testing.T) {
	t.Parallel()
	list := func(r corev1.ResourceName, q string) corev1.ResourceList {
		return corev1.ResourceList{r: resource.MustParse(q)}
	}
	const disk, memory = corev1.ResourceEphemeralStorage, corev1.ResourceMemory
	bytes := func(n int64) *Use { return &Use{Disk: Disk{Bytes: n << 20, Inodes: 1000 - n}} }
	short := func(s Signal, threshold string, available int64) *Shortage {
		r, _, _ := s.meaning()
		return &Shortage{Signal: s, Resource: r, Threshold: resource.MustParse(threshold), Available: amount(r, available)}
	}
	storage := short(NodefsAvailable, "1Gi", 512<<20)
	for name, test := range map[string]struct {
		short *Shortage
		pods  []Pod
		want  string // the victim, and why
	}{
		"none": {storage, nil, ""},
		"the largest": {storage, []Pod{candidate("a", 0, nil, bytes(1)), candidate("b", 0, nil, bytes(3)), candidate("d", 0, nil, bytes(2))},
			"b: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. Container c was using 3Mi, request is 0, has larger consumption of ephemeral-storage. "},
		"above its request before below": {storage, []Pod{candidate("a", 0, list(disk, "1Gi"), bytes(900)), candidate("b", 5, list(disk, "1Mi"), bytes(2))},
			"b: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. Container c was using 2Mi, request is 1Mi, has larger consumption of ephemeral-storage. "},
		"the least priority before the largest": {storage, []Pod{candidate("a", 5, nil, bytes(900)), candidate("b", 0, nil, bytes(1))},
			"b: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. Container c was using 1Mi, request is 0, has larger consumption of ephemeral-storage. "},
		"whoever was not measured": {storage, []Pod{candidate("a", 0, nil, bytes(900)), candidate("b", 7, nil, nil)},
			"b: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. "},
		"below its request": {storage, []Pod{candidate("a", 0, list(disk, "1Gi"), bytes(1))},
			"a: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. "},
		"critical pods stay": {storage, []Pod{candidate("a", systemCritical, nil, bytes(900)), candidate("b", 0, nil, bytes(1))},
			"b: The node was low on resource: ephemeral-storage. Threshold quantity: 1Gi, available: 512Mi. Container c was using 1Mi, request is 0, has larger consumption of ephemeral-storage. "},
		"nobody else":          {storage, []Pod{candidate("a", systemCritical, nil, bytes(900))}, ""},
		"inodes are not bytes": {short(NodefsInodesFree, "50k", 10), []Pod{candidate("a", 0, nil, bytes(900)), candidate("b", 0, list(disk, "1Gi"), bytes(1))}, "b: The node was low on resource: inodes. Threshold quantity: 50k, available: 10. "},
		"memory": {short(MemoryAvailable, "100Mi", 1<<20), []Pod{candidate("a", 0, list(memory, "1Gi"), &Use{Memory: 900 << 20}), candidate("b", 0, list(memory, "1Mi"), &Use{Memory: 3 << 20})},
			"b: The node was low on resource: memory. Threshold quantity: 100Mi, available: 1Mi. Container c was using 3Mi, request is 1Mi, has larger consumption of memory. "},
		"processes": {short(PIDAvailable, "500", 3), []Pod{candidate("a", 0, nil, &Use{Processes: 3}), candidate("b", 0, nil, &Use{Processes: 300}), candidate("d", 1, nil, &Use{Processes: 3000})},
			"b: The node was low on resource: pids. Threshold quantity: 500, available: 3. "},
	} {
		i, message := Victim(test.short, test.pods)
		got := ""
		if i >= 0 {
			got = test.pods[i].Object.Name + ": " + message
		}
		if got != test.want {
			t.Errorf("%s: got %q, want %q", name, got, test.want)
		}
	}
}

func TestOvergrown(t *testing.T) {
	t.Parallel()
	limit := func(name, q string) corev1.Container {
		c := corev1.Container{Name: name}
		if q != "" {
			c.Resources.Limits = corev1.ResourceList{corev1.ResourceEphemeralStorage: resource.MustParse(q)}
		}
		return c
	}
	volume := func(medium corev1.StorageMedium, q string) corev1.Volume {
		return corev1.Volume{Name: "v", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: medium, SizeLimit: ptr.To(resource.MustParse(q)),
		}}}
	}
	sidecar := limit("s", "1Mi")
	sidecar.RestartPolicy = ptr.To(corev1.ContainerRestartPolicyAlways)
	use := func(c, d int64) *Usage {
		return &Usage{Containers: map[string]Use{"c": {Disk: Disk{Bytes: c << 20}}, "d": {Disk: Disk{Bytes: d << 20}}}}
	}
	for name, test := range map[string]struct {
		spec    corev1.PodSpec
		use     *Usage
		limited bool
		want    string
	}{
		"no limit": {corev1.PodSpec{Containers: []corev1.Container{limit("c", "")}}, use(1000, 0), false, ""},
		"below":    {corev1.PodSpec{Containers: []corev1.Container{limit("c", "10Mi")}}, use(10, 0), true, ""},
		"the pod is above before its container is": {corev1.PodSpec{Containers: []corev1.Container{limit("c", "10Mi")}}, use(11, 0), true,
			"Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
		"one container": {corev1.PodSpec{Containers: []corev1.Container{limit("c", "10Mi"), limit("d", "2Mi")}}, use(1, 3), true,
			`Container d exceeded its local ephemeral storage limit "2Mi". `},
		"the other has no limit, and counts": {corev1.PodSpec{Containers: []corev1.Container{limit("c", "10Mi"), limit("d", "")}}, use(1, 30), true,
			"Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
		"volumes count for the pod": {corev1.PodSpec{Containers: []corev1.Container{limit("c", "10Mi")}},
			&Usage{Volumes: map[string]Disk{"v": {Bytes: 11 << 20}}}, true, "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
		"so does what is left": {corev1.PodSpec{Containers: []corev1.Container{limit("c", "10Mi")}},
			&Usage{Other: Disk{Bytes: 11 << 20}}, true, "Pod ephemeral local storage usage exceeds the total limit of containers 10Mi. "},
		"a volume": {corev1.PodSpec{Volumes: []corev1.Volume{volume("", "1Mi")}},
			&Usage{Volumes: map[string]Disk{"v": {Bytes: 1<<20 + 1}}}, true, `Usage of EmptyDir volume "v" exceeds the limit "1Mi". `},
		"a full volume": {corev1.PodSpec{Volumes: []corev1.Volume{volume("", "1Mi")}}, &Usage{Volumes: map[string]Disk{"v": {Bytes: 1 << 20}}}, true, ""},
		"in memory":     {corev1.PodSpec{Volumes: []corev1.Volume{volume(corev1.StorageMediumMemory, "1Mi")}}, &Usage{Volumes: map[string]Disk{"v": {Bytes: 2 << 20}}}, false, ""},
		"any size":      {corev1.PodSpec{Volumes: []corev1.Volume{volume("", "0")}}, &Usage{Volumes: map[string]Disk{"v": {Bytes: 2 << 20}}}, false, ""},
		"a sidecar": {corev1.PodSpec{InitContainers: []corev1.Container{sidecar}, Containers: []corev1.Container{limit("c", "10Mi")}},
			&Usage{Containers: map[string]Use{"s": {Disk: Disk{Bytes: 2 << 20}}}}, true, `Container s exceeded its local ephemeral storage limit "1Mi". `},
		"an init container only by the pod": {corev1.PodSpec{InitContainers: []corev1.Container{limit("i", "1Mi")}, Containers: []corev1.Container{limit("c", "10Mi")}},
			&Usage{Containers: map[string]Use{"i": {Disk: Disk{Bytes: 2 << 20}}}}, true, ""},
	} {
		pod := &corev1.Pod{Spec: test.spec}
		if got := Overgrown(pod, test.use); got != test.want || Limited(pod) != test.limited {
			t.Errorf("%s: got %q, limited %v", name, got, Limited(pod))
		}
	}
}

func TestRefuses(t *testing.T) {
	t.Parallel()
	const memory, disk = corev1.NodeMemoryPressure, corev1.NodeDiskPressure
	type list = []corev1.NodeConditionType
	bestEffort := candidate("p", 0, nil, nil).Object
	burstable := candidate("p", 0, corev1.ResourceList{"cpu": resource.MustParse("1")}, nil).Object
	tolerant := candidate("p", 0, nil, nil).Object
	tolerant.Spec.Tolerations = []corev1.Toleration{{Key: corev1.TaintNodeMemoryPressure, Operator: corev1.TolerationOpExists}}
	critical := candidate("p", systemCritical, nil, nil).Object
	for _, test := range []struct {
		has  list
		pod  *corev1.Pod
		want string
	}{
		{nil, bestEffort, ""},
		{list{memory}, bestEffort, "The node had condition: [MemoryPressure]. "},
		{list{memory}, burstable, ""},
		{list{memory}, tolerant, ""},
		{list{disk}, burstable, "The node had condition: [DiskPressure]. "},
		{list{disk}, tolerant, "The node had condition: [DiskPressure]. "},
		{list{memory, disk}, burstable, "The node had condition: [MemoryPressure DiskPressure]. "},
		{list{memory, disk}, critical, ""},
	} {
		if got := Refuses(test.has, test.pod); got != test.want {
			t.Errorf("%v %+v: got %q", test.has, test.pod.Spec, got)
		}
	}
}
