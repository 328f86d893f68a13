"""Errors and notices of statements that touch a masked table, without the values in them.

PostgreSQL quotes values in DETAIL ("Key (email)=(...) already exists", "Failing row contains (...)"), in
CONTEXT and in the messages of failed casts. The SQLSTATE and the names of the constraint, table and column
stay. Field letters: https://www.postgresql.org/docs/current/protocol-error-fields.html
"""

from __future__ import annotations

from collections.abc import Mapping

# Severity, SQLSTATE, position in the client's own text, schema, table, column, data type, constraint name,
# and the place in the server's source.
_KEPT = frozenset("SVCPstcdnFLR")
# Classes whose messages speak of names and states, never of values: feature, transaction state,
# authorisation, rollback, syntax and access rules, resources, limits, object state, intervention, system.
_NAMING_CLASSES = frozenset(
    {"0A", "25", "28", "2D", "34", "3B", "3D", "3F", "40", "42", "53", "55", "57", "58"}
)
# The server's routines behind RAISE (pl_exec.c) and other languages' messages.
_RAISED = frozenset({"exec_stmt_raise", "plperl_util_elog", "PLy_output_kw", "pltcl_elog"})
_MESSAGE = "the message is withheld: it may hold a masked value"
_HINT = "This statement touches a table with masked columns; the SQLSTATE and the names of objects are kept."


def scrub(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields of an ErrorResponse or NoticeResponse that may go to the client."""
    state = fields.get("C", "")
    if fields.get("R") in _RAISED:  # a trigger's own words, in any field it likes
        return {**{k: v for k, v in fields.items() if k in "SVC"}, "M": _MESSAGE, "H": _HINT}
    kept = {letter: text for letter, text in fields.items() if letter in _KEPT}
    # From inside a function: the text that it put together and ran may hold a value.
    inside = state[:2] == "42" and ("W" in fields or "q" in fields)
    if state[:2] in _NAMING_CLASSES and not inside:
        kept.update({k: v for k, v in fields.items() if k in "MH"})
        return kept
    constraint, table = fields.get("n"), fields.get("t")
    kept["M"] = f'violates constraint "{constraint}" of "{table}"; {_MESSAGE}' if constraint else _MESSAGE
    kept["H"] = _HINT
    return kept
