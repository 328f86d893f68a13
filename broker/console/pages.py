"""Pages from templates. Everything put into one is escaped."""

from __future__ import annotations

from importlib.resources import files

import jinja2
from fastapi.responses import HTMLResponse

from workflows.visible import visible

_environment = jinja2.Environment(
    loader=jinja2.PackageLoader("broker.console"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)

_environment.filters["visible"] = visible
_environment.filters["merged"] = lambda values, **more: {**values, **more}


def render(template: str, status: int = 200, /, **values: object) -> HTMLResponse:
    """The page of a template."""
    page = _environment.get_template(template).render({"person": None, "csrf": "", **values})
    return HTMLResponse(page, status)


def stylesheet() -> str:
    return (files("broker.console") / "static" / "console.css").read_text()


def script(name: str = "console.js") -> str:
    return (files("broker.console") / "static" / name).read_text()
