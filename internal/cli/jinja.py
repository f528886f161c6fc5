# Renders a template with each of the rows of values that come on standard input.
import sys

sys.path = [entry for entry in sys.path if entry]  # what lies in the current directory is nobody's library
import json
import traceback

try:
    import jinja2
    import jinja2.sandbox
except ImportError:
    sys.exit(42)

asked = json.load(sys.stdin)
name = asked["name"]


def own(wanted):
    return (asked["text"], name, None) if wanted == name else None


loaders = [jinja2.FunctionLoader(own)]
if asked["directory"]:
    loaders.append(jinja2.FileSystemLoader(asked["directory"]))
environment = jinja2.sandbox.SandboxedEnvironment(loader=jinja2.ChoiceLoader(loaders), undefined=jinja2.StrictUndefined)
texts = []
try:
    for row in asked["rows"]:
        texts.append(environment.get_template(name).render(row))
    answer = {"texts": texts}
except jinja2.TemplateSyntaxError as wrong:
    answer = {"error": wrong.message, "file": wrong.filename or wrong.name, "line": wrong.lineno}
except Exception as wrong:
    own = [frame for frame in traceback.extract_tb(wrong.__traceback__) if frame.name.startswith(("top-level template", "template", "block "))]
    answer = {"error": f"{type(wrong).__name__}: {wrong}", "row": len(texts), "file": own[-1].filename if own else name, "line": own[-1].lineno if own else 0}
json.dump(answer, sys.stdout)
