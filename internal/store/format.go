package store

import (
	"bytes"
	"encoding/binary"
	"errors"
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
//	meta/seal     how many objects there are, and the sum of them; see seal.go
//	objects/KEY   the encoded object, its revision in 8 bytes, and a CRC-32C
//	              of all this and the key in 4
//
// KEY is resource NUL namespace NUL name, so that a cursor walks the objects
// in the order of the trees.
//
// A program that knows no seals reads and writes the rest as it is; format 1 is
// older than they are.
var (
	metaBucket    = []byte("meta")
	objectsBucket = []byte("objects")
	formatKey     = []byte("format")
	markKey       = []byte("mark")
	sealKey       = []byte("seal")
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

// FormatError says that a newer program wrote the store.
type FormatError struct{ Version uint64 }

func (e *FormatError) Error() string {
	return fmt.Sprintf("has format %d, this program knows none above %d: use the program that wrote it, or a newer one", e.Version, formatVersion)
}

func checkFormat(version uint64) error {
	switch {
	case version > formatVersion:
		return &FormatError{version}
	case version == 0:
		return errors.New("does not say which format it has")
	}
	return nil
}

// decodeKey reads the key of an entry.
func decodeKey(k []byte) (key change.Key, ok bool) {
	parts := bytes.Split(k, []byte{0})
	if len(parts) != 3 || len(parts[0]) == 0 || len(parts[2]) == 0 {
		return key, false
	}
	return change.Key{Resource: change.Resource(unique.Make(string(parts[0])).Value()), Namespace: string(parts[1]), Name: string(parts[2])}, true
}

// unpack checks an entry of the objects bucket and returns what it is made of.
func unpack(k, v []byte) (key change.Key, data []byte, rev uint64, err error) {
	key, ok := decodeKey(k)
	if !ok || len(v) < trailer {
		return key, nil, 0, fmt.Errorf("damaged entry at %q", k)
	}
	v, sum := v[:len(v)-4], v[len(v)-4:]
	if checksum(k, v) != binary.BigEndian.Uint32(sum) {
		return key, nil, 0, fmt.Errorf("%s: wrong checksum", key)
	}
	return key, v[:len(v)-8], number(v[len(v)-8:]), nil
}

// decode reads one entry of the objects bucket.
func decode(codec Codec, k, v []byte) (*item, error) {
	key, data, rev, err := unpack(k, v)
	if err != nil {
		return nil, err
	}
	if !codec.Knows(key.Resource) {
		return nil, errUnknown
	}
	obj, err := codec.Decode(key.Resource, data)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", key, err)
	}
	if obj.GetNamespace() != key.Namespace || obj.GetName() != key.Name {
		return nil, fmt.Errorf("object %s/%s is stored as %s", obj.GetNamespace(), obj.GetName(), key)
	}
	obj.SetResourceVersion(strconv.FormatUint(rev, 10))
	key.Namespace, key.Name = obj.GetNamespace(), obj.GetName() // held once
	return &item{key: key, rev: rev, obj: obj, size: len(data)}, nil
}

func number(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
