package report

import (
	"fmt"
	"strings"
)

// Command is a command of a GitHub workflow: a line of output that the runner obeys. title
// may be "". Neither text can end the command or add to it.
func Command(name, title, message string) string {
	if title != "" {
		name += " title=" + property.Replace(title)
	}
	return fmt.Sprintf("::%s::%s", name, data.Replace(message))
}

// The escapes of the runner: https://github.com/actions/toolkit/blob/main/packages/core/src/command.ts.
var (
	data     = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A")
	property = strings.NewReplacer("%", "%25", "\r", "%0D", "\n", "%0A", ":", "%3A", ",", "%2C")
)
