package identity

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"k8s.io/apiserver/pkg/authentication/authenticator"
)

func TestLoadTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(text string, mode os.FileMode) string {
		path := filepath.Join(dir, fmt.Sprint(len(text), mode))
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	tokens, err := LoadTokens(write("s3cret,jane,42,\"staff,dev\"\nother,bob,,\r\n\nlast,\"a \"\"b\"\"\",7,one,ignored\n", 0o600))
	if err != nil {
		t.Fatal(err)
	}
	ctx := authenticator.WithAudiences(t.Context(), Audiences())
	for token, want := range map[string]string{"s3cret": "jane 42 [staff dev]", "other": "bob  []", "last": `a "b" 7 [one]`, "": "", "guess": "", "s3cret ": "", "jane": ""} {
		response, ok, err := tokens.AuthenticateToken(ctx, token)
		if err != nil || ok != (want != "") {
			t.Errorf("%q: %v, %v", token, ok, err)
		} else if ok {
			if got := fmt.Sprint(response.User.GetName(), " ", response.User.GetUID(), " ", response.User.GetGroups()); got != want {
				t.Errorf("%q is %s, want %s", token, got, want)
			}
			if len(response.Audiences) != 1 || response.Audiences[0] != IssuerURL {
				t.Errorf("%q is good for %v", token, response.Audiences)
			}
		}
	}
	if _, ok, _ := tokens.AuthenticateToken(authenticator.WithAudiences(t.Context(), authenticator.Audiences{"vault"}), "s3cret"); ok {
		t.Error("it is good for another audience")
	}

	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		write("a,b,c\n\nd,e\n", 0o600):            "line 3: must have at least 3 columns (token, user name, user uid), found 2",
		write("a,b,c\n,b,c\n", 0o600):             "line 2: the token is empty",
		write("a,,c\n", 0o600):                    "line 1: the user name is empty",
		write("a,b,c\nb,b,c\na,eve,c\n", 0o600):   "line 3: its token is that of line 1",
		write("a,b,c\n\"a\"b,b,c\n", 0o600):       `line 2, column 3: extraneous or missing " in quoted-field`,
		write("a,b,c\nx,\"no end,,\n", 0o600):     `line 2, column 13: extraneous or missing " in quoted-field`,
		write("readable,b,c", 0o640):              "others may read or write it (mode 0640): chmod 600 ",
		fifo:                                      "it is not a regular file",
		dir:                                       "it is not a regular file",
		filepath.Join(dir, "nothing"):             "no such file or directory",
		write(strings.Repeat("a", 17<<20), 0o600): "it has 17825792 bytes, and may have 16777216",
	} {
		if _, err := LoadTokens(path); err == nil || !strings.HasPrefix(err.Error(), "token file "+path+": "+want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

// FuzzTokens: whatever a file says, each of its tokens is somebody with a name.
func FuzzTokens(f *testing.F) {
	f.Add("a,b,c\n")
	f.Add("a,b,c,\"d,e\"\n\"x\ny\",z,\n")
	f.Fuzz(func(t *testing.T, text string) {
		tokens, err := parseTokens(strings.NewReader(text))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "line ") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for token, who := range tokens {
			if token == "" || who.Name == "" {
				t.Errorf("%q: %q is %+v", text, token, who)
			}
		}
	})
}
