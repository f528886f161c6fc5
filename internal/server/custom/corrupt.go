package custom

import (
	"errors"
	"fmt"
	"net/http"
	"path"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apiserver/pkg/storage"
)

// What is stored and cannot be had in the version that somebody asks for, since the webhook that
// converts it fails, is to Kubernetes as what is damaged: it is said so, in these words, and who may
// (unsafe-delete-ignore-read-errors) can delete it unread. (k8s.io/apiserver/pkg/storage/etcd3, which
// exports none of it)

// undecodable is why a stored object cannot be had.
type undecodable struct {
	revision uint64
	err      error
}

// Error implements error.
func (u *undecodable) Error() string {
	return fmt.Sprintf("object not decodable revision=%d: %v", u.revision, u.err)
}

// Unwrap is for package errors.
func (u *undecodable) Unwrap() error { return u.err }

// corrupt is what is said of one object that was asked for.
func (o *objects) corrupt(at string, err error) error {
	var damaged *undecodable
	if !errors.As(err, &damaged) {
		return err
	}
	return storage.NewCorruptObjError(o.place(at), damaged)
}

// place is where Kubernetes would keep an object.
func (o *objects) place(at string) string {
	return path.Join("/", o.group.Group, o.group.Resource, o.below(at))
}

// Decodable refuses to delete unread what can be read, at a place below /registry.
func Decodable(place string) error {
	return storage.NewInvalidObjError("/registry"+place, "unsafe deletion is not allowed because the object is decodable from storage")
}

// maxCorrupt is how many of a list are looked for.
const maxCorrupt = 100

// corruptions are the objects of a list that cannot be had.
type corruptions struct {
	group schema.GroupResource
	errs  []error
	abort error // why the others were not looked at; nil if they were
}

// add takes note of what became of an object, and reports whether the list ends there.
func (c *corruptions) add(at string, err error) bool {
	var damaged *undecodable
	switch {
	case err == nil:
		return false
	case !errors.As(err, &damaged):
		c.abort = err
		return true
	}
	c.errs = append(c.errs, storage.NewCorruptObjError(at, damaged))
	if len(c.errs) < maxCorrupt {
		return false
	}
	c.abort = errors.New("too many errors, the list is truncated")
	return true
}

// err is what is said of the list; nil if all is well.
func (c *corruptions) err() error {
	if len(c.errs) == 0 {
		return c.abort
	}
	message := fmt.Sprintf("failed to read one or more %s from the storage: %v", c.group.String(), c.errs[0])
	if n := len(c.errs) - 1; n > 0 {
		message = fmt.Sprintf("%s (and %d more)", message, n)
	}
	details := &metav1.StatusDetails{Group: c.group.Group, Kind: c.group.Resource, Name: "list"}
	for _, err := range c.errs {
		var damaged *storage.StorageError
		errors.As(err, &damaged)
		details.Causes = append(details.Causes, metav1.StatusCause{Type: metav1.CauseTypeUnexpectedServerResponse, Field: damaged.Key, Message: err.Error()})
	}
	switch {
	case len(c.errs) == maxCorrupt:
		details.Causes = append(details.Causes, metav1.StatusCause{Type: metav1.CauseTypeTooMany, Message: c.abort.Error()})
	case c.abort != nil:
		details.Causes = append(details.Causes, metav1.StatusCause{Type: metav1.CauseTypeUnexpectedServerResponse, Message: c.abort.Error()})
	}
	return &apierrors.StatusError{ErrStatus: metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusInternalServerError, Reason: metav1.StatusReasonStoreReadError, Message: message, Details: details,
	}}
}
