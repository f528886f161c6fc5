package custom

import (
	"errors"
	"fmt"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// What a list says of objects that cannot be converted, in Kubernetes' words: a recording has them only
// while its cache is being filled.
func TestCorruptions(t *testing.T) {
	t.Parallel()
	other := errors.New("the list did not complete in time")
	for name, c := range map[string]struct {
		errs       []error
		looked     int // how many were looked at
		text       string
		causes     int
		last, whom string // the last cause
	}{
		"none":  {errs: []error{nil, nil}, looked: 2},
		"other": {errs: []error{nil, other, nil}, looked: 2, text: other.Error()},
		"one": {errs: []error{&undecodable{7, errors.New("no")}, nil}, looked: 2, causes: 1, whom: "/registry/g/ws/ns/0",
			text: "failed to read one or more ws.g from the storage: StorageError: corrupt object, Code: 7, Key: /registry/g/ws/ns/0, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision=7: no"},
		"then another": {errs: []error{&undecodable{7, errors.New("no")}, &undecodable{8, errors.New("no")}, other}, looked: 3, causes: 3, last: other.Error(),
			text: "failed to read one or more ws.g from the storage: StorageError: corrupt object, Code: 7, Key: /registry/g/ws/ns/0, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision=7: no (and 1 more)"},
		"very many": {errs: repeat(&undecodable{7, errors.New("no")}, 200), looked: maxCorrupt, causes: maxCorrupt + 1, last: "too many errors, the list is truncated",
			text: "failed to read one or more ws.g from the storage: StorageError: corrupt object, Code: 7, Key: /registry/g/ws/ns/0, ResourceVersion: 0, AdditionalErrorMsg: object not decodable revision=7: no (and 99 more)"},
	} {
		list, looked := corruptions{group: schema.GroupResource{Group: "g", Resource: "ws"}}, 0
		for i, err := range c.errs {
			if looked++; list.add(fmt.Sprint("/registry/g/ws/ns/", i), err) {
				break
			}
		}
		err, text, causes, last, whom := list.err(), "", 0, "", ""
		if err != nil {
			text = err.Error()
		}
		var status *apierrors.StatusError
		if errors.As(err, &status) {
			all := status.ErrStatus.Details.Causes
			causes, last, whom = len(all), all[len(all)-1].Message, all[0].Field
			if status.ErrStatus.Code != 500 || status.ErrStatus.Reason != "StorageReadError" {
				t.Errorf("%s: %+v", name, status.ErrStatus)
			}
		}
		if looked != c.looked || text != c.text || causes != c.causes || c.last != "" && last != c.last || c.whom != "" && whom != c.whom {
			t.Errorf("%s: looked at %d, %q, %d causes, last %q, first of %q", name, looked, text, causes, last, whom)
		}
	}
}

func repeat(err error, n int) []error {
	all := make([]error, n)
	for i := range all {
		all[i] = err
	}
	return all
}
