# Renders a template with each of the rows of values that come on standard input.
import sys

sys.path = [entry for entry in sys.path if entry]  # what lies in the current directory is nobody's library
import json
import os
import resource
import traceback

try:
    import jinja2
    import jinja2.sandbox
except ImportError:
    sys.exit(42)

asked = json.load(sys.stdin)
name = asked["name"]

# A template may be a stranger's. The sandbox keeps it from Python; a string that is multiplied, and
# loops in loops, it lets have all memory and time. What is made is read and written at once.
MOST_MEMORY, MOST_TEXT, MOST_SECONDS, MOST_ROWS_A_SECOND = 4 << 30, 1 << 30, 60, 500
seconds = MOST_SECONDS + len(asked["rows"]) // MOST_ROWS_A_SECOND


def limit(what, most):
    hard = resource.getrlimit(what)[1]
    resource.setrlimit(what, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


limit(resource.RLIMIT_AS, MOST_MEMORY)
limit(resource.RLIMIT_CPU, seconds)


def own(wanted):
    return (asked["text"], name, None) if wanted == name else None


class Beside(jinja2.FileSystemLoader):
    """Loads what is in the directory of the template, and follows no link out of it."""

    def get_source(self, environment, wanted):
        within = os.path.realpath(self.searchpath[0])
        path = os.path.realpath(os.path.join(within, *jinja2.loaders.split_template_path(wanted)))
        if os.path.commonpath([within, path]) != within:
            raise jinja2.TemplateNotFound(wanted)
        return super().get_source(environment, wanted)


loaders = [jinja2.FunctionLoader(own)]
if asked["directory"]:
    loaders.append(Beside(asked["directory"]))
environment = jinja2.sandbox.SandboxedEnvironment(loader=jinja2.ChoiceLoader(loaders), undefined=jinja2.StrictUndefined)
texts, length = [], 0
try:
    for row in asked["rows"]:
        texts.append(environment.get_template(name).render(row))
        length += len(texts[-1])
        if length > MOST_TEXT:
            raise ValueError("the manifests have more than 1 GiB")
    answer = {"texts": texts}
except jinja2.TemplateSyntaxError as wrong:
    answer = {"error": wrong.message, "file": wrong.filename or wrong.name, "line": wrong.lineno}
except Exception as wrong:
    own = [frame for frame in traceback.extract_tb(wrong.__traceback__) if frame.name.startswith(("top-level template", "template", "block "))]
    answer = {"error": f"{type(wrong).__name__}: {wrong}", "row": len(texts), "file": own[-1].filename if own else name, "line": own[-1].lineno if own else 0}
json.dump(answer, sys.stdout)
