package eviction

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// Signal names something that can run out, as a kubelet's flags do.
type Signal string

// The signals that a node knows. nodefs is where pods' files are, their writable
// layers included; imagefs is where images are.
const (
	MemoryAvailable   Signal = "memory.available"
	NodefsAvailable   Signal = "nodefs.available"
	NodefsInodesFree  Signal = "nodefs.inodesFree"
	ImagefsAvailable  Signal = "imagefs.available"
	ImagefsInodesFree Signal = "imagefs.inodesFree"
	PIDAvailable      Signal = "pid.available"
)

// Resources that are none of the API, as a kubelet's texts name them.
const (
	resourceInodes corev1.ResourceName = "inodes"
	resourcePIDs   corev1.ResourceName = "pids"
)

// meanings says what each signal is about.
func (s Signal) meaning() (r corev1.ResourceName, condition corev1.NodeConditionType, known bool) {
	switch s {
	case MemoryAvailable:
		return corev1.ResourceMemory, corev1.NodeMemoryPressure, true
	case NodefsAvailable, ImagefsAvailable:
		return corev1.ResourceEphemeralStorage, corev1.NodeDiskPressure, true
	case NodefsInodesFree, ImagefsInodesFree:
		return resourceInodes, corev1.NodeDiskPressure, true
	case PIDAvailable:
		return resourcePIDs, corev1.NodePIDPressure, true
	}
	return "", "", false
}

// Value is an amount, or a part of what there is; if both are set, the smaller
// one counts.
type Value struct {
	Quantity *resource.Quantity
	// Percentage is between 0 and 1; 0: not set.
	Percentage float32
}

// of returns the amount that v is of a capacity.
func (v Value) of(capacity int64) resource.Quantity {
	part := *resource.NewQuantity(int64(float64(capacity)*float64(v.Percentage)), resource.BinarySI)
	if v.Quantity == nil || v.Percentage > 0 && part.Cmp(*v.Quantity) < 0 {
		return part
	}
	return v.Quantity.DeepCopy()
}

// Threshold is how little may be left before the node does something about it.
type Threshold struct {
	Signal Signal
	Value  Value
	// Reclaim is how much more than Value there has to be before the node is
	// content again.
	Reclaim Value
}

// Defaults are a kubelet's thresholds, with an upper bound: a tenth of a large
// disk is room for many Jobs, and most machines that are nobody's server live with
// less. A kubelet sets none for processes.
func Defaults() []Threshold {
	atMost := func(s Signal, percentage float32, quantity string) Threshold {
		return Threshold{Signal: s, Value: Value{Percentage: percentage, Quantity: quantityOf(quantity)}}
	}
	return []Threshold{
		{Signal: MemoryAvailable, Value: Value{Quantity: quantityOf("100Mi")}},
		atMost(NodefsAvailable, 0.10, "1Gi"),
		atMost(NodefsInodesFree, 0.05, "50k"),
		atMost(ImagefsAvailable, 0.15, "1Gi"),
		atMost(ImagefsInodesFree, 0.05, "50k"),
		atMost(PIDAvailable, 0.05, "500"),
	}
}

func quantityOf(text string) *resource.Quantity {
	q := resource.MustParse(text)
	return &q
}

// Parse reads thresholds as a kubelet's --eviction-hard has them
// ("memory.available<100Mi,nodefs.available<10%"), and what has to be reclaimed
// beyond them as --eviction-minimum-reclaim has it ("nodefs.available=500Mi").
// 0% and 100% switch a signal off, as there.
func Parse(hard, reclaim string) ([]Threshold, error) {
	var list []Threshold
	err := statements(hard, "<", func(s Signal, text string) error {
		if text == "0%" || text == "100%" {
			return nil
		}
		v, err := parseValue(text)
		if err == nil && v.Quantity != nil && v.Quantity.Sign() <= 0 {
			err = fmt.Errorf("eviction threshold %v must be positive: %s", s, text)
		}
		list = append(list, Threshold{Signal: s, Value: v})
		return err
	})
	if err != nil {
		return nil, err
	}
	return list, addReclaim(list, reclaim)
}

// addReclaim adds what --eviction-minimum-reclaim says to thresholds.
func addReclaim(list []Threshold, text string) error {
	return statements(text, "=", func(s Signal, text string) error {
		v, err := parseValue(text)
		if err == nil && v.Quantity != nil && v.Quantity.Sign() < 0 {
			err = fmt.Errorf("negative eviction minimum reclaim specified for %v", s)
		}
		for i := range list {
			if list[i].Signal == s {
				list[i].Reclaim = v
			}
		}
		return err
	})
}

// WithReclaim returns the default thresholds with what --eviction-minimum-reclaim
// says.
func WithReclaim(reclaim string) ([]Threshold, error) {
	list := Defaults()
	return list, addReclaim(list, reclaim)
}

// statements calls take for each "signal SEPARATOR value" of a comma-separated
// list.
func statements(text, separator string, take func(Signal, string) error) error {
	seen := map[Signal]bool{}
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue
		}
		name, value, ok := strings.Cut(part, separator)
		s := Signal(strings.TrimSpace(name))
		_, _, known := s.meaning()
		switch {
		case !ok:
			return fmt.Errorf("malformed pair, expect signal%svalue: %q", separator, part)
		case !known:
			return fmt.Errorf("unsupported eviction signal %v", s)
		case seen[s]:
			return fmt.Errorf("eviction signal %v is given twice", s)
		}
		seen[s] = true
		if err := take(s, strings.TrimSpace(value)); err != nil {
			return err
		}
	}
	return nil
}

func parseValue(text string) (Value, error) {
	number, isPercentage := strings.CutSuffix(text, "%")
	if !isPercentage {
		q, err := resource.ParseQuantity(text)
		if err != nil {
			return Value{}, fmt.Errorf("%q: %w", text, err)
		}
		return Value{Quantity: &q}, nil
	}
	n, err := strconv.ParseFloat(number, 32)
	if err != nil {
		return Value{}, fmt.Errorf("%q: %w", text, err)
	}
	if !(n > 0 && n <= 100) { // nor NaN
		return Value{}, fmt.Errorf("%q: a percentage must be above 0%% and at most 100%%", text)
	}
	return Value{Percentage: float32(n) / 100}, nil
}
