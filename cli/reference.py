"""docs/reference from the code itself: `python -m cli.reference` writes it.

A test holds that what is written is what the code says, so the pages cannot grow old.
"""

from __future__ import annotations

import ast
import inspect
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click
import typer
from prometheus_client.metrics import MetricWrapperBase

from broker import metrics
from broker.api.app import openapi
from broker.settings import Settings
from cli import licences
from cli.gate_metrics import COUNTERS as GATE_COUNTERS
from cli.main import VARIABLES, demo_app, typer_app
from cli.settings import ServeSettings
from cli.trouble import MEANINGS

FOLDER = Path(__file__).parents[1] / "docs" / "reference"
_MADE = "<!-- Made by `python -m cli.reference`; change the code, not this page. -->\n"


def pages() -> dict[str, str]:
    """Each page's name and content."""
    return {
        "cli.md": _MADE + "\n".join(_cli()) + "\n",
        "settings.md": _MADE + "\n".join(_settings()) + "\n",
        "metrics.md": _MADE + "\n".join(_metrics()) + "\n",
        "licences.md": _MADE + "\n".join(licences.page()) + "\n",
        "api.md": _MADE + "\n".join(_api(openapi())) + "\n",
        "openapi.json": json.dumps(openapi(), indent=1, sort_keys=True) + "\n",
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in pages().items():
        (FOLDER / name).write_text(content, encoding="utf-8")


# ----------------------------------------------------------------- the CLI


def _cli() -> Iterator[str]:
    yield "# The `access` command\n"
    yield "The chat's verbs take the same words here as in Slack: `access help` shows their grammar.\n"
    root = typer.main.get_command(typer_app)
    assert isinstance(root, click.Group) or hasattr(root, "commands")
    for name, command in root.commands.items():
        if name == "demo":
            command = typer.main.get_command(demo_app())
        yield from _command(f"access {name}", command)
    yield "## Environment\n"
    yield "| Variable | Meaning |\n|---|---|"
    for name, meaning in VARIABLES.items():
        yield f"| `{name}` | {meaning} |"
    yield "\n## Exit codes\n"
    yield "| Code | Meaning |\n|---|---|"
    for code, meaning in MEANINGS.items():
        yield f"| {int(code)} | {meaning} |"


def _command(name: str, command: Any) -> Iterator[str]:
    if children := getattr(command, "commands", None):
        if getattr(command, "invoke_without_command", False):
            yield from _alone(name, command)
        for child_name, child in children.items():
            yield from _command(f"{name} {child_name}", child)
        return
    yield from _alone(name, command)


def _alone(name: str, command: Any) -> Iterator[str]:
    """A command, or a group that does something by itself."""
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option" and p.name != "help"]
    shown = " ".join(_argument(argument) for argument in arguments)
    yield f"## `{name}`\n"
    yield f"{inspect.cleandoc(command.help or '')}\n"
    yield f"    {name}{' [options]' if options else ''}{' ' + shown if shown else ''}\n"
    if options:
        yield "| Option | Default | |\n|---|---|---|"
        for option in options:
            yield f"| `{_flags(option)}` | {_default(option)} | {_about(option)} |"
        yield ""


def _argument(argument: Any) -> str:
    name = argument.name.upper() + ("…" if argument.nargs == -1 else "")
    return name if argument.required else f"[{name}]"


def _flags(option: Any) -> str:
    return ", ".join([*option.opts, *option.secondary_opts])


def _default(option: Any) -> str:
    if option.default in (None, "", False) or callable(option.default):
        return ""
    return f"`{option.default}`" if option.default is not True else f"`{option.opts[0]}`"


def _about(option: Any) -> str:
    variable = f" Also `{option.envvar}`." if option.envvar else ""
    return f"{option.help or ''}{variable}"


# ----------------------------------------------------------------- metrics


def _metrics() -> Iterator[str]:
    yield "# Metrics\n"
    yield (
        "`GET /metrics` of the broker, in Prometheus' format. Labels hold kinds and codes, never people or "
        "resources. Those of the gate are of the gate inside this process: gates elsewhere and workers keep "
        "theirs to themselves.\n"
    )
    yield "| Metric | Type | Labels | |\n|---|---|---|---|"
    for collector in vars(metrics).values():
        if isinstance(collector, MetricWrapperBase):
            for metric in collector.describe():
                yield _metric(metric.name, metric.type, collector._labelnames, metric.documentation)
    yield _metric("portcullis_gate_open", "gauge", (), "Sessions that are open now.")
    for name, about in GATE_COUNTERS.items():
        yield _metric(f"portcullis_gate_{name}", "counter", (), about)


def _metric(name: str, kind: str, labels: Sequence[str], about: str) -> str:
    shown = ", ".join(f"`{label}`" for label in labels)
    return f"| `{name}{'_total' if kind == 'counter' else ''}` | {kind} | {shown} | {about} |"


# ---------------------------------------------------------------- settings


def _settings() -> Iterator[str]:
    yield "# Settings\n"
    yield (
        "How a process runs is read from the environment when `access serve` starts. Who may do what stands "
        "in `access.yaml`.\n"
    )
    yield "| Variable | Default | |\n|---|---|---|"
    about = {**_docstrings(Settings), **_docstrings(ServeSettings)}
    for name, field in ServeSettings.model_fields.items():
        choices = getattr(field.validation_alias, "choices", None)
        variable = choices[0] if choices else f"PORTCULLIS_{name.upper()}"
        yield f"| `{variable}` | {_shown(field)} | {about.get(name, '')} |"


def _shown(field: Any) -> str:
    if field.default_factory is not None:
        return "this machine's name"
    value = field.default
    if value is None or str(value) == "":
        return ""
    return f"`{value}`"


def _docstrings(model: type) -> dict[str, str]:
    """The text that follows each field in the source of its class."""
    body = ast.parse(inspect.getsource(model)).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, after in zip(body.body, body.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(after, ast.Expr)
            and isinstance(after.value, ast.Constant)
        ):
            found[field.target.id] = " ".join(str(after.value.value).split())
    return found


# --------------------------------------------------------------------- API


def _api(described: dict[str, Any]) -> Iterator[str]:
    yield "# The HTTP API\n"
    yield (
        "JSON in and out, described whole in [openapi.json](openapi.json), which a broker serves at "
        "`/api/v1/openapi.json`. Calls carry `Authorization: Bearer` with a login token (`access login`). "
        "Errors are problem details (RFC 9457) with a stable `code`, `why` and `way_out`. A call with an "
        "`Idempotency-Key` can be repeated: it has one effect.\n"
    )
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield f"## {method.upper()} `{path}`\n"
            yield f"{operation.get('description', operation.get('summary', ''))}\n"
            yield from _fields(described, operation)
            yield f"Answers: {', '.join(_answer(c, a) for c, a in sorted(operation['responses'].items()))}.\n"


def _fields(described: dict[str, Any], operation: dict[str, Any]) -> Iterator[str]:
    rows = [
        (p["name"], p["in"], p.get("required", False), p.get("description", ""))
        for p in operation.get("parameters", [])
    ]
    body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
    if name := body.get("$ref", "").rpartition("/")[2]:
        schema = described["components"]["schemas"][name]
        required = schema.get("required", [])
        rows += [
            (field, "body", field in required, about.get("description", ""))
            for field, about in schema.get("properties", {}).items()
        ]
    if rows:
        yield "| Field | In | Needed | |\n|---|---|---|---|"
        for name, where, needed, about in rows:
            yield f"| `{name}` | {where} | {'yes' if needed else ''} | {about} |"
        yield ""


def _answer(code: str, answer: dict[str, Any]) -> str:
    contents: list[dict[str, Any]] = list(answer.get("content", {}).values())
    schema: dict[str, Any] = contents[0].get("schema", {}) if contents else {}
    item = schema.get("items", schema).get("$ref", "").rpartition("/")[2]
    kind = f"list of {item}" if "items" in schema and item else item
    return f"{code} ({kind})" if kind and kind != "ProblemOut" else code


if __name__ == "__main__":
    main()
