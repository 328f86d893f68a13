"""Submitted statements: the gate's reading for the broker, and a client of the gate for its runs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from broker.api.parts import GateAddress
from broker.run_worker import NotEntered, RunOrder
from broker.runs import ReadStatement, RunOutput
from proxy import run
from proxy.authority import Upstream
from proxy.sql.catalog import Catalog
from proxy.sql.guard import Settings, read
from proxy.sql.guardrails import Allow, Circumstances, Hold, Refuse, judge
from proxy.sql.masked import MaskSet
from proxy.ssh import client, guard
from proxy.ssh.shell import read as shell
from workflows.model import Refusal, Statement
from workflows.policy import Route

_UNSEEN = MaskSet(Catalog.build((), ()), {}, frozenset(), frozenset(), active=False)
"""No picture of the target: a name without a schema fits a guardrail by its last part."""

_NOT_TEXT = Refusal(
    "no-runs",
    "What is asked of a service or a cluster is a request, not a statement, so that none can be submitted.",
    "Ask for access, and send it with a client of your own: a guardrail can have it wait there for a yes.",
)


class GateReader:
    """See broker.runs.StatementReader. The gate reads the statement again, with the target's catalog."""

    def read(self, text: str, route: Route, principal: str) -> ReadStatement | Refusal:
        terms = route.role.terms
        if terms.host is not None:
            return _read_line(text, route, principal)
        if terms.http is not None or terms.cluster is not None:
            return _NOT_TEXT
        verdict = read(text, _UNSEEN, Settings(trusted_functions=terms.trusted_functions))
        if not verdict.allowed and not verdict.statements:
            return Refusal("unread", f"The gate cannot read this: {verdict.reason}.", verdict.hint)
        where = Circumstances(principal, route.resource.name, route.role.name)
        bounds = {one.traits.bounded for one in verdict.statements} - {None}
        statement = Statement(
            text=text,
            digest=hashlib.sha256(text.encode()).hexdigest(),
            statement_class=verdict.statement_class,
            tables=tuple(sorted(verdict.tables)),
            bounded=all(bounds) if bounds else None,
        )
        match judge(verdict, terms.guardrails, where) if terms.guardrails else Allow():
            case Refuse(rule, message, hint):
                return Refusal("guardrail", f"The rule {rule} refuses it: {message}.", hint)
            case Hold() as hold:
                return ReadStatement(statement, hold.rule, hold.quorum)
            case _:
                return ReadStatement(statement)


def _read_line(text: str, route: Route, principal: str) -> ReadStatement | Refusal:
    """The same of a command line for an SSH host."""
    line = shell.read(text)
    statement = Statement(text, hashlib.sha256(text.encode()).hexdigest(), line.statement_class)
    where = Circumstances(principal, route.resource.name, route.role.name)
    guardrails = route.role.terms.guardrails
    match guard.judge(line, guardrails, where) if guardrails else Allow():
        case Refuse(rule, message, hint):
            return Refusal("guardrail", f"The rule {rule} refuses it: {message}.", hint)
        case Hold() as hold:
            return ReadStatement(statement, hold.rule, hold.quorum)
        case _:
            return ReadStatement(statement)


@dataclass(frozen=True, slots=True)
class GateClient:
    """See broker.run_worker.Client: sends through the gate at `gate`."""

    gate: GateAddress

    async def __call__(self, order: RunOrder) -> RunOutput:
        if order.kind == "ssh":
            return await self._command(order)
        door = Upstream(
            self.gate.host,
            self.gate.port,
            order.resource,
            f"{order.principal}/{order.role}",
            order.token,
            "verify-full",
            self.gate.ca,
        )
        try:
            it = await run.send(door, order.text, most_rows=order.most_rows, most_bytes=order.most_bytes)
        except run.LoginError as error:
            raise NotEntered(str(error).replace("the target", "the gate")) from error
        return RunOutput(
            columns=it.columns,
            rows=tuple(it.rows),
            total=it.total,
            tag="; ".join(it.tags),
            seconds=round(it.seconds, 3),
            sqlstate=it.sqlstate,
            error=it.error,
            hint=it.hint,
        )

    async def _command(self, order: RunOrder) -> RunOutput:
        name = f"{order.principal}+{order.resource}+{order.role}"
        gate = client.Gate(self.gate.host, self.gate.ssh_port, self.gate.known_hosts)
        try:
            it = await client.run(gate, name, order.token, order.text, order.most_rows, order.most_bytes)
        except client.NotIn as error:
            raise NotEntered(str(error)) from error
        return RunOutput(
            columns=("output",),
            rows=tuple((line,) for line in it.lines),
            total=it.total,
            tag=it.exit,
            seconds=round(it.seconds, 3),
            error=it.error,
        )
