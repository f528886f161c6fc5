package load

import (
	"context"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"github.com/sampan-batch/sampan/torture/model"
)

// The kinds of the load, by their resources.
const (
	configMaps = "configmaps"
	secrets    = "secrets"
	jobs       = "jobs"
	pods       = "pods"
)

var kinds = map[string]struct{ group, kind string }{
	configMaps: {"", "ConfigMap"}, secrets: {"", "Secret"}, jobs: {"batch", "Job"}, pods: {"", "Pod"},
}

// requestTimeout is how long a client waits for an answer.
const requestTimeout = 30 * time.Second

// api is one kind of object, as the model has objects: with a value in an
// annotation.
type api struct {
	resource string
	client   dynamic.ResourceInterface
}

func apiOf(client dynamic.Interface, resource string) api {
	gvr := schema.GroupVersionResource{Group: kinds[resource].group, Version: "v1", Resource: resource}
	return api{resource, client.Resource(gvr).Namespace(Namespace)}
}

// object is what is written.
func (a api) object(name string, known model.State, value, body string) *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{}}
	u.SetGroupVersionKind(schema.GroupVersionKind{Group: kinds[a.resource].group, Version: "v1", Kind: kinds[a.resource].kind})
	u.SetName(name)
	u.SetAnnotations(map[string]string{valueKey: value})
	field := "data"
	if a.resource == secrets {
		field = "stringData"
	}
	u.Object[field] = map[string]any{"body": body}
	if known.Rev != 0 {
		u.SetResourceVersion(strconv.FormatUint(known.Rev, 10))
		u.SetUID(types.UID(known.UID))
	}
	return u
}

func (a api) create(ctx context.Context, name, value, body string) (model.State, error) {
	return asked(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return a.client.Create(ctx, a.object(name, model.State{}, value, body), metav1.CreateOptions{})
	})
}

func (a api) update(ctx context.Context, name string, known model.State, value, body string) (model.State, error) {
	return asked(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return a.client.Update(ctx, a.object(name, known, value, body), metav1.UpdateOptions{})
	})
}

// patch changes the value if the object still is as it is known.
func (a api) patch(ctx context.Context, name string, known model.State, value string, kind types.PatchType) (model.State, error) {
	rev := strconv.FormatUint(known.Rev, 10)
	body := `{"metadata":{"resourceVersion":"` + rev + `","annotations":{"` + valueKey + `":"` + value + `"}}}`
	return asked(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return a.client.Patch(ctx, name, kind, []byte(body), metav1.PatchOptions{})
	})
}

// delete deletes the object if it still is as it is known.
func (a api) delete(ctx context.Context, name string, known model.State) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	uid, rev := types.UID(known.UID), strconv.FormatUint(known.Rev, 10)
	return a.client.Delete(ctx, name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &uid, ResourceVersion: &rev}})
}

func (a api) get(ctx context.Context, name string) (model.State, error) {
	return asked(ctx, func(ctx context.Context) (*unstructured.Unstructured, error) {
		return a.client.Get(ctx, name, metav1.GetOptions{})
	})
}

// list returns all objects, by resource/name, and the revision at which they are so.
func (a api) list(ctx context.Context) (rev uint64, all map[string]model.State, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	list, err := a.client.List(ctx, metav1.ListOptions{})
	if err != nil {
		return 0, nil, err
	}
	all = map[string]model.State{}
	for i := range list.Items {
		all[a.resource+"/"+list.Items[i].GetName()] = stateOf(&list.Items[i])
	}
	rev, err = strconv.ParseUint(list.GetResourceVersion(), 10, 64)
	return rev, all, err
}

// asked asks once, within the time of a request.
func asked(ctx context.Context, ask func(context.Context) (*unstructured.Unstructured, error)) (model.State, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	obj, err := ask(ctx)
	if err != nil {
		return model.State{}, err
	}
	return stateOf(obj), nil
}

// stateOf is what the model knows of an object.
func stateOf(m metav1.Object) model.State {
	rev, _ := strconv.ParseUint(m.GetResourceVersion(), 10, 64)
	value := m.GetAnnotations()[valueKey]
	if value == "" {
		value = "-" // not an object of a writer
	}
	return model.State{UID: string(m.GetUID()), Rev: rev, Value: value}
}
