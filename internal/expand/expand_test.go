package expand

import (
	"strings"
	"testing"
)

func TestRows(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		given Given
		want  string // the rows, or the error
	}{
		{"nothing", Given{}, "[]"},
		{"a list", Given{Each: []string{"item=apple,banana"}}, "item=apple[item=apple] item=banana[item=banana]"},
		{"quoted", Given{Each: []string{`c="a,b",d`}}, "c=a,b[c=a,b] c=d[c=d]"},
		{"an empty value", Given{Each: []string{"a=,x"}}, "a=[a=] a=x[a=x]"},
		{"each with each", Given{Each: []string{"a=1,2", "b=x,y"}}, "a=1, b=x[a=1 b=x] a=1, b=y[a=1 b=y] a=2, b=x[a=2 b=x] a=2, b=y[a=2 b=y]"},
		{"what is set is set last", Given{Each: []string{"a=1"}, Set: []string{"b=x=y", "a=9"}}, "a=1[a=9 b=x=y]"},
		{"CSV", Given{File: "d/v.csv", Text: []byte("\ufeffitem,n\napple,1\n\"ba,nana\",2\n")}, "v.csv:2[item=apple n=1] v.csv:3[item=ba,nana n=2]"},
		{"CSV and a list", Given{File: "v.csv", Text: []byte("n\n1\n2\n"), Each: []string{"a=x"}}, "v.csv:2, a=x[n=1 a=x] v.csv:3, a=x[n=2 a=x]"},
		{"YAML", Given{File: "v.yaml", Text: []byte("- {item: a, m: 1000000}\n- {item: b, ok: true, none: }\n")}, "v.yaml[0][item=a m=1000000] v.yaml[1][item=b none=<nil> ok=true]"},
		{"a map", Given{File: "v.json", Text: []byte(`{"b": 1.5, "a": ["x"]}`)}, "[a=[x] b=1.5]"},

		{"no values", Given{Each: []string{"item"}}, `--each "item": has to be NAME=VALUE,VALUE…, with a name of letters, digits and _`},
		{"none in the list", Given{Each: []string{"item="}}, `--each item: there are no values behind the =`},
		{"an open quote", Given{Each: []string{`item="a`}}, `--each item: its values, with commas between them, cannot be read: extraneous or missing " in quoted-field`},
		{"no name", Given{Set: []string{"a-b=1"}}, `--set "a-b=1": has to be NAME=VALUE, with a name of letters, digits and _`},
		{"too many", Given{Each: []string{"a=" + strings.Repeat("x,", 1999) + "x", "b=" + strings.Repeat("x,", 1999) + "x"}}, `--each b: that makes more than 1000000 manifests`},
		{"ragged CSV", Given{File: "v.csv", Text: []byte("a,b\n1\n")}, `v.csv: record on line 2: wrong number of fields`},
		{"a column without a name", Given{File: "v.csv", Text: []byte("a,\n1,2\n")}, `v.csv:1: "" is no name: letters, digits and _`},
		{"empty CSV", Given{File: "v.csv"}, `v.csv: its first line has to have the names of the values: EOF`},
		{"only a header", Given{File: "v.csv", Text: []byte("a\n")}, `v.csv has no values`},
		{"not YAML", Given{File: "v.yaml", Text: []byte("a: [")}, `v.yaml: yaml: line 1: did not find expected node content`},
		{"a truth", Given{File: "v.yaml", Text: []byte("n: 1\n")}, `v.yaml: a name is false: YAML takes y, n, on and off for truth values: put it in quotes`},
		{"no map", Given{File: "v.yaml", Text: []byte("- 1\n")}, `v.yaml: has to be a map of values, or a list of such maps`},
		{"another file", Given{File: "v.txt"}, `v.txt: values are read from .csv, .json, .yaml and .yml files`},
	} {
		rows, _, err := Rows(c.given)
		var got []string
		for _, row := range rows {
			got = append(got, row.Name+"["+said(row)+"]")
		}
		text := strings.Join(got, " ")
		if err != nil {
			text = err.Error()
		}
		if text != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, text, c.want)
		}
	}
}

func said(row Row) string {
	var all []string
	for _, v := range row.Values {
		text, err := v.text()
		if err != nil {
			text = "[x]"
		} else if v.Value == nil {
			text = "<nil>"
		}
		all = append(all, v.Name+"="+text)
	}
	return strings.Join(all, " ")
}

func TestFill(t *testing.T) {
	t.Parallel()
	row := Row{Name: "r", Values: []Value{{"item", "a$b"}, {"N_1", 3}}}
	for _, c := range []struct{ template, want string }{
		{"name: x-$ITEM", "name: x-a$b"},
		{"${ITEM}s $item ${item} $Item", "a$bs a$b a$b $Item"},
		{"$ITEMS ${ITEM }$N_1$n_1", "$ITEMS ${ITEM }3$n_1"},
		{"$HOME $$ $(ITEM) $1 $", "$HOME $$ $(ITEM) $1 $"},
		{"$$ITEM", "$a$b"}, // as sed has it
	} {
		if got, err := Fill([]byte(c.template), row); err != nil || string(got) != c.want {
			t.Errorf("%s: got %q (%v), want %q", c.template, got, err, c.want)
		}
	}
	for _, c := range []struct {
		value any
		want  string
	}{
		{"a\n  hostNetwork: true", `r: the value of "v" has a line break or another control character ('\n'), which would change the manifest`},
		{"\x1b[2J", `r: the value of "v" has a line break or another control character ('\x1b'), which would change the manifest`},
		{[]any{1}, `r: "v" is a list or a map, which only a Jinja2 template can use`},
	} {
		if _, err := Fill([]byte("$V"), Row{"r", []Value{{"v", c.value}}}); err == nil || err.Error() != c.want {
			t.Errorf("%v: got %v, want %s", c.value, err, c.want)
		}
	}
}

func TestUnused(t *testing.T) {
	t.Parallel()
	template := []byte("$ITEM ${b} $B")
	if err := Unused(template, []string{"item", "ITEM", "b"}); err != nil {
		t.Error(err)
	}
	if err := Unused(template, []string{"itme"}); err == nil || err.Error() != `the template has no place for "itme" ($ITME): it has $B, $ITEM, $b` {
		t.Error(err)
	}
	if err := Unused([]byte("x"), []string{"a"}); err == nil || err.Error() != `the template has no place for "a" ($A): it has no $NAME at all` {
		t.Error(err)
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ text, want string }{
		{"a: 1", "a: 1\n"},
		{"\n---\na: 1\n\n--- # two\nb: 2\n---\n", "a: 1\n|b: 2\n"},
		{"# nothing\n---\n  \n---  \na: |\n  ---\n  x\n", "a: |\n  ---\n  x\n"},
		{"", ""},
	} {
		var got []string
		for _, document := range Documents([]byte(c.text)) {
			got = append(got, string(document))
		}
		if text := strings.Join(got, "|"); text != c.want {
			t.Errorf("%q: got %q, want %q", c.text, text, c.want)
		}
	}
}
