package kind

import (
	"errors"
	"fmt"
	"reflect"

	"github.com/sampan-batch/sampan/internal/change"
)

// The first byte of a stored object tells how the rest is encoded.
const formatProtobuf = 'p'

// Codec turns the objects of a table's kinds into the bytes that the store
// keeps, and back: the Kubernetes API's own protobuf messages, without the
// TypeMeta, which the key implies.
//
// Times keep whole seconds (MicroTime: microseconds), as everywhere in the API.
type Codec struct {
	byResource map[string]func() change.Object
	known      map[reflect.Type]bool
}

// NewCodec returns the codec for the stored versions of kinds.
func NewCodec(kinds *Kinds) *Codec {
	c := &Codec{
		byResource: make(map[string]func() change.Object),
		known:      make(map[reflect.Type]bool),
	}
	for _, k := range kinds.All() {
		c.byResource[k.GR().String()] = k.New
		c.known[reflect.TypeOf(k.New())] = true
	}
	return c
}

// Knows reports whether the table has the resource.
func (c *Codec) Knows(resource string) bool {
	_, ok := c.byResource[resource]
	return ok
}

// message is what the generated types of k8s.io/api implement.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// Encode returns the bytes of obj. Its TypeMeta is not kept.
func (c *Codec) Encode(obj change.Object) ([]byte, error) {
	m, ok := obj.(message)
	if !ok || !c.known[reflect.TypeOf(obj)] {
		return nil, fmt.Errorf("kind: no resource stores objects of type %T", obj)
	}
	size := m.Size()
	data := make([]byte, 1+size)
	data[0] = formatProtobuf
	n, err := m.MarshalToSizedBuffer(data[1:])
	if err != nil {
		return nil, fmt.Errorf("kind: encode %T %s/%s: %w", obj, obj.GetNamespace(), obj.GetName(), err)
	}
	if n != size {
		return nil, fmt.Errorf("kind: encode %T %s/%s: %d bytes instead of %d: the object was changed meanwhile",
			obj, obj.GetNamespace(), obj.GetName(), n, size)
	}
	return data, nil
}

// Decode returns the object of resource that data encodes. The object shares
// no memory with data.
func (c *Codec) Decode(resource string, data []byte) (change.Object, error) {
	newObject, ok := c.byResource[resource]
	if !ok {
		return nil, fmt.Errorf("kind: unknown resource %q", resource)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("kind: decode %s: %w", resource, errEmpty)
	}
	if data[0] != formatProtobuf {
		return nil, fmt.Errorf("kind: decode %s: unknown format 0x%02x", resource, data[0])
	}
	obj := newObject()
	if err := obj.(message).Unmarshal(data[1:]); err != nil {
		return nil, fmt.Errorf("kind: decode %s: %w", resource, err)
	}
	return obj, nil
}

var errEmpty = errors.New("no data")
