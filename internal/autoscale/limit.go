package autoscale

import (
	"math"
	"slices"
	"time"

	autoscalingv2 "k8s.io/api/autoscaling/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// downscaleStabilization is how long a higher recommendation holds where nothing else is said.
const downscaleStabilization = 5 * time.Minute

// longest is more than any window or period that validation lets through.
const longest = time.Hour + time.Minute

// Memory is what an autoscaler recommended and did before.
type Memory struct {
	recommended []moment
	up, down    []moment // by how much the target has grown, and become smaller
}

// moment is a number of replicas, and when.
type moment struct {
	n  int32
	at time.Time
}

func (m Memory) clone() Memory {
	return Memory{slices.Clone(m.recommended), slices.Clone(m.up), slices.Clone(m.down)}
}

// begin is how it begins: the size that there is was recommended.
func (m *Memory) begin(current int32, now time.Time) {
	if m.recommended == nil {
		m.recommended = []moment{{current, now}}
	}
	old := func(x moment) bool { return x.at.Before(now.Add(-longest)) }
	m.recommended, m.up, m.down = slices.DeleteFunc(m.recommended, old), slices.DeleteFunc(m.up, old), slices.DeleteFunc(m.down, old)
}

// rescaled remembers a change of size, for policies.
func (m *Memory) rescaled(b *autoscalingv2.HorizontalPodAutoscalerBehavior, current, desired int32, now time.Time) {
	switch {
	case b == nil:
	case desired > current:
		m.up = append(m.up, moment{desired - current, now})
	default:
		m.down = append(m.down, moment{current - desired, now})
	}
}

// changed is the sum of changes within a time.
func changed(moments []moment, seconds int32, now time.Time) (sum int32) {
	since := now.Add(-time.Duration(seconds) * time.Second)
	for _, m := range moments {
		if m.at.After(since) {
			sum += m.n
		}
	}
	return sum
}

// normalize brings what was recommended within the limits of an autoscaler without behavior.
func (d *decision) normalize(current, desired int32) int32 {
	stable := desired
	since := d.now.Add(-downscaleStabilization)
	for _, r := range d.Memory.recommended {
		if !r.at.Before(since) {
			stable = max(stable, r.n)
		}
	}
	d.Memory.recommended = append(d.Memory.recommended, moment{desired, d.now})
	d.stabilized(stable != desired, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")

	most, why, text := d.next.Spec.MaxReplicas, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
	if limit := max(2*int64(current), 4); int64(most) > limit {
		most, why, text = int32(limit), "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
	}
	switch {
	case stable < d.least:
		return d.limited(d.least, stable, "TooFewReplicas", "the desired replica count is less than the minimum replica count")
	case stable > most:
		return d.limited(most, stable, why, text)
	}
	return d.limited(stable, stable, "", "")
}

// stabilized says whether what was recommended is not what is done, for what was recommended before.
func (d *decision) stabilized(is bool, why, text string) {
	if !is {
		why, text = "ReadyForNewScale", "recommended size matches current size"
	}
	d.condition(autoscalingv2.AbleToScale, corev1.ConditionTrue, why, text)
}

// limited says whether a limit is in the way of what would be done, and returns what is.
func (d *decision) limited(desired, stable int32, why, text string) int32 {
	if desired == stable {
		d.condition(autoscalingv2.ScalingLimited, corev1.ConditionFalse, "DesiredWithinRange", "the desired count is within the acceptable range")
	} else {
		d.condition(autoscalingv2.ScalingLimited, corev1.ConditionTrue, why, text)
	}
	return desired
}

// normalizeByBehavior does the same by the autoscaler's own rules.
func (d *decision) normalizeByBehavior(current, desired int32) int32 {
	b := d.next.Spec.Behavior
	stable := d.stabilize(current, desired, seconds(b.ScaleUp, 0), seconds(b.ScaleDown, downscaleStabilization))
	if desired >= current {
		d.stabilized(stable != desired, "ScaleUpStabilized", "recent recommendations were lower than current one, applying the lowest recent recommendation")
	} else {
		d.stabilized(stable != desired, "ScaleDownStabilized", "recent recommendations were higher than current one, applying the highest recent recommendation")
	}
	switch {
	case stable > current:
		most, why, text := d.next.Spec.MaxReplicas, "TooManyReplicas", "the desired replica count is more than the maximum replica count"
		if limit := max(d.rate(current, b.ScaleUp, true), current); most > limit {
			most, why, text = limit, "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate"
		}
		return d.limited(min(stable, most), stable, why, text)
	case stable < current:
		least, why, text := d.least, "TooFewReplicas", "the desired replica count is less than the minimum replica count"
		if limit := min(d.rate(current, b.ScaleDown, false), current); least < limit {
			least, why, text = limit, "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate"
		}
		return d.limited(max(stable, least), stable, why, text)
	}
	return d.limited(stable, stable, "", "")
}

func seconds(rules *autoscalingv2.HPAScalingRules, otherwise time.Duration) time.Duration {
	if rules == nil || rules.StabilizationWindowSeconds == nil {
		return otherwise
	}
	return time.Duration(*rules.StabilizationWindowSeconds) * time.Second
}

// stabilize returns the number nearest to the current one that all that was recommended within
// the windows agrees to, and remembers what is recommended now.
func (d *decision) stabilize(current, desired int32, upWindow, downWindow time.Duration) int32 {
	up, down := desired, desired
	for _, r := range d.Memory.recommended {
		if r.at.After(d.now.Add(-upWindow)) {
			up = min(up, r.n)
		}
		if r.at.After(d.now.Add(-downWindow)) {
			down = max(down, r.n)
		}
	}
	d.Memory.recommended = append(d.Memory.recommended, moment{desired, d.now})
	return min(max(current, up), down)
}

// rate returns the number that the policies of a direction let the target have now.
func (d *decision) rate(current int32, rules *autoscalingv2.HPAScalingRules, up bool) int32 {
	choice := autoscalingv2.MaxChangePolicySelect
	if rules != nil {
		choice = ptr.Deref(rules.SelectPolicy, choice)
	}
	if rules == nil || choice == autoscalingv2.DisabledPolicySelect {
		return current
	}
	highest := up == (choice != autoscalingv2.MinChangePolicySelect)
	limit, better := int32(math.MaxInt32), func(a, b int32) int32 { return min(a, b) }
	if highest {
		limit, better = math.MinInt32, func(a, b int32) int32 { return max(a, b) }
	}
	for _, p := range rules.Policies {
		began := int64(current) - int64(changed(d.Memory.up, p.PeriodSeconds, d.now)) + int64(changed(d.Memory.down, p.PeriodSeconds, d.now))
		limit = better(limit, allowed(began, p, up))
	}
	return limit
}

// allowed returns what one policy makes of the number with which its period began.
func allowed(began int64, p autoscalingv2.HPAScalingPolicy, up bool) int32 {
	by, value := float64(began), float64(p.Value)
	switch {
	case p.Type == autoscalingv2.PodsScalingPolicy && up:
		by += value
	case p.Type == autoscalingv2.PodsScalingPolicy:
		by -= value
	case up: // rounded up, so that a small share of few is not nothing for ever
		by = math.Ceil(by * (1 + value/100))
	default:
		by = math.Trunc(by * (1 - value/100))
	}
	return int32(min(max(by, math.MinInt32), math.MaxInt32))
}
