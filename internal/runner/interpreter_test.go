package runner

import "testing"

func TestMissingInterpreter(t *testing.T) {
	t.Parallel()
	const crlf = "; the script has the line ends of Windows (CRLF)"
	for head, want := range map[string]string{
		"#!/bin/sh\necho\n":       `its interpreter "/bin/sh" is not there`,
		"#! \t/opt/perl -w\n":     `its interpreter "/opt/perl" is not there`,
		"#!/bin/sh\r\necho\r\n":   `its interpreter "/bin/sh\r" is not there` + crlf,
		"#!/bin/perl -w\r\n":      `its interpreter "/bin/perl" is not there`,
		"#!/no/end":               `its interpreter "/no/end" is not there`,
		"#!/cut\x00\x00":          `its interpreter "/cut" is not there`,
		"#!\x1b[2J\xff\n":         `its interpreter "\x1b[2J\xff" is not there`,
		"#!":                      `its interpreter "" is not there`,
		"\x7fELF\x02\x01\x01\x00": "the loader that it was linked for is not there; it was built for another C library, or for another machine",
		"echo\n":                  "",
		"":                        "",
	} {
		if got := MissingInterpreter([]byte(head)); got != want {
			t.Errorf("%q: got %q, want %q", head, got, want)
		}
	}
}
