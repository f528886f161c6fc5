package kind

import (
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

// benchJob is the Job of seed 002, as it is stored.
func benchJob(b *testing.B) (*Kind, []byte, Object) {
	b.Helper()
	manifest, err := os.ReadFile("testdata/create/seed-job-pi.input.yaml")
	if err != nil {
		b.Fatal(err)
	}
	data, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		b.Fatal(err)
	}
	obj, _, err := setup().codecs.UniversalDeserializer().Decode(data, nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	k := Job()
	create(k, obj.(Object))
	return k, data, obj.(Object)
}

func BenchmarkEncode(b *testing.B) {
	_, _, job := benchJob(b)
	codec := NewCodec(Builtin())
	b.ReportAllocs()
	for b.Loop() {
		data, err := codec.Encode(job)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(data)))
	}
}

func BenchmarkDecode(b *testing.B) {
	_, _, job := benchJob(b)
	codec := NewCodec(Builtin())
	data, err := codec.Encode(job)
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := codec.Decode("jobs.batch", data); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCreate is what a row does to a new Job: defaults, labels, rules.
func BenchmarkCreate(b *testing.B) {
	k, _, job := benchJob(b)
	b.ReportAllocs()
	for b.Loop() {
		obj := job.DeepCopyObject().(Object)
		k.Default(obj)
		if errs, _ := create(k, obj); len(errs) > 0 {
			b.Fatal(errs)
		}
	}
}

func BenchmarkNewScheme(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		builtinScheme()
	}
}
