package volume

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"syscall"

	corev1 "k8s.io/api/core/v1"
)

// Limited reports whether the pod has a volume on disk whose size is limited.
// Nothing stops it from growing; Overfull is to be asked from time to time.
func Limited(pod *corev1.Pod) bool {
	for i := range pod.Spec.Volumes {
		if limitOf(&pod.Spec.Volumes[i]) > 0 {
			return true
		}
	}
	return false
}

func limitOf(v *corev1.Volume) int64 {
	if e := v.EmptyDir; e != nil && e.Medium == corev1.StorageMediumDefault && e.SizeLimit != nil {
		return e.SizeLimit.Value()
	}
	return 0
}

// Overfull says which volume has outgrown its limit, in the words of an
// eviction; "" when none has.
func (p *Pod) Overfull() string {
	for i := range p.Object.Spec.Volumes {
		v := &p.Object.Spec.Volumes[i]
		if limit := limitOf(v); limit > 0 && usage(p.path(v)) > limit {
			return fmt.Sprintf("Usage of EmptyDir volume %q exceeds the limit %q. ", v.Name, v.EmptyDir.SizeLimit.String())
		}
	}
	return ""
}

// usage returns how much of the disk the files below dir take. What cannot be
// read, because it is being removed for instance, does not count.
func usage(dir string) int64 {
	var sum int64
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil
		}
		if info, err := d.Info(); err == nil {
			if st, ok := info.Sys().(*syscall.Stat_t); ok {
				sum += st.Blocks * 512
			}
		}
		return nil
	})
	return sum
}
