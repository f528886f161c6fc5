package verb

import (
	"context"
	"fmt"
	"io"
	"strings"

	"k8s.io/kubectl/pkg/describe"
)

// Describe prints objects with what belongs to them and their events, as kubectl does.
func (a *API) Describe(ctx context.Context, out io.Writer, args []string, s Selection) error {
	refs, err := a.refs(args)
	if err != nil {
		return err
	}
	if !s.empty() && refs[0].name != "" {
		return ArgumentError("selectors and --all-namespaces are for a kind without names")
	}
	first := true
	return forEach(ctx, refs, func(r ref) error {
		describer, ok := describe.DescriberFor(r.GroupVersionKind.GroupKind(), a.config)
		if !ok {
			if describer, ok = describe.GenericDescriberFor(r.RESTMapping, a.config); !ok {
				return fmt.Errorf("%s cannot be described", r)
			}
		}
		found, err := a.read(ctx, r, s)
		if err != nil {
			return err
		}
		for i := range found {
			text, err := describer.Describe(found[i].GetNamespace(), found[i].GetName(), describe.DescriberSettings{ShowEvents: true, ChunkSize: page})
			if err != nil {
				return err
			}
			if !first {
				text = "\n\n" + text
			}
			first = false
			if _, err := io.WriteString(out, strings.TrimSuffix(text, "\n")+"\n"); err != nil {
				return err
			}
		}
		return nil
	})
}
