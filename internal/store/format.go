package store

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"strconv"
	"unique"

	"github.com/sampan-batch/sampan/internal/change"
)

// formatVersion is written into every file. Raise it when a former program
// would misread what this one writes.
const formatVersion = 1

// The layout of the file:
//
//	meta/format   the format version, 8 bytes
//	meta/mark     the revision mark, 8 bytes
//	objects/KEY   the encoded object, its revision in 8 bytes, and a CRC-32C
//	              of all this and the key in 4
//
// KEY is resource NUL namespace NUL name, so that a cursor walks the objects
// in the order of the trees.
var (
	metaBucket    = []byte("meta")
	objectsBucket = []byte("objects")
	formatKey     = []byte("format")
	markKey       = []byte("mark")
)

func encodeKey(key change.Key) []byte {
	k := make([]byte, 0, len(key.Resource)+len(key.Namespace)+len(key.Name)+2)
	k = append(append(k, key.Resource...), 0)
	k = append(append(k, key.Namespace...), 0)
	return append(k, key.Name...)
}

const trailer = 8 + 4

func encodeValue(k, data []byte, rev uint64) []byte {
	v := make([]byte, 0, len(data)+trailer)
	v = binary.BigEndian.AppendUint64(append(v, data...), rev)
	return binary.BigEndian.AppendUint32(v, checksum(k, v))
}

// checksum guards against what the engine does not check: it trusts the pages
// that it reads.
func checksum(k, v []byte) uint32 {
	table := crc32.MakeTable(crc32.Castagnoli)
	return crc32.Update(crc32.Checksum(k, table), table, v)
}

// decode reads one entry of the objects bucket.
func decode(codec Codec, k, v []byte) (*item, error) {
	parts := bytes.Split(k, []byte{0})
	if len(parts) != 3 || len(v) < trailer {
		return nil, fmt.Errorf("damaged entry at %q", k)
	}
	v, sum := v[:len(v)-4], v[len(v)-4:]
	if checksum(k, v) != binary.BigEndian.Uint32(sum) {
		return nil, fmt.Errorf("damaged entry at %q: wrong checksum", k)
	}
	data, rev := v[:len(v)-8], number(v[len(v)-8:])
	resource := unique.Make(string(parts[0])).Value()
	obj, err := codec.Decode(resource, data)
	if err != nil {
		return nil, fmt.Errorf("decode %q: %w", k, err)
	}
	if obj.GetNamespace() != string(parts[1]) || obj.GetName() != string(parts[2]) {
		return nil, fmt.Errorf("object %s/%s is stored at %q", obj.GetNamespace(), obj.GetName(), k)
	}
	obj.SetResourceVersion(strconv.FormatUint(rev, 10))
	return &item{
		key: change.Key{Resource: resource, Namespace: obj.GetNamespace(), Name: obj.GetName()},
		rev: rev, obj: obj,
	}, nil
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
