package podset

import (
	"encoding/binary"
	"hash/fnv"
	"io"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/dump"
)

// Hash is the hash of a template, as Kubernetes' controllers compute it and put it into
// names and labels. collisions, if there were any, is how often another template had
// the same.
func Hash(template *corev1.PodTemplateSpec, collisions *int32) string {
	h := fnv.New32a()
	io.WriteString(h, dump.ForHash(*template)) // a hash takes whatever it is given
	if collisions != nil {
		var count [8]byte
		binary.LittleEndian.PutUint32(count[:], uint32(*collisions))
		h.Write(count[:])
	}
	return Harmless(h.Sum32())
}

// Harmless writes a hash in letters that make no bad words, and digits.
func Harmless(sum uint32) string {
	const alphabet = "bcdfghjklmnpqrstvwxz2456789"
	text := []byte(strconv.FormatUint(uint64(sum), 10))
	for i, digit := range text {
		text[i] = alphabet[int(digit)%len(alphabet)]
	}
	return string(text)
}
