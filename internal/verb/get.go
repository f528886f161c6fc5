package verb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/printers"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/jsonpath"
	"sigs.k8s.io/yaml"
)

// page is how many objects are asked for at a time, as kubectl does.
const page = 500

// Selection says which objects of a kind are meant.
type Selection struct {
	Labels, Fields string
	AllNamespaces  bool
}

func (s Selection) empty() bool { return s == Selection{} }

func (s Selection) options() metav1.ListOptions {
	return metav1.ListOptions{LabelSelector: s.Labels, FieldSelector: s.Fields}
}

// Get says what Get prints.
type Get struct {
	Selection
	// Output is "" and "wide" for a table, "json", "yaml", "name", or "jsonpath=...".
	Output string
	// NoHeaders and ShowLabels change the table.
	NoHeaders, ShowLabels bool
	// Watch goes on with what changes, until the context ends.
	Watch bool
}

// Get prints objects: "KIND[,KIND...] [NAME...]" or "KIND/NAME...".
func (a *API) Get(ctx context.Context, out, notes io.Writer, args []string, o Get) error {
	refs, err := a.refs(args)
	if err != nil {
		return err
	}
	if !o.empty() && refs[0].name != "" {
		return ArgumentError("selectors and --all-namespaces are for a kind without names")
	}
	if o.Output == "" || o.Output == "wide" {
		return a.tables(ctx, out, notes, refs, o)
	}
	return a.objectsAs(ctx, out, refs, o)
}

// tables prints what people read.
func (a *API) tables(ctx context.Context, out, notes io.Writer, refs []ref, o Get) error {
	if o.Watch && len(refs) > 1 {
		return ArgumentError("one kind, or one object, can be watched at a time")
	}
	found, namespaced := 0, !o.AllNamespaces
	var p *table
	err := forEach(ctx, refs, func(r ref) error {
		inNamespace := r.Scope.Name() == meta.RESTScopeNameNamespace
		namespaced = namespaced && inNamespace
		if p == nil || p.options.Kind != r.GroupVersionKind.GroupKind() {
			if found > 0 {
				fmt.Fprintln(out)
			}
			p = &table{out: printers.GetNewTabWriter(out), options: printers.PrintOptions{
				Wide: o.Output == "wide", NoHeaders: o.NoHeaders, ShowLabels: o.ShowLabels, WithNamespace: o.AllNamespaces && inNamespace,
				WithKind: severalKinds(refs), Kind: r.GroupVersionKind.GroupKind(),
			}}
		}
		n, err := a.table(ctx, p, r, o)
		found += n
		return err
	})
	switch {
	case found > 0 || err != nil:
	case namespaced:
		fmt.Fprintf(notes, "No resources found in %s namespace.\n", a.namespace)
	default:
		fmt.Fprintln(notes, "No resources found")
	}
	return err
}

// severalKinds: a name alone does not say which object is meant.
func severalKinds(refs []ref) bool {
	return slices.ContainsFunc(refs, func(r ref) bool { return r.GroupVersionKind != refs[0].GroupVersionKind })
}

// table prints the rows of one kind as the API has made them.
type table struct {
	out interface {
		io.Writer
		Flush() error
	}
	options printers.PrintOptions
	columns []metav1.TableColumnDefinition
}

func (t *table) print(rows *metav1.Table) error {
	if len(rows.ColumnDefinitions) > 0 {
		t.columns = rows.ColumnDefinitions
	}
	rows.ColumnDefinitions = t.columns
	if len(rows.Rows) == 0 {
		return nil
	}
	for i := range rows.Rows {
		meta := &metav1.PartialObjectMetadata{}
		if err := json.Unmarshal(rows.Rows[i].Object.Raw, meta); err == nil {
			rows.Rows[i].Object.Object = meta
		}
	}
	if err := printers.NewTablePrinter(t.options).PrintObj(rows, t.out); err != nil {
		return err
	}
	t.options.NoHeaders = true
	return t.out.Flush()
}

// table prints one object, or all of a kind, and then what changes.
func (a *API) table(ctx context.Context, p *table, r ref, o Get) (found int, err error) {
	client, err := a.raw(r)
	if err != nil {
		return 0, err
	}
	options, last := o.options(), ""
	options.Limit = page
	for {
		rows := &metav1.Table{}
		if err := a.request(client, r, o).VersionedParams(forOne(options, r.name), metav1.ParameterCodec).Do(ctx).Into(rows); err != nil {
			return found, err
		}
		found, last = found+len(rows.Rows), rows.ResourceVersion
		if err := p.print(rows); err != nil {
			return found, err
		}
		if options.Continue = rows.Continue; options.Continue == "" {
			break
		}
	}
	if !o.Watch {
		return found, nil
	}
	options = o.options()
	options.Watch, options.ResourceVersion = true, last
	if r.name != "" {
		options.FieldSelector = "metadata.name=" + r.name
	}
	return found, a.follow(ctx, p, client, r, o, options)
}

// follow prints the rows of what changes.
func (a *API) follow(ctx context.Context, p *table, client *rest.RESTClient, r ref, o Get, options metav1.ListOptions) error {
	all := r
	all.name = ""
	w, err := a.request(client, all, o).VersionedParams(&options, metav1.ParameterCodec).Watch(ctx)
	if err != nil {
		return err
	}
	defer w.Stop()
	for event := range w.ResultChan() {
		rows, ok := event.Object.(*metav1.Table)
		if event.Type == watch.Error || !ok {
			return fmt.Errorf("the watch ended: %v", event.Object)
		}
		if err := p.print(rows); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// forOne leaves out what selects among many when one is asked for.
func forOne(o metav1.ListOptions, name string) *metav1.ListOptions {
	if name != "" {
		return &metav1.ListOptions{}
	}
	return &o
}

// raw returns a client that takes tables.
func (a *API) raw(r ref) (*rest.RESTClient, error) {
	config := rest.CopyConfig(a.config)
	gv := r.GroupVersionKind.GroupVersion()
	config.GroupVersion, config.APIPath = &gv, "/apis"
	if gv.Group == "" {
		config.APIPath = "/api"
	}
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	if err := metav1.AddMetaToScheme(scheme); err != nil {
		return nil, err
	}
	config.NegotiatedSerializer = serializer.NewCodecFactory(scheme).WithoutConversion()
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	return rest.RESTClientFor(config)
}

func (a *API) request(client *rest.RESTClient, r ref, o Get) *rest.Request {
	request := client.Get().Resource(r.Resource.Resource)
	if r.Scope.Name() == meta.RESTScopeNameNamespace && !o.AllNamespaces {
		request = request.Namespace(a.namespace)
	}
	if r.name != "" {
		request = request.Name(r.name)
	}
	return request
}

// objectsAs prints what programs read.
func (a *API) objectsAs(ctx context.Context, out io.Writer, refs []ref, o Get) error {
	print, err := printer(o.Output)
	if err != nil {
		return err
	}
	if o.Watch {
		return ArgumentError("--watch prints tables only")
	}
	var items []unstructured.Unstructured
	failed := forEach(ctx, refs, func(r ref) error {
		found, err := a.read(ctx, r, o.Selection)
		items = append(items, found...)
		return err
	})
	if len(refs) == 1 && refs[0].name != "" {
		if failed != nil {
			return failed
		}
		return print(out, &items[0])
	}
	if len(items) == 0 && failed != nil {
		return failed
	}
	list := &unstructured.UnstructuredList{Items: items}
	list.SetAPIVersion("v1")
	list.SetKind("List")
	return errors.Join(print(out, list), failed)
}

// read returns one object, or all of a kind.
func (a *API) read(ctx context.Context, r ref, s Selection) ([]unstructured.Unstructured, error) {
	namespace := a.namespace
	if s.AllNamespaces {
		namespace = metav1.NamespaceAll
	}
	from := a.resource(r.RESTMapping, namespace)
	if r.name != "" {
		obj, err := from.Get(ctx, r.name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		return []unstructured.Unstructured{*obj}, nil
	}
	return readAll(ctx, from, s.options())
}

func readAll(ctx context.Context, from dynamic.ResourceInterface, options metav1.ListOptions) ([]unstructured.Unstructured, error) {
	var items []unstructured.Unstructured
	for options.Limit = page; ; {
		list, err := from.List(ctx, options)
		if err != nil {
			return items, err
		}
		items = append(items, list.Items...)
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return items, nil
		}
	}
}

// printer returns what prints an object, or a list, in a form for programs.
func printer(output string) (func(io.Writer, runtime.Unstructured) error, error) {
	form, template, _ := strings.Cut(output, "=")
	switch {
	case form == "jsonpath" && template != "":
		path := jsonpath.New("output").AllowMissingKeys(true)
		if err := path.Parse(template); err != nil {
			return nil, argumentErrorf("--output: %v", err)
		}
		return func(out io.Writer, obj runtime.Unstructured) error {
			return path.Execute(out, obj.UnstructuredContent())
		}, nil
	case output == "name":
		return printNames, nil
	case output == "json":
		return printJSON, nil
	case output == "yaml":
		return printYAML, nil
	}
	return nil, argumentErrorf("--output: %q is not known; use wide, json, yaml, name or jsonpath=TEMPLATE", output)
}

func printNames(out io.Writer, obj runtime.Unstructured) error {
	return eachOf(obj, func(u *unstructured.Unstructured) error {
		_, err := fmt.Fprintf(out, "%s/%s\n", kindName(u.GroupVersionKind()), u.GetName())
		return err
	})
}

// eachOf calls do with an object, or with each of a list.
func eachOf(obj runtime.Unstructured, do func(*unstructured.Unstructured) error) error {
	if u, ok := obj.(*unstructured.Unstructured); ok && !u.IsList() {
		return do(u)
	}
	return obj.EachListItem(func(item runtime.Object) error { return do(item.(*unstructured.Unstructured)) })
}

// marshal writes an object without what only servers read.
func marshal(obj runtime.Unstructured) ([]byte, error) {
	_ = eachOf(obj, func(u *unstructured.Unstructured) error {
		u.SetManagedFields(nil)
		return nil
	})
	return json.MarshalIndent(obj.UnstructuredContent(), "", "    ")
}

func printJSON(out io.Writer, obj runtime.Unstructured) error {
	data, err := marshal(obj)
	if err != nil {
		return err
	}
	_, err = out.Write(append(data, '\n'))
	return err
}

func printYAML(out io.Writer, obj runtime.Unstructured) error {
	data, err := marshal(obj)
	if err != nil {
		return err
	}
	if data, err = yaml.JSONToYAML(data); err != nil {
		return err
	}
	_, err = out.Write(data)
	return err
}
