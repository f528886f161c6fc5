package conformance

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
)

func (s *session) create(args []string) (string, error) {
	set, args, err := flags(args, "dry-run", "show", "validate")
	if err != nil {
		return "", err
	}
	_, shown := set["show"]
	opts := metav1.CreateOptions{DryRun: dryRun(set), FieldValidation: set["validate"]}
	return s.each(args, func(kind string, u *unstructured.Unstructured) (string, error) {
		r, err := s.resource(kind)
		if err != nil {
			return "", err
		}
		made, err := r.Create(context.Background(), u, opts)
		if err == nil && opts.DryRun == nil {
			s.remember(kind, made)
		}
		name := u.GetName()
		if made != nil && name == "" {
			name = made.GetName()
		}
		answer, err := s.outcome(kind+"/"+name+" created", err)
		if shown && made != nil {
			answer += s.text(made.Object)
		}
		return answer, err
	})
}

// apply sends what is in the file, for the engine to merge.
func (s *session) apply(args []string) (string, error) {
	set, args, err := flags(args, "dry-run", "show", "manager", "force")
	if err != nil {
		return "", err
	}
	_, shown := set["show"]
	_, force := set["force"]
	opts := metav1.ApplyOptions{DryRun: dryRun(set), FieldManager: set["manager"], Force: force}
	return s.each(args, func(kind string, u *unstructured.Unstructured) (string, error) {
		r, err := s.resource(kind)
		if err != nil {
			return "", err
		}
		made, err := r.Apply(context.Background(), u.GetName(), u, opts)
		answer, err := s.outcome(kind+"/"+u.GetName()+" applied", err)
		if shown && made != nil {
			answer += s.text(made.Object)
		}
		return answer, err
	})
}

// each does something with every object of a file, and gathers the answers.
func (s *session) each(args []string, do func(kind string, u *unstructured.Unstructured) (string, error)) (string, error) {
	all, err := s.objects(args)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, u := range all {
		answer, err := do(s.kindOf(u), u)
		if err != nil {
			return "", err
		}
		out.WriteString(answer)
	}
	return out.String(), nil
}

// put reads an object, changes it, and puts it back.
func (s *session) put(args []string) (string, error) {
	set, args, err := flags(args, "dry-run", "status")
	if err != nil {
		return "", err
	}
	r, name, err := s.object(args[0])
	if err != nil {
		return "", err
	}
	u, err := r.Get(context.Background(), name, metav1.GetOptions{})
	if err != nil {
		return s.outcome("", err)
	}
	if err := change(u, args[1:]); err != nil {
		return "", err
	}
	// The object may say another name than the address.
	body, err := json.Marshal(u)
	if err != nil {
		return "", err
	}
	kind, _, _ := strings.Cut(args[0], "/")
	at, _ := s.place(kind)
	path := s.path(at) + "/" + name
	for _, sub := range subresources(set) {
		path += "/" + sub
	}
	if dryRun(set) != nil {
		path += "?dryRun=All"
	}
	return s.send(http.MethodPut, path, nil, string(body))
}

var patchTypes = map[string]types.PatchType{
	"": types.MergePatchType, "json": types.JSONPatchType, "strategic": types.StrategicMergePatchType,
}

func (s *session) patch(args []string) (string, error) {
	set, args, err := flags(args, "dry-run", "status", "sub", "type", "validate")
	if err != nil {
		return "", err
	}
	if len(args) != 2 {
		return "", fmt.Errorf("usage: patch [-status] KIND/NAME JSON")
	}
	r, name, err := s.object(args[0])
	if err != nil {
		return "", err
	}
	_, err = r.Patch(context.Background(), name, patchTypes[set["type"]], []byte(since(args[1])),
		metav1.PatchOptions{DryRun: dryRun(set), FieldValidation: set["validate"]}, subresources(set)...)
	return s.outcome(args[0]+" patched", err)
}

func (s *session) delete(args []string) (string, error) {
	if len(args) == 0 {
		return "", fmt.Errorf("usage: delete KIND/NAME [PROPAGATION]")
	}
	r, name, err := s.object(args[0])
	if err != nil {
		return "", err
	}
	var opts metav1.DeleteOptions
	if len(args) > 1 {
		policy := metav1.DeletionPropagation(args[1])
		opts.PropagationPolicy = &policy
	}
	return s.outcome(args[0]+" deleted", r.Delete(context.Background(), name, opts))
}

var headerPattern = regexp.MustCompile(`^([A-Z][A-Za-z-]+)=(.*)$`)

// request sends what no command sends by itself.
func (s *session) request(args []string) (string, error) {
	set, args, err := flags(args, "show", "keep")
	if err != nil || len(args) < 2 {
		return "", fmt.Errorf("usage: request [-show=FIELD] [-keep=NAME:FIELD] METHOD PATH [HEADER=VALUE]… [BODY | FILE]")
	}
	header, body := make(http.Header), ""
	for _, arg := range args[2:] {
		if m := headerPattern.FindStringSubmatch(arg); m != nil {
			header.Set(m[1], m[2])
		} else if file, ok := s.files[arg]; ok {
			if body, err = s.spell(string(file)); err != nil {
				return "", err
			}
		} else {
			body = since(arg)
		}
	}
	if len(set) > 0 {
		return s.sendAndLook(args[0], args[1], header, body, set)
	}
	return s.send(args[0], args[1], header, body)
}

// path is where the API has the resources of the session's namespace.
func (s *session) path(at place) string {
	root := "/apis/" + at.Group
	if at.Group == "" {
		root = "/api"
	}
	root += "/" + at.Version + "/"
	if at.namespaced {
		root += "namespaces/" + s.namespace + "/"
	}
	return root + at.Resource
}

// send answers with the status, the warnings, and the heart of what came back.
func (s *session) send(method, path string, header http.Header, body string) (string, error) {
	resp, err := s.do(method, path, header, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out strings.Builder
	for _, w := range resp.Header.Values("Warning") {
		if advice(w) {
			continue
		}
		fmt.Fprintf(&out, "Warning: %s\n", strings.TrimPrefix(w, "299 - "))
	}
	bookmark := ""
	for parts := json.NewDecoder(resp.Body); ; {
		var part json.RawMessage
		if err := parts.Decode(&part); err == io.EOF {
			break
		} else if err != nil {
			rest, _ := io.ReadAll(io.MultiReader(parts.Buffered(), resp.Body))
			fmt.Fprintf(&out, "%d %s\n", resp.StatusCode, bytes.TrimSpace(rest))
			break
		}
		line := fmt.Sprintf("%d %s\n", resp.StatusCode, heart(part))
		if line == bookmark {
			continue // how many come in a row depends on when the watch began
		}
		if bookmark = ""; strings.Contains(line, " BOOKMARK ") {
			bookmark = line
		}
		out.WriteString(line)
	}
	return s.normal(out.String()), nil
}

// do sends a request. One that brings a token of its own goes without the session's.
func (s *session) do(method, path string, header http.Header, body string) (*http.Response, error) {
	req, err := http.NewRequest(method, s.host+path, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	maps.Copy(req.Header, header)
	if header.Get("Authorization") != "" {
		return s.bare.Do(req)
	}
	return s.http.Do(req)
}

// sendAndLook answers with the status and a field of what came back, and keeps another.
func (s *session) sendAndLook(method, path string, header http.Header, body string, set map[string]string) (string, error) {
	resp, err := s.do(method, path, header, body)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return "", err
	}
	object, err := decode(text)
	fields, ok := object.(map[string]any)
	if err != nil || !ok || resp.StatusCode >= http.StatusBadRequest {
		return s.normal(fmt.Sprintf("%d %s\n", resp.StatusCode, heart(text))), nil
	}
	out := fmt.Sprintf("%d %s\n", resp.StatusCode, heart(text))
	if name, field, ok := strings.Cut(set["keep"], ":"); ok {
		value, _, err := unstructured.NestedString(fields, strings.Split(field, ".")[1:]...)
		if err != nil || value == "" {
			return "", fmt.Errorf("%s: nothing is there: %v", field, err)
		}
		s.kept[name], s.spelt[value] = value, "<kept "+name+">"
	}
	if field := set["show"]; field != "" {
		value, found, err := unstructured.NestedFieldNoCopy(fields, strings.Split(field, ".")[1:]...)
		if err != nil || !found {
			return s.normal(out + "<none>\n"), err
		}
		return s.normal(out) + s.text(value), nil
	}
	return s.normal(out), nil
}

// heart is what matters of an object that the API answered with: what a Status
// says, the names in a list, the kind and name of anything else.
func heart(part json.RawMessage) string {
	var object struct {
		Kind, Type, Reason, Message, Status any
		Metadata                            struct {
			Name, Continue     string
			RemainingItemCount *int64
		}
		Items  []json.RawMessage
		Object json.RawMessage
	}
	if err := json.Unmarshal(part, &object); err != nil {
		return string(part)
	}
	switch {
	case object.Type != nil && object.Object != nil:
		return fmt.Sprintf("%v %s", object.Type, heart(object.Object))
	case object.Kind == "Status" && object.Status == metav1.StatusSuccess:
		return "Success"
	case object.Kind == "Status":
		return fmt.Sprintf("%v: %v", object.Reason, object.Message)
	case object.Items != nil:
		words := []string{fmt.Sprintf("%v:", object.Kind)}
		for _, item := range object.Items {
			_, name, _ := strings.Cut(heart(item), "/")
			words = append(words, name)
		}
		if object.Metadata.Continue != "" {
			words = append(words, "and more")
		}
		if n := object.Metadata.RemainingItemCount; n != nil {
			words = append(words, fmt.Sprintf("(%d)", *n))
		}
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%v/%s", object.Kind, object.Metadata.Name)
}

// flags takes the flags off the front of a command's arguments: -name and
// -name=value, of those that are known.
func flags(args []string, known ...string) (map[string]string, []string, error) {
	set := make(map[string]string)
	for len(args) > 0 && strings.HasPrefix(args[0], "-") {
		name, value, _ := strings.Cut(args[0][1:], "=")
		if !slices.Contains(known, name) {
			return nil, nil, fmt.Errorf("unknown flag %s", args[0])
		}
		set[name] = value
		args = args[1:]
	}
	if len(args) == 0 {
		return nil, nil, fmt.Errorf("too few arguments")
	}
	return set, args, nil
}

// dryRun is the option of a request that has the flag, or has not.
func dryRun(set map[string]string) []string {
	if _, ok := set["dry-run"]; ok {
		return []string{metav1.DryRunAll}
	}
	return nil
}

// subresources are those that the flags name.
func subresources(set map[string]string) []string {
	if _, ok := set["status"]; ok {
		return []string{"status"}
	}
	if name := set["sub"]; name != "" {
		return []string{name}
	}
	return nil
}
