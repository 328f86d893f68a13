"""`access check` and `access explain`: is the policy good, and what does it say about somebody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.client import Api
from cli.say import counted, say_plain, warn
from cli.trouble import Exit, Trouble


def check(
    file: Annotated[Path, typer.Argument(help="The policy file.", envvar="PORTCULLIS_POLICY")] = Path(
        "access.yaml"
    ),
) -> None:
    """Check a policy file: every problem with file, line and column, and exit code 1."""
    from broker.config import ConfigError
    from broker.policy_file.holder import load

    try:
        config = load(file)
    except ConfigError as error:
        for problem in error.problems:
            warn(str(problem))
        raise typer.Exit(Exit.REFUSED) from None
    people, policy = config.directory.everyone(), config.policy
    persons = f"{len(people)} people" if len(people) != 1 else "1 person"
    counts = f"{persons}, {counted(len(policy.resources), 'resource')}, {counted(len(policy.rules), 'rule')}"
    say_plain(f"{file}: good ({counts}).")
    for name, secret in config.secrets():
        try:
            secret.read()
        except LookupError as error:
            warn(f"{name}: {error}.", "The broker needs it where it runs.")


def explain(
    person: Annotated[str, typer.Argument(help="Whose access; yourself, or anybody for administrators.")],
    resource: Annotated[str, typer.Argument()],
    policy: Annotated[Path | None, typer.Option(help="Read this file instead of asking the broker.")] = None,
) -> None:
    """Tell, rule by rule, why somebody may or may not have a resource."""
    lines = _offline(policy, person, resource) if policy else None
    if lines is None:
        answer = Api.mine().get("/api/v1/explain", resource=resource, principal=person)
        lines = answer["lines"]
    for line in lines:
        say_plain(line)


def _offline(file: Path, person: str, resource: str) -> list[str]:
    from broker.config import ConfigError
    from broker.policy_file.holder import load
    from workflows.policy import explain as explained

    try:
        config = load(file)
    except ConfigError as error:
        raise Trouble(str(error), f"See: access check {file}") from None
    principal = config.directory.principal(person)
    if principal is None:
        raise Trouble(f"{file} knows no {person}.", f"It knows: {', '.join(config.directory.everyone())}.")
    return list(explained(config.policy, principal, resource))
