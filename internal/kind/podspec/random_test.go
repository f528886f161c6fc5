package podspec

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// words are strings that mean something somewhere in a pod, or nearly do.
func words() []string {
	return []string{"", "a", "b", "c", "A", "a b", "a/b", "../a", "/", "/a", "$(A)", "-", "1", "metadata.name",
		"metadata.labels['a']", "limits.cpu", "requests.memory", "v1", "10.0.0.1", "010.1.1.1", "fd00::1", "::ffff:1.2.3.4",
		"Always", "Never", "OnFailure", "IfNotPresent", "Exists", "In", "NotIn", "Gt", "Equal", "NoExecute", "NoSchedule",
		"File", "HTTP", "TCP", "UDP", "None", "Default", "ClusterFirst", "Localhost", "RuntimeDefault", "Unconfined",
		"windows", "linux", "cpu", "memory", "hugepages-2Mi", "example.com/gpu", "ephemeral-storage", "storage",
		"ReadWriteOnce", "Filesystem", "Block", "Recursive", "Shared", "Restart", "RestartAllContainers", "Ignore",
		"SIGTERM", "CAP_SYS_ADMIN", "ALL", "kernel.shm_rmid_forced", "kubernetes.io/a", "a:latest", "a@sha256:0", "0", "1500m"}
}

// fill sets v at random.
func fill(r *rand.Rand, v reflect.Value, depth int) {
	pool := words()
	switch field := v.Addr().Interface().(type) {
	case *resource.Quantity:
		quantities := []string{"0", "1", "1500m", "1Gi", "-1", "3Mi", "100u", "9e18"}
		*field = resource.MustParse(quantities[r.IntN(len(quantities))])
		return
	case *intstr.IntOrString:
		*field = intstr.Parse(pool[r.IntN(len(pool))])
		return
	case *metav1.Time:
		return
	}
	switch v.Kind() {
	case reflect.Bool:
		v.SetBool(r.IntN(2) == 0)
	case reflect.String:
		v.SetString(pool[r.IntN(len(pool))])
	case reflect.Int, reflect.Int32, reflect.Int64:
		numbers := []int64{0, 1, -1, 2, 80, 65536, 1 << 30}
		v.SetInt(numbers[r.IntN(len(numbers))])
	case reflect.Pointer:
		if depth > 0 && r.IntN(3) == 0 {
			v.Set(reflect.New(v.Type().Elem()))
			fill(r, v.Elem(), depth-1)
		}
	case reflect.Slice:
		if n := r.IntN(4) - 1; depth > 0 && n >= 0 {
			v.Set(reflect.MakeSlice(v.Type(), n, n))
			for i := range n {
				fill(r, v.Index(i), depth-1)
			}
		}
	case reflect.Map:
		if n := r.IntN(4) - 1; depth > 0 && n >= 0 {
			v.Set(reflect.MakeMap(v.Type()))
			for range n {
				key, elem := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
				fill(r, key, depth-1)
				fill(r, elem, depth-1)
				v.SetMapIndex(key, elem)
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() && r.IntN(2) == 0 {
				fill(r, v.Field(i), depth)
			}
		}
	}
}

func randomPod(r *rand.Rand) *corev1.Pod {
	pod := &corev1.Pod{}
	fill(r, reflect.ValueOf(&pod.Spec).Elem(), 8)
	fill(r, reflect.ValueOf(&pod.Status).Elem(), 6)
	fill(r, reflect.ValueOf(&pod.Labels).Elem(), 2)
	fill(r, reflect.ValueOf(&pod.Annotations).Elem(), 2)
	return pod
}

// checkRandom holds for any pod: defaults are stable, what is dropped stays
// dropped, nothing changes in an update that changes nothing, and nothing
// panics.
func checkRandom(t *testing.T, seed uint64) {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	pod, old := randomPod(r), randomPod(r)
	DefaultPod(pod)
	DefaultPod(old)
	again := pod.DeepCopy()
	DefaultPod(again)
	if !equality.Semantic.DeepEqual(pod, again) {
		t.Errorf("seed %d: the defaults of a defaulted pod differ", seed)
	}
	Prepare(again)
	for _, f := range gatedFields() {
		if f.used(&again.Spec) {
			t.Errorf("seed %d: %s is not dropped", seed, f.gate)
		}
	}
	same := again.DeepCopy()
	PrepareUpdate(same, again)
	if same.Generation != again.Generation || !equality.Semantic.DeepEqual(same, again) {
		t.Errorf("seed %d: an update of nothing changes something", seed)
	}
	if raw, err := json.Marshal(Internal(*again)); err != nil || !json.Valid(raw) {
		t.Errorf("seed %d: %s, %v", seed, raw, err)
	}
	everything(pod, old)
}

func TestRandomPods(t *testing.T) {
	t.Parallel()
	for seed := range uint64(500) {
		checkRandom(t, seed)
	}
}

func FuzzRandomPod(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(checkRandom)
}
