"""Write the pages of docs/ that are tables of what the code says: settings, methods, commands, operators, the record.

`make docs` writes them; `tests/test_docs.py` compares them with what would be written.
"""

import importlib
import inspect
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from onnx import defs

import audit
import explain
import server

FOLDER = Path(__file__).parent
# Columns of errors in the table of operators: the key of the error, and of the number of outputs that it is about.
ERRORS = {
    "float64": ("float64", ""),
    "float32": ("float32", ""),
    "torch": ("torch", "torch_tests"),
    "onnx-ad": ("onnx_ad", "onnx_ad_tests"),
}
METHODS_PAGE = """# Explanation methods

What `method` may be in an explain request. A model offers the methods whose needs it meets: a gradient through all of
its operators, chords (no control flow), a baseline or a background set in its manifest (a reference is either), a
spatial layer. Methods of masks remove features, or [groups](groups.md) of them; a removal, which says what takes their
place, is as good as a background. An answer names all parameters. Cost is in forward passes (F) of one item.

A model that is exported or imported without a word on it is explained by the first method of its kind that needs
nothing more to be sent:

| kind | default |
| --- | --- |
| columns | `tree_shap`, `linear_shap`, `deep_shap`, `integrated_gradients`, `permutation_shap` |
| pictures | `grad_cam`, `integrated_gradients`, `partition_shap`, `permutation_shap` |
| tokens | `integrated_gradients`, `partition_shap`, `permutation_shap` |
| series | `integrated_gradients`, `permutation_shap` |

Pictures of more than 144 pixels are removed in about 50 pieces, patches up to 64 x 64 and superpixels above. Those that
come without a background set give way to their own mean, or from 64 pixels a side on to their blur.
"""
CHECKS_PAGE = """# Checks

What `checks` may be in an explain request: questions put to the finished explanation, each for further evaluations.
What their figures mean, and when not to trust them, is in [quality](quality.md). Cost is in forward passes (F) or whole
explanations by the method (E) of one item.
"""
RECORD_PAGE = """# The record of a decision

Every row of every answer is a decision with the id `<ulid>.<row>`, committed before the answer leaves. Its *entry* is
the object below as canonical JSON (RFC 8785), stored with the SHA-256 of those bytes; its tensors are stored beside it
as raw little-endian bytes, and the entry holds the SHA-256 of each. `GET /v1/decisions/{id}` recomputes them all and
returns entry and content; a record that does not match its digests is refused, naming what differs.
The JSON Schema is `audit/schema/decision-1.json`; no entry that leaves it is stored.
"""
COMMANDS_PAGE = """# Commands

Everything an operator or an engineer does with Glasshouse without writing code. `glasshouse --help` and
`glasshouse COMMAND --help` say the same. Settings come from the file named by `--config`, from the environment and from
flags, as [configuration](configuration.md) says.

A command that ends well exits with 0; every other end is one line on standard error and one of these codes.

"""
OPERATORS_PAGE = """# Operators

What the compiler can differentiate: ONNX operators at opset 18, to which every model is brought first. A derivative is
itself made of ONNX operators. Operators that carry no gradient may stand anywhere; a value that reaches the output only
through them has gradient zero. An operator with an ONNX function body and no rule is replaced by that body; what
runtimes fuse into one (`com.microsoft`), pipelines of scikit-learn are made of (`ai.onnx.ml`) or newer opsets bring is
written out in operators of opset 18, as far as the table says. One that is not covered stands in the way of the methods
that need a gradient, and `glasshouse coverage` names it; methods on coalitions (SHAP) need none and work with any
operator. A rule may refuse a form of its operator, naming the attribute.

The last columns are measured over the node tests of the ONNX backend suite, and a few of our own for operators of which
it has none in floating point (`make docs-errors`): how many of their outputs were checked, how many are left out
(`tests/explain/test_backend_suite.py` says why), and the largest error of the gradient by each of three judges that
know nothing of the rules.

- *Finite differences* of ONNX's reference implementation in float64, along random directions: the error of the gradient
  computed in `float64`, and of the gradient computed by ONNX Runtime in `float32`.
- `torch`: autograd's gradient in float64 of PyTorch's own function for the operator (`tests/explain/twins.py`). The
  error is ‖g − g′‖ / ‖g′‖ of the gradient g computed by ONNX Runtime in float32 (in float64 if it has no kernel for the
  model), the largest of any input. In brackets the number of outputs judged: those of which PyTorch's function has the
  value.
- `onnx-ad`: the gradient by the package of that name, which differentiates ONNX graphs of static shape by rules of its
  own, in the same way. Blank where it refuses the graph; what differences refute is not counted (notes below).

An operator with a rule and no figure here has no such test; `tests/explain/test_rules_*.py` judge it, as they do every
rule, by differences and by PyTorch.

"""
ROUNDED_NOTE = """
## Above 1e-4

The bar is an error of 1e-4 against PyTorch, in float32. What is above it is right in float64:

"""
MISTAKEN_NOTE = """
## Where differences refute onnx-ad

Its gradient is not counted there, because it is not that of the function:

"""


def pages() -> dict[str, str]:
    """File name and text of every generated page."""
    return {
        "configuration.md": server.configuration_page(),
        "metrics.md": server.metrics_page(),
        "methods.md": METHODS_PAGE + "".join(_method(method) for method in explain.METHODS.values()),
        "checks.md": CHECKS_PAGE + "".join(_check(check) for check in explain.CHECKS.values()),
        "commands.md": COMMANDS_PAGE + _commands(inside("cli.entry", "front")),
        "operators.md": OPERATORS_PAGE + _operators(inside("explain.registry", "REGISTRY"), operator_errors()),
        "decision-record.md": RECORD_PAGE + "\n" + _table(("field", "type", "what"), record_rows(audit.entry_schema())),
    }


def inside(module: str, name: str) -> Any:
    """What is no part of its room's door, because nothing but the page about it reads it from outside."""
    return getattr(importlib.import_module(module), name)


def operator_errors() -> dict[str, dict[str, Any]]:
    """What `make docs-errors` measured: `versions` of what was used, `operators` by name."""
    found: dict[str, dict[str, Any]] = json.loads((FOLDER / "operators.json").read_text("utf-8"))
    return found


def _operators(registry: Any, found: dict[str, dict[str, Any]]) -> str:
    errors, every = found["operators"], inside("explain.prepare.expansions", "EXPANSIONS")
    ruled = {key: entry.rule for key, entry in registry.rules.items() if key not in every or not key[0]}
    rows = [(operator_name(*key), f"rule in {_module(rule)}", _first_words(rule)) for key, rule in ruled.items()]
    inner = {(domain, name): ("", name) in ruled and (_is_later(domain) or not domain) for domain, name in every}
    written = {key: f for key, f in every.items() if not inner[key]}
    rows += [(operator_name(*key), f"written out in {_module(f)}", _first_words(f)) for key, f in written.items()]
    rows += [(operator_name(*key), "no gradient", "") for key in registry.stops]
    others = [name for name in _other_operators(registry) if all(name != row[0] for row in rows)]
    bodies = [name for name in others if errors.get(name, {}).get("checked")]
    lacking = [name for name in others if name not in bodies]
    rows += [(name, "function body", "") for name in bodies] + [(name, "not covered", "") for name in lacking]
    head = (
        f"{len(ruled)} operators have a rule, {len(registry.stops)} carry no gradient, {len(bodies)} are replaced by "
        f"their function bodies, {len(written)} are written out in others, {len(lacking)} are not covered. "
        f"Measured with {', '.join(f'{name} {version}' for name, version in found['versions'].items())}.\n\n"
    )
    columns = ("operator", "covered by", "how", "checked", "left out", *ERRORS)
    full = [(f"`{name}`", by, how, *_figures(errors.get(name))) for name, by, how in rows]
    return head + _table(columns, sorted(full, key=lambda row: row[0].lower())) + _notes(errors)


def _other_operators(registry: Any) -> list[str]:
    """Those of the default domain, as of the installed onnx, that are not registered."""
    known = {name for domain, name in (*registry.rules, *registry.stops) if not domain}
    schemas = [schema for schema in defs.get_all_schemas() if not schema.domain and not schema.deprecated]
    return sorted({schema.name for schema in schemas} - known)


def _figures(errors: dict[str, Any] | None) -> tuple[str, ...]:
    if errors is None:
        return ("",) * (2 + len(ERRORS))
    counts = (str(errors[key] or "") for key in ("checked", "left_out"))
    return *counts, *(_figure(errors, *keys) for keys in ERRORS.values())


def _notes(errors: dict[str, Any]) -> str:
    """Why an error is above the bar though the rule is right, and where another judge is wrong."""
    rounded = [
        f"- `{name}`: {reason}. In float64 the largest error of this operator against PyTorch is "
        f"{row['torch_float64']:.0e}.\n"
        for name, row in errors.items()
        for reason in row.get("rounded", ())
    ]
    mistaken = [f"- `{name}`: {reason}.\n" for name, row in errors.items() for reason in row.get("mistaken", ())]
    return f"{ROUNDED_NOTE}{''.join(rounded)}{MISTAKEN_NOTE}{''.join(mistaken)}"


def _figure(errors: dict[str, Any], key: str, tests: str) -> str:
    if errors[key] is None:
        return ""
    return f"{errors[key]:.0e} ({errors[tests]})" if tests else f"{errors[key]:.0e}"


def operator_name(domain: str, name: str) -> str:
    """An operator as the table spells it."""
    return name if not domain or _is_later(domain) else f"{domain}::{name}"


def _is_later(domain: str) -> bool:
    """Whether a domain is that of operators of the default one which are newer than opset 18."""
    return bool(domain == inside("explain.prepare.expansions", "LATER"))


def _module(function: Any) -> str:
    return f"`{inspect.unwrap(function).__module__.rpartition('.')[2]}.py`"


def _first_words(function: Any) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")


def _commands(front: click.Group) -> str:
    ends = [part.strip().partition(" ") for part in (front.epilog or "").removeprefix("Exit codes:").split(",")]
    codes = _table(("exit code", "means"), [(code, meaning.rstrip(".")) for code, _, meaning in ends])
    context = click.Context(front, info_name="glasshouse", terminal_width=1000)
    found = (front.get_command(context, name) for name in front.list_commands(context))
    return codes + "".join(_command(command, context, "##") for command in found if command is not None)


def _command(command: click.Command, parent: click.Context, level: str) -> str:
    context = click.Context(command, info_name=command.name, parent=parent, terminal_width=1000)
    usage = command.get_usage(context).removeprefix("Usage: ")
    page = f"\n{level} `{context.command_path}`\n\n    {usage}\n\n{inspect.cleandoc(command.help or '')}\n"
    if isinstance(command, click.Group):
        return page + "".join(_command(command.commands[name], context, level + "#") for name in command.commands)
    options = [_option(option) for option in command.params if isinstance(option, click.Option)]
    return page + ("\n" + _table(("option", "default", "what"), options) if options else "")


def _option(option: click.Option) -> tuple[str, str, str]:
    takes = "" if option.is_flag else f" {option.metavar or option.type.name.upper()}"
    spelled = ", ".join(f"`{flag}{takes}`" for flag in option.opts)
    default = "required" if option.required else json.dumps(option.default) if option.show_default else ""
    variable = f" Environment: `{option.envvar}`." if option.envvar else ""
    return spelled, default, (option.help or "") + variable


def _method(method: Any) -> str:
    needs = ", ".join(sorted(method.needs)) or "nothing beyond the model"
    head = (
        f"\n## `{method.name}`\n\n{method.summary}\n\nNeeds: {needs}. Cost: {method.passes}. Source: {method.source}.\n"
    )
    if method.caution:
        head += f"\nCaution: {method.caution}.\n"
    return head + _parameters(method.parameters["properties"])


def _check(check: Any) -> str:
    head = f"\n## `{check.name}`\n\n{check.summary}\n\nCost: {check.passes}. Source: {check.source}.\n"
    figures = ", ".join(f"`{name}`" for name in check.figures)
    return f"{head}\nFigures: {figures}.\n\nCaution: {check.caution}.\n" + _parameters(check.parameters["properties"])


def _parameters(rules: dict[str, Any]) -> str:
    rows = [
        (f"`{name}`", json.dumps(rule["default"]), _allowed(rule), rule["description"]) for name, rule in rules.items()
    ]
    return "\n" + _table(("parameter", "default", "allowed", "what"), rows) if rows else "\nNo parameters.\n"


def _allowed(rule: dict[str, Any]) -> str:
    if "enum" in rule:
        return ", ".join(f"`{json.dumps(value)}`" for value in rule["enum"])
    bounds = [f"{word} {rule[key]}" for key, word in (("minimum", "at least"), ("maximum", "at most")) if key in rule]
    return ", ".join([_type(rule), *bounds])


def _type(rule: dict[str, Any]) -> str:
    kinds = rule.get("type", "any")
    return " or ".join([kinds] if isinstance(kinds, str) else kinds)


def record_rows(
    schema: dict[str, Any], path: str = "", root: dict[str, Any] | None = None
) -> Iterator[tuple[str, ...]]:
    """One row per field of a schema, nested fields by their path."""
    root = root or schema
    for name, given in schema.get("properties", {}).items():
        rule = root["$defs"][given["$ref"].removeprefix("#/$defs/")] | given if "$ref" in given else given
        kind = (
            json.dumps(rule["const"]) if "const" in rule else ", ".join(rule["enum"]) if "enum" in rule else _type(rule)
        )
        yield f"`{path}{name}`", kind, rule.get("description", "")
        yield from record_rows(rule, f"{path}{name}.", root)
        if isinstance(nested := rule.get("additionalProperties"), dict):
            yield from record_rows(nested, f"{path}{name}.<name>.", root)


def _table(head: tuple[str, ...], rows: Any) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def main() -> None:
    """Write every page."""
    for name, text in pages().items():
        (FOLDER / name).write_text(text, "utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
