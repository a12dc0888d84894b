"""What Python's jinja2 makes of chat templates, with the settings of Hugging Face's transformers.

    pip install jinja2==3.1.6
    python peers/template_goldens.py [FOLDER_OF_TEMPLATES]

Reads crates/model/tests/templates/{conversations.json,snippets.txt,own/*.jinja} and the folder's *.jinja, and writes
goldens.json beside them. Of the folder's templates, which are others' work, it keeps lengths and hashes alone.
"""

import datetime
import hashlib
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import jinja2.sandbox

HERE = pathlib.Path(__file__).resolve().parent.parent / "crates/model/tests/templates"
NOW = datetime.datetime(2026, 3, 5, 7, 8, 9)
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}


class Generation(jinja2.ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller):
        return caller()


class Namespace(jinja2.utils.Namespace):
    def __init__(*args, **kwargs):
        self, args = args[0], args[1:]
        names = dict(*args, **kwargs)
        for name in names:
            check(name)
        jinja2.utils.Namespace.__init__(self, names)

    def __setitem__(self, name, value):
        check(name)
        jinja2.utils.Namespace.__setitem__(self, name, value)


class Dict:
    def __call__(self, *args, **kwargs):
        return dict(*args, **kwargs)


def check(name):
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError(name)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    made = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    made.filters["tojson"] = tojson
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = NOW.strftime
    made.globals["dict"] = Dict()
    made.globals["namespace"] = Namespace
    return made


def kind(error):
    if isinstance(error, (jinja2.exceptions.TemplateSyntaxError, SyntaxError)):
        return "syntax"
    if isinstance(error, jinja2.exceptions.SecurityError):
        return "refused"
    if isinstance(error, jinja2.exceptions.UndefinedError):
        return "undefined"
    if type(error) is jinja2.exceptions.TemplateError:
        return "raised"
    if isinstance(error, jinja2.exceptions.TemplateRuntimeError) and "named" in str(error):
        return "syntax"
    return "value"


def rendered(source, variables):
    try:
        return {"text": environment().from_string(source).render(**TOKENS | variables)}
    except Exception as error:
        result = {"error": kind(error)}
        if result["error"] == "raised":
            result["message"] = str(error)
        return result


def hashed(result):
    if "text" not in result:
        return result
    data = result["text"].encode()
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def main():
    conversations = json.loads((HERE / "conversations.json").read_text())
    goldens = {"jinja2": jinja2.__version__, "snippets": [], "own": {}, "published": {}}
    variables = conversations["every feature"]
    for snippet in (HERE / "snippets.txt").read_text().split("\n=====\n"):
        goldens["snippets"].append(rendered(snippet, variables))
    for file in sorted((HERE / "own").glob("*.jinja")):
        source = file.read_text()
        goldens["own"][file.name] = {name: rendered(source, c) for name, c in conversations.items()}
    old = HERE / "goldens.json"
    if len(sys.argv) > 1:
        for file in sorted(pathlib.Path(sys.argv[1]).glob("*.jinja")):
            source = file.read_text()
            goldens["published"][file.name] = {n: hashed(rendered(source, c)) for n, c in conversations.items()}
    elif old.exists():
        goldens["published"] = json.loads(old.read_text())["published"]
    old.write_text(json.dumps(goldens, ensure_ascii=False, indent=1) + "\n")


main()
