package main_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

var spelling = regexp.MustCompile(`<(slot|minute|time) ([0-9a-z]+)(?: ([A-Za-z/]+))?>|<uid of ([^>]+)>`)

// spell writes into a text what is known only when the session runs:
//
//	<slot 5m>             a schedule that is due once a day, and was last 5 minutes before the session began
//	<slot 5m Asia/Seoul>  the same, as this time zone reads it
//	<minute 5m>           that time as it stands in the name of a CronJob's Job
//	<time 5m>             that time, to the second
//	<uid of KIND/NAME>    the uid of an object
func (s *session) spell(text string) (string, error) {
	var failed error
	text = spelling.ReplaceAllStringFunc(text, func(spelt string) string {
		m := spelling.FindStringSubmatch(spelt)
		if m[1] == "" {
			uid, err := s.uid(m[4])
			failed = errors.Join(failed, err)
			return uid
		}
		ago, err := time.ParseDuration(m[2])
		failed = errors.Join(failed, err)
		zone, err := time.LoadLocation(m[3])
		failed = errors.Join(failed, err)
		at := s.began.Add(-ago)
		switch m[1] {
		case "minute":
			return strconv.FormatInt(at.Unix()/60, 10)
		case "time":
			return at.Format(time.RFC3339)
		}
		schedule := at.In(zone).Format("4 15 * * *")
		s.slots[schedule] = spelt
		return schedule
	})
	return text, failed
}

func (s *session) uid(kindAndName string) (string, error) {
	r, name, err := s.object(kindAndName)
	if err != nil {
		return "", err
	}
	u, err := r.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	return string(u.GetUID()), nil
}

var minutePattern = regexp.MustCompile(`-(\d{8})\b`)

// unspell is the way back; but times are all the same.
func (s *session) unspell(text string) string {
	written := slices.SortedFunc(maps.Keys(s.slots), func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // "15 3 * * *" before "5 3 * * *"
	for _, w := range written {
		text = strings.ReplaceAll(text, w, s.slots[w])
	}
	return minutePattern.ReplaceAllStringFunc(text, func(name string) string {
		minute, _ := strconv.ParseInt(name[1:], 10, 64)
		if ago := s.began.Unix()/60 - minute; 0 <= ago && ago < 24*60 {
			return fmt.Sprintf("-<minute %dm>", ago)
		}
		return "-<minute>"
	})
}

func (s *session) jobs([]string) (string, error) {
	r, err := s.resource("job")
	if err != nil {
		return "", err
	}
	list, err := r.List(context.Background(), metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	var lines []string
	for _, u := range list.Items {
		var j batchv1.Job
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, &j); err != nil {
			return "", err
		}
		line, state := j.Name, "unfinished"
		for _, c := range j.Status.Conditions {
			if c.Type == batchv1.JobComplete || c.Type == batchv1.JobFailed {
				state = string(c.Type)
			}
		}
		line += " " + state
		if j.DeletionTimestamp != nil {
			line += " terminating"
		}
		for _, f := range j.Finalizers {
			line += " " + f
		}
		for _, ref := range j.OwnerReferences {
			line += " owner=" + ref.Name
		}
		lines = append(lines, s.normal(line)+"\n")
	}
	slices.Sort(lines)
	return strings.Join(lines, ""), nil
}
