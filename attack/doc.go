// Package attack attacks Sampan through its front door: images, manifests and
// clients that a stranger may have made, given to the real binary by `sampan run`,
// `sampan serve` and kubectl, as root, as an ordinary user, and as one who has
// subordinate ids. It has tests only.
//
// Each attack is made twice. Against the binary as it is, it must get nothing.
// Where its defence is missing, it must get what it is after; else it proves
// nothing. What is missing is, in this order of preference:
//
//   - a word in the manifest that gives the right (privileged, hostNetwork, no limit);
//   - Sampan: the same program is run by a shell;
//   - a step of a container's start, in a binary that is built with the tag weak.
//
// table_test.go lists all attacks that are known, those that other packages make
// closer to the code included, and checks that every test it names exists. After
// all of them nothing may be left: no process, no mount, no control group, no file.
package attack
