package store

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"

	"go.etcd.io/bbolt"

	"github.com/sampan-batch/sampan/internal/change"
)

// seal says how many objects the file holds, and which, so that none can be
// missing, or be an old one, without being missed. It is written in every
// transaction. An object that is damaged shows itself; the seal is for those that
// are not reached any more, because a page in between is damaged or out of date.
type seal struct {
	// tx is the transaction that wrote it. A program that knows no seals leaves it
	// as it was, so that a seal of an earlier transaction says nothing.
	tx    uint64
	mark  uint64 // as in meta/mark
	count uint64
	// sum is the sum of the weights of all objects: whatever their order, and
	// whichever of them changes, it costs the weight of that one.
	sum uint64
}

const sealSize = 4*8 + 4

func (s seal) encode() []byte {
	b := make([]byte, 0, sealSize)
	for _, n := range []uint64{s.tx, s.mark, s.count, s.sum} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}

func decodeSeal(b []byte) (s seal, err error) {
	if len(b) != sealSize {
		return s, fmt.Errorf("the seal has %d bytes instead of %d", len(b), sealSize)
	}
	for i, n := range []*uint64{&s.tx, &s.mark, &s.count, &s.sum} {
		*n = binary.BigEndian.Uint64(b[8*i:])
	}
	if string(s.encode()) != string(b) {
		return s, errors.New("the seal has a wrong checksum")
	}
	return s, nil
}

// weigh returns the weight of an entry: a hash of its key, its revision, and the
// checksum that covers the rest of it.
func weigh(k, v []byte) uint64 {
	var room [256]byte
	b := append(room[:0], k...)
	b = append(b, v[max(0, len(v)-trailer):]...)
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:])
}

func (s *seal) add(k, v []byte)    { s.count, s.sum = s.count+1, s.sum+weigh(k, v) }
func (s *seal) remove(k, v []byte) { s.count, s.sum = s.count-1, s.sum-weigh(k, v) }

// put writes a step to the file and brings the seal up to date. What the step
// replaces must be there, as the state in memory has it.
func (s *seal) put(objects *bbolt.Bucket, st *step) error {
	k := encodeKey(st.next.key)
	old, want := objects.Get(k), uint64(0)
	if st.old != nil {
		want = st.old.rev
	}
	if have := revIn(old); have != want {
		return &lostError{key: st.next.key, want: want, have: have}
	}
	if old != nil {
		s.remove(k, old)
	}
	if st.op == change.Delete {
		return objects.Delete(k)
	}
	v := encodeValue(k, st.data, st.next.rev)
	s.add(k, v)
	return objects.Put(k, v)
}

// revIn returns the revision of an entry's value; 0 if there is none.
func revIn(v []byte) uint64 {
	if len(v) < trailer {
		return 0
	}
	return number(v[len(v)-trailer : len(v)-4])
}

// lostError: while the store was open, the file lost an object, or got back an old one.
type lostError struct {
	key        change.Key
	want, have uint64
}

func (e *lostError) Error() string {
	return fmt.Sprintf("%s is not there as it was written: at revision %d instead of %d (0: absent)", e.key, e.have, e.want)
}

// compare holds the seal that was found in transaction tx against what was
// counted. stale tells that a program which knows no seals has written since.
func (s seal) compare(counted seal, tx uint64) (stale bool, err error) {
	switch {
	case s.tx > tx:
		return false, fmt.Errorf("the seal is of transaction %d, and the file of %d", s.tx, tx)
	case s.tx < tx:
		return true, nil
	case s.mark != counted.mark:
		return false, fmt.Errorf("the mark is at revision %d instead of %d", counted.mark, s.mark)
	case s.count > counted.count:
		return false, fmt.Errorf("%d of %d objects are missing", s.count-counted.count, s.count)
	case s.count < counted.count:
		return false, fmt.Errorf("there are %d objects instead of %d", counted.count, s.count)
	case s.sum != counted.sum:
		return false, fmt.Errorf("there are %d objects, as many as there should be, but not the same ones", s.count)
	}
	return false, nil
}
