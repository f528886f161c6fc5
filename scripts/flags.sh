# How sampan is compiled, for the scripts beside this file: they source it. The tests compile
# all alike, themselves too: what is compiled in two ways takes the time twice, 4 minutes on
# two processors.
#
# -trimpath: without the paths of the machine that built it.
# grpcnotrace: grpc's tracing pages are text/templates. A template calls methods
# by their names, so the linker has to keep every exported method of every type
# that it can reach: 25 MB more, for pages that nobody can open here.
# -l: functions of these are not copied into those that call them. They are generated or
# seldom called, and 3 MB smaller so; what is timed (internal/kind's benchmarks) takes as long.
# -s -w: stripped.
# cmd/sampan/binary_test.go holds what this buys.
GOFLAGS="${GOFLAGS-} -trimpath -tags=grpcnotrace '-ldflags=-s -w'"
for module in k8s.io/{api,client-go,kubectl,kubernetes} sigs.k8s.io/kustomize github.com/google/cel-go; do
  GOFLAGS+=" -gcflags=$module/...=-l"
done
export GOFLAGS CGO_ENABLED="${CGO_ENABLED:-0}"
