package cgroup

import (
	"fmt"
	"testing"

	"github.com/sampan-batch/sampan/internal/runner"
)

// BenchmarkGroup is what a container's group costs, from its making to its
// removal, by what the container asks for; without the move of the process.
func BenchmarkGroup(b *testing.B) {
	for name, r := range map[string]runner.Resources{"none": {}, "cpu": {CPUShares: 100}, "memory": {MemoryLimit: 64 << 20}} {
		b.Run(name, func(b *testing.B) {
			m := NewManager(Config{Owner: b.TempDir()})
			stays, _, err := m.Create(Container{Pod: "stays", Name: "c"})
			if stays == nil {
				b.Skip(m.Absent(), err)
			}
			for i := 0; b.Loop(); i++ {
				g, _, err := m.Create(Container{Pod: fmt.Sprint(i), PodPids: 100, Name: "c", Resources: r})
				if err == nil {
					_, err = g.ProcsFDs()
				}
				if err == nil {
					err = g.Kill()
				}
				if err == nil {
					err = g.Remove()
				}
				if err != nil {
					b.Fatal(err)
				}
			}
			if err := stays.Remove(); err != nil {
				b.Error(err)
			}
		})
	}
}
