package conformance

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// unexplained says what is wrong with an answer: where it differs from Kubernetes', unless
// marks say that it is meant to. The lines of Kubernetes' that are not ours stand behind
// "- ", those of ours that are not Kubernetes' behind "+ ", in the order of the answers,
// and all else is the reason. A mark that nothing differs by is wrong, too; so are
// marks without a reason.
func unexplained(want, got string, marks []string) string {
	var marked []string
	reason := ""
	for _, mark := range marks {
		if strings.HasPrefix(mark, "- ") || strings.HasPrefix(mark, "+ ") {
			marked = append(marked, mark)
		} else {
			reason += mark
		}
	}
	differs, shown := difference(want, got)
	switch {
	case len(marks) > 0 && len(marked) == 0:
		return "marks are lines with \"! - \" or \"! + \", and a reason"
	case len(marked) > 0 && reason == "":
		return "the marks have no reason: say behind \"! \" why it is to differ"
	case slices.Equal(differs, marked):
		return ""
	case len(marked) == 0:
		return shown
	case len(differs) == 0:
		return "it does not differ any more: take the marks away"
	}
	return fmt.Sprintf("%sbut the marks say:\n  %s", shown, strings.Join(marked, "\n  "))
}

// difference returns the lines of two texts that are not the same, and shows them in
// their places.
func difference(want, got string) (differs []string, shown string) {
	w, g := strings.Split(want, "\n"), strings.Split(got, "\n")
	// The longest common subsequence, from the back.
	length := make([][]int, len(w)+1)
	for i := range length {
		length[i] = make([]int, len(g)+1)
	}
	for i := len(w) - 1; i >= 0; i-- {
		for j := len(g) - 1; j >= 0; j-- {
			if length[i][j] = max(length[i+1][j], length[i][j+1]); w[i] == g[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	var out strings.Builder
	differ := func(line string) {
		differs = append(differs, line)
		fmt.Fprintf(&out, "  %s\n", line)
	}
	i, j := 0, 0
	for i < len(w) || j < len(g) {
		switch {
		case i < len(w) && j < len(g) && w[i] == g[j]:
			fmt.Fprintf(&out, "    %s\n", w[i])
			i, j = i+1, j+1
		case j == len(g) || i < len(w) && length[i+1][j] >= length[i][j+1]:
			differ("- " + w[i])
			i++
		default:
			differ("+ " + g[j])
			j++
		}
	}
	return differs, "- Kubernetes, + this engine:\n" + out.String()
}

// TestMarks: what is ours on purpose has to be said, whole, with its reason, and no
// longer than it is so.
func TestMarks(t *testing.T) {
	t.Parallel()
	const a, ax, b = "name\n one\n two\n", "name\n one\n x\n", "name\n one\n two\n three\n"
	for _, c := range []struct {
		name, want, got, marks, wrong string
	}{
		{"the same", a, a, "", ""},
		{"not marked", a, ax, "", "-  two"},
		{"marked", a, ax, "-  two|+  x|x is ours", ""},
		{"the reason first", a, ax, "x is ours|-  two|+  x", ""},
		{"one more", a, b, "+  three|we have three", ""},
		{"one less", b, a, "-  three|we have no three", ""},
		{"without a reason", a, ax, "-  two|+  x", "no reason"},
		{"a reason for nothing", a, ax, "x is ours", "marks are lines"},
		{"in half", a, ax, "-  two|x is ours", "but the marks say"},
		{"of another line", a, ax, "-  one|+  x|x is ours", "but the marks say"},
		{"too much", a, b, "+  three|+  four|ours", "but the marks say"},
		{"in another order", a, ax, "+  x|-  two|x is ours", "but the marks say"},
		{"no longer", a, a, "-  two|+  x|x is ours", "take the marks away"},
		{"an answer for none", "", a, "+ name|+  one|+  two|we speak", ""},
	} {
		var marks []string
		if c.marks != "" {
			marks = strings.Split(c.marks, "|")
		}
		if got := unexplained(c.want, c.got, marks); (got == "") != (c.wrong == "") || !strings.Contains(got, c.wrong) {
			t.Errorf("%s: %q, want %q", c.name, got, c.wrong)
		}
	}
}
