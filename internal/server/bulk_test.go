package server

import (
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

// commaed joins what f says about 0 to n-1.
func commaed(n int, f func(i int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = f(i)
	}
	return strings.Join(parts, ",")
}

func nested(n int, inner string) string {
	return strings.Repeat(`{"f:a":`, n) + inner + strings.Repeat("}", n)
}

// Requests that are small enough, and would take the libraries from seconds to
// minutes, are refused at once.
func TestBulk(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(t, []probe{
		{name: "a ConfigMap", method: "POST", path: cms, body: cmBody("a", "1"), code: 201},
		{name: "a Job", method: "POST", path: jobs, body: jobBody, code: 201},
	})
	configMap := func(rest string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"` + rest + `}}`
	}
	managed := func(fields string) string {
		return configMap(`,"managedFields":[{"manager":"m","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","time":"2026-01-01T00:00:00Z","fieldsV1":` + fields + `}]`)
	}
	const many = 100000
	field := func(i int) string { return fmt.Sprintf(`"k%d":"v"`, i) }
	element := func(i int) string { return fmt.Sprintf(`"example.com/k%d"`, i) }
	big := `"` + strings.Repeat("x", 2<<20) + `"`
	jsonType, yamlType := "application/json", "application/yaml"
	merge, patch, strategic, apply := "application/merge-patch+json", "application/json-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"
	for _, test := range []struct{ name, method, path, mediaType, body string }{
		{"deep merge patch", "PATCH", cms + "/a", merge, `{"data":` + nested(9000, "1") + `}`},
		{"heavy merge patch", "PATCH", cms + "/a", merge, `{"data":` + nested(64, big) + `}`},
		{"deep value of a JSON patch", "PATCH", cms + "/a", patch, `[{"op":"add","path":"/x","value":` + nested(9000, "1") + `}]`},
		{"deep paths of a JSON patch", "PATCH", cms + "/a", patch, `[` + commaed(300, func(i int) string {
			return `{"op":"test","path":"/x` + strings.Repeat("/a", i) + `","value":1}`
		}) + `]`},
		{"long list in a JSON patch", "PATCH", cms + "/a", patch, `[{"op":"add","path":"/x","value":[` + strings.Repeat("1,", many) + `1]}]`},
		{"list in a strategic patch", "PATCH", cms + "/a", strategic, `{"metadata":{"finalizers":[` + commaed(many, element) + `]}}`},
		{"status conditions", "PATCH", jobs + "/pi/status", strategic, `{"status":{"conditions":[` +
			commaed(many, func(i int) string { return fmt.Sprintf(`{"type":"k%d"}`, i) }) + `]}}`},
		{"apply", "PATCH", cms + "/b?fieldManager=m", apply, configMap(`},"data":{` + commaed(many, field))},
		{"apply of YAML", "PATCH", cms + "/b?fieldManager=m", apply, "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndata:\n" +
			strings.ReplaceAll(commaed(many, func(i int) string { return fmt.Sprintf("  k%d: v\n", i) }), ",", "")},
		{"create", "POST", cms, jsonType, configMap(`},"data":{` + commaed(many, field))},
		{"create of YAML", "POST", cms, yamlType, configMap(`},"data":{` + commaed(many, field))},
		{"put", "PUT", cms + "/a", jsonType, strings.Replace(configMap(`},"data":{`+commaed(many, field)), `"b"`, `"a"`, 1)},
		{"owners", "POST", cms, jsonType, configMap(`,"ownerReferences":[` + commaed(many/10, func(i int) string {
			return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","name":"k%d","uid":"%d"}`, i, i)
		}) + `]`)},
		{"finalizers", "POST", cms, jsonType, configMap(`,"finalizers":[` + commaed(many, element) + `]`)},
		{"containers", "POST", pods, jsonType, `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"pp"},"spec":{"containers":[` +
			commaed(many/4, func(i int) string { return fmt.Sprintf(`{"name":"k%d","image":"x"}`, i) }) + `]}}`},
		{"deep managedFields", "POST", cms, jsonType, managed(nested(9000, "{}"))},
		{"deep managedFields in YAML", "POST", cms, yamlType, managed(nested(9000, "{}"))},
	} {
		t.Run(test.name, func(t *testing.T) {
			resp, answer := f.http(t, test.method, test.path, test.body, map[string]string{"Content-Type": test.mediaType})
			want := http.StatusBadRequest // as whatever cannot be decoded
			if test.method == "PATCH" {
				want = http.StatusRequestEntityTooLarge
			}
			if resp.StatusCode != want || len(test.body) > maxBody {
				t.Errorf("%d bytes: %d %.300s", len(test.body), resp.StatusCode, answer)
			}
		})
	}
	f.run(t, []probe{{name: "nothing was stored", path: cms + "/b", code: 404}})
}

// What the bounds are for: the libraries' work grows by the square, also today.
// (Where it no longer does, they can go.)
//
// What is allocated is counted for the whole process, so no other test runs meanwhile; what
// earlier ones have left running can only add to it, and adds nothing to the least of many.
func TestBulkIsNeeded(t *testing.T) {
	allocated := func(depth int) uint64 {
		patch, least := []byte(nested(depth, "1")), uint64(math.MaxUint64)
		for range 20 {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			if _, err := jsonpatch.MergePatch([]byte(`{}`), patch); err != nil {
				t.Fatal(err)
			}
			runtime.ReadMemStats(&after)
			least = min(least, after.TotalAlloc-before.TotalAlloc)
		}
		return least
	}
	if small, large := allocated(100), allocated(800); large < 24*small {
		t.Errorf("8 times as deep takes %d bytes instead of %d", large, small)
	}
}

// Objects that are large for a reason are not refused.
func TestNotBulk(t *testing.T) {
	t.Parallel()
	f := setup(t)
	configMap := func(name, rest string) string {
		return `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"` + name + `"` + rest + `}}`
	}
	script := strings.Repeat(`{[,\"/a/b/c\",`, 50000) // only brackets of the text itself count
	f.run(t, []probe{
		{name: "levels", method: "POST", path: cms, code: 201, body: configMap("levels", `,"unknown":`+nested(1000, "1")), warning: "unknown field"},
		{name: "owners", method: "POST", path: cms, code: 201, body: configMap("owners", `,"ownerReferences":[`+commaed(1000, func(i int) string {
			return fmt.Sprintf(`{"apiVersion":"v1","kind":"ConfigMap","name":"k%d","uid":"%d"}`, i, i)
		})+`]`)},
		{name: "text", method: "POST", path: cms, code: 201, body: configMap("text", `},"data":{"k":"`+script+`"`)},
		{name: "a patch with text", method: "PATCH", path: cms + "/text", code: 200, body: `{"data":{"l":"` + script[:len(script)/4] + `"}}`,
			header: map[string]string{"Content-Type": "application/merge-patch+json"}},
		{name: "text in YAML", method: "POST", path: cms, code: 201, header: map[string]string{"Content-Type": "application/yaml"},
			body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata:\n  k: |\n" + strings.Repeat("    {[,\"a\n", 80000)},
		{name: "an apply of it", method: "PATCH", path: cms + "/yaml?fieldManager=m&force=true", code: 200, header: map[string]string{"Content-Type": "application/apply-patch+yaml"},
			body: "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: yaml}\ndata:\n  k: |\n" + strings.Repeat("    {[,\"b\n", 80000)},
		{name: "fields", method: "POST", path: cms, code: 201, body: configMap("fields", `},"data":{`+commaed(10000, func(i int) string { return fmt.Sprintf(`"k%d":"v"`, i) }))},
	})
}

// The size of a body is Kubernetes' limit, whatever the body is.
func TestBodySize(t *testing.T) {
	t.Parallel()
	f := setup(t)
	f.run(t, []probe{{name: "create", method: "POST", path: cms, body: cmBody("a", "1"), code: 201}})
	text := strings.Repeat("x", maxBody)
	for _, mediaType := range []string{"application/json-patch+json", "application/merge-patch+json", "application/strategic-merge-patch+json", "application/apply-patch+yaml"} {
		f.run(t, []probe{{name: mediaType, method: "PATCH", path: cms + "/a?fieldManager=m", body: cmBody("a", text), code: 413,
			header: map[string]string{"Content-Type": mediaType}, message: "Request entity too large: limit is 3145728", reason: "RequestEntityTooLarge"}})
	}
	copies := func(n int) string { // of a megabyte each
		return `[{"op":"add","path":"/x","value":"` + strings.Repeat("x", 1<<20) + `"}` + strings.Repeat(`,{"op":"copy","from":"/x","path":"/y"}`, n) + `]`
	}
	f.run(t, []probe{
		{name: "create", method: "POST", path: cms, body: cmBody("b", text), code: 413, message: "Request entity too large: limit is 3145728"},
		{name: "put", method: "PUT", path: cms + "/a", body: cmBody("a", text), code: 413, message: "Request entity too large: limit is 3145728"},
		{name: "delete", method: "DELETE", path: cms + "/a", body: text + "x", code: 413, message: "Request entity too large: limit is 3145728"},
		{name: "few copies", method: "PATCH", path: cms + "/a", code: 200, header: map[string]string{"Content-Type": "application/json-patch+json"}, body: copies(2), warning: "unknown field"},
		{name: "many copies", method: "PATCH", path: cms + "/a", code: 422, header: map[string]string{"Content-Type": "application/json-patch+json"}, body: copies(4)},
	})
}

func TestBulkScan(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bulk{
		`{}`:                  {members: 1, weight: 1},
		`[[1,2],3]`:           {members: 4, weight: 12},
		`{"a":"{[,]}"}`:       {members: 1, weight: 12},
		`{"a":"\"{","b":"/"}`: {members: 3, weight: 18},
		`["/a/b","a/b"]`:      {members: 4, weight: 13},
	} {
		var got bulk
		for i := range text { // in any pieces
			got.scan([]byte(text[i : i+1]))
		}
		if got.members != want.members || got.weight != want.weight || got.depth != 0 || got.quoted {
			t.Errorf("%s: got %+v, want %+v", text, got, want)
		}
	}
}
