"""What came of a submitted statement, as text for its thread: a table, bounded on every side. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bot.markup import code, plain
from broker.runs import RunOutput
from workflows.model import StatementReview

ROWS, WIDTH, LINE, TABLE = 20, 32, 120, 2600
"""The most rows, characters of a value, of a line and of the table that are shown in the thread."""


def result_text(review: StatementReview, output: RunOutput, public_url: str) -> str:
    """The reply in the thread."""
    if output.error:
        state = f" (SQLSTATE {output.sqlstate})" if output.sqlstate else ""
        hint = f"\n{plain(output.hint, 300)}" if output.hint else ""
        return f"❌ {plain(output.error, 1500)}{state}{hint} · {review.id}"
    head = f"📄 *{_amount(output)}* in {_took(output.seconds)} · {code(output.tag or 'done')} · {review.id}"
    if not output.columns:
        return head
    shown, whole = table(output.columns, output.rows)
    link = f"{public_url}/statements/{review.id}/result" if public_url else ""
    more = "" if whole and not output.cut else f"\nMore than fits here. {_link(link)}".rstrip()
    return f"{head}\n```\n{shown}\n```{more}"


def table(columns: Sequence[str], rows: Sequence[Sequence[str | None]]) -> tuple[str, bool]:
    """The beginning of the rows as a table of plain text, and whether that is all of it."""
    cells = [[_cell(name) for name in columns]]
    cells += [[_cell("∅" if value is None else value) for value in row] for row in rows[:ROWS]]
    whole = len(rows) <= ROWS and all(len(v or "") <= WIDTH for row in rows[:ROWS] for v in row)
    widths = [max(len(row[n]) for row in cells) for n in range(len(columns))]
    lines = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in cells]
    lines.insert(1, "  ".join("─" * w for w in widths))
    kept: list[str] = []
    size = 0
    for line in lines:
        whole = whole and len(line) <= LINE
        line = _escaped(line if len(line) <= LINE else f"{line[: LINE - 1]}…")
        size += len(line) + 1
        if size > TABLE:
            return "\n".join(kept), False
        kept.append(line)
    return "\n".join(kept), whole


def _cell(value: str) -> str:
    line = "".join(c if c.isprintable() else "·" for c in value.replace("\n", "⏎"))
    return line if len(line) <= WIDTH else f"{line[: WIDTH - 1]}…"


def _escaped(line: str) -> str:
    """Nothing in a value is mark-up, or ends the block of code."""
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace("`", "ʼ")


def _amount(output: RunOutput) -> str:
    if output.columns:
        return f"{output.total:,} row{'' if output.total == 1 else 's'}"
    return "Done"


def _took(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _link(url: str) -> str:
    return f"<{url}|See the whole result>, for 24 hours, by login." if url else ""
