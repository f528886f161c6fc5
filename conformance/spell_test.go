package conformance

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

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

var spelling = regexp.MustCompile(`<(slot|minute|time) ([0-9a-z]+)(?: ([A-Za-z/]+))?>|<uid of ([^>]+)>|<kept ([^>]+)>|<(namespace)>|<hook ([0-9a-z-]+)>`)

// spell writes into a text what is known only when the session runs:
//
//	<slot 5m>             a schedule that is due once a day, and was last 5 minutes before the session began
//	<slot 5m Asia/Seoul>  the same, as this time zone reads it
//	<minute 5m>           that time as it stands in the name of a CronJob's Job
//	<time 5m>             that time, to the second
//	<uid of KIND/NAME>    the uid of an object
//	<kept NAME>           what a request has kept of its answer
//	<namespace>           that of the session
//	<hook NAME>           where a webhook of the session is
//	<hook ca>             who answers for all of them, as a caBundle has it
func (s *session) spell(text string) (string, error) {
	var failed error
	text = spelling.ReplaceAllStringFunc(text, func(spelt string) string {
		m := spelling.FindStringSubmatch(spelt)
		switch {
		case m[7] != "":
			return s.hooks.spell(m[7])
		case m[6] != "":
			return s.namespace
		case m[5] != "":
			kept, known := s.kept[m[5]]
			if !known {
				failed = errors.Join(failed, fmt.Errorf("nothing was kept as %s", m[5]))
			}
			return kept
		case m[1] == "":
			uid, err := s.uid(m[4])
			failed = errors.Join(failed, err)
			return uid
		}
		at, err := s.moment(m)
		failed = errors.Join(failed, err)
		switch m[1] {
		case "slot":
			return schedule(at)
		case "minute":
			return minute(at)
		}
		return at.Format(time.RFC3339)
	})
	return text, failed
}

// moment is the time that a match of spelling speaks of.
func (s *session) moment(m []string) (time.Time, error) {
	ago, err := time.ParseDuration(m[2])
	if err != nil {
		return time.Time{}, err
	}
	zone, err := time.LoadLocation(m[3])
	return s.began.Add(-ago).In(zone), err
}

func schedule(at time.Time) string { return at.Format("4 15 * * *") }

func minute(at time.Time) string { return strconv.FormatInt(at.Unix()/60, 10) }

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

// mention takes note of what a text spells, for unspell.
func (s *session) mention(text string) {
	for _, m := range spelling.FindAllStringSubmatch(text, -1) {
		at, err := s.moment(m)
		if err != nil {
			continue // it speaks of a uid, or whoever uses it will be told
		}
		switch m[1] {
		case "time":
			s.spelt[strconv.Quote(at.Format(time.RFC3339))] = m[0]
		case "slot":
			s.spelt[schedule(at)] = m[0]
			fallthrough
		default:
			s.spelt["-"+minute(at)] = "-<minute " + m[2] + ">"
		}
	}
}

// unspell is the way back, for what the session mentions outside of answers.
func (s *session) unspell(text string) string {
	written := slices.SortedFunc(maps.Keys(s.spelt), func(a, b string) int { return cmp.Compare(len(b), len(a)) }) // "15 3 * * *" before "5 3 * * *"
	for _, w := range written {
		text = strings.ReplaceAll(text, w, s.spelt[w])
	}
	return text
}

var agoPattern = regexp.MustCompile(`<([0-9a-z]+) ago>`)

// since writes times into a text that speaks of "<10m ago>".
func since(text string) string {
	return agoPattern.ReplaceAllStringFunc(text, func(m string) string {
		d, err := time.ParseDuration(agoPattern.FindStringSubmatch(m)[1])
		if err != nil {
			return m
		}
		return time.Now().Add(-d).UTC().Format(time.RFC3339)
	})
}
