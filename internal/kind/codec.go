package kind

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"github.com/sampan-batch/sampan/internal/change"
)

// The first byte of a stored object tells how the rest is encoded.
const (
	formatProtobuf = 'p'
	formatJSON     = 'j' // types without a protobuf message
)

// Codec turns the objects of a catalogue's kinds into the bytes that the store
// keeps, and back: the Kubernetes API's own protobuf messages, without the
// TypeMeta, which the key implies; or JSON, where a type has no such message. It
// knows what the catalogue knows at that moment.
//
// Times keep whole seconds (MicroTime: microseconds), as everywhere in the API.
type Codec struct{ kinds *Kinds }

// NewCodec returns the codec for the stored versions of kinds.
func NewCodec(kinds *Kinds) *Codec { return &Codec{kinds} }

// Knows reports whether the catalogue has the resource.
func (c *Codec) Knows(resource change.Resource) bool { return c.kinds.ByResource(resource) != nil }

// message is what the generated types of k8s.io/api implement.
type message interface {
	Size() int
	MarshalToSizedBuffer([]byte) (int, error)
	Unmarshal([]byte) error
}

// Encode returns the bytes of obj. Its TypeMeta is not kept in protobuf.
func (c *Codec) Encode(obj change.Object) ([]byte, error) {
	if !c.kinds.now.Load().types[reflect.TypeOf(obj)] {
		return nil, fmt.Errorf("kind: no resource stores objects of type %T", obj)
	}
	m, ok := obj.(message)
	if !ok {
		return encodeJSON(obj)
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

func encodeJSON(obj change.Object) ([]byte, error) {
	data, err := json.Marshal(obj)
	if err != nil {
		return nil, fmt.Errorf("kind: encode %T %s/%s: %w", obj, obj.GetNamespace(), obj.GetName(), err)
	}
	return append([]byte{formatJSON}, data...), nil
}

// Decode returns the object of resource that data encodes. The object shares
// no memory with data.
func (c *Codec) Decode(resource change.Resource, data []byte) (change.Object, error) {
	k := c.kinds.ByResource(resource)
	if k == nil {
		return nil, fmt.Errorf("kind: unknown resource %q", resource)
	}
	if len(data) == 0 {
		return nil, fmt.Errorf("kind: decode %s: %w", resource, errEmpty)
	}
	obj := k.New()
	var err error
	switch m, ok := obj.(message); {
	case data[0] == formatJSON:
		err = json.Unmarshal(data[1:], obj)
	case data[0] == formatProtobuf && ok:
		err = m.Unmarshal(data[1:])
	default:
		err = fmt.Errorf("unknown format 0x%02x", data[0])
	}
	if err != nil {
		return nil, fmt.Errorf("kind: decode %s: %w", resource, err)
	}
	if k.Storage.Implied != nil {
		k.Storage.Implied(obj)
	}
	return obj, nil
}

var errEmpty = errors.New("no data")
