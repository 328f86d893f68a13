"""`proof/run`: each suite directly and through the gate, compared test by test."""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from proof import go_suites, other_suites, programs, psycopg_suite, python_suites, regression, report
from proof.fetch import Library, Missing
from proof.house import TOP, House, Way, open_house
from proof.open_gate import POLICIES
from proof.outcomes import Outcomes, counts, differences


@dataclass(frozen=True)
class Suite:
    """How a suite runs one way. In an `exact` one a test must also print the same."""

    run: Callable[[Library, House, Way, Path], Outcomes]
    exact: bool = False


SUITES: dict[str, Suite] = {
    "asyncpg": Suite(python_suites.asyncpg),
    "psycopg": Suite(psycopg_suite.psycopg3, exact=True),
    "psycopg2": Suite(python_suites.psycopg2),
    "sqlalchemy-psycopg": Suite(python_suites.sqlalchemy_psycopg),
    "sqlalchemy-asyncpg": Suite(python_suites.sqlalchemy_asyncpg),
    "django": Suite(python_suites.django),
    "pgx": Suite(go_suites.pgx),
    "pq": Suite(go_suites.pq),
    "node-postgres": Suite(other_suites.node),
    "pgjdbc": Suite(other_suites.java),
    "psql": Suite(programs.psql, exact=True),
    "pgbench": Suite(programs.pgbench, exact=True),
    "dump": Suite(programs.dump, exact=True),
    "regress": Suite(regression.regress, exact=True),
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    library = Library(options.library)
    rows = []
    for name in options.suites or SUITES:
        with tempfile.TemporaryDirectory(prefix="portcullis-proof-") as folder:
            rows.append(_compare(name, SUITES[name], library, Path(folder), options))
            if not rows[-1].failure:
                report.save(options.out, options.policy, rows[-1])
    if options.write:
        report.write_page(options.out, list(SUITES))
    print(report.markdown(rows))
    return 1 if any(row.unexplained for row in rows) else 0


def _compare(
    name: str, suite: Suite, library: Library, folder: Path, options: argparse.Namespace
) -> report.Row:
    """Both ways by turns; a test whose end is not the same each time on one way says nothing."""
    found: dict[str, list[Outcomes]] = {"direct": [], "gate": []}
    try:
        with open_house(folder / "house", policy=options.policy) as house:
            for turn in range(options.turns):
                for way in (house.direct, house.gate):
                    home = folder / f"{way.name}{turn}"
                    home.mkdir()
                    home.chmod(0o777)
                    begun = time.monotonic()
                    outcomes = suite.run(library, house, way, home)
                    found[way.name].append(outcomes)
                    print(
                        f"{name} {way.name}: {counts(outcomes)} in {time.monotonic() - begun:.0f} s",
                        flush=True,
                    )
                if not differences(found["direct"][-1], found["gate"][-1], exact=suite.exact):
                    break
            if options.keep:
                shutil.copytree(
                    folder,
                    options.keep / name,
                    dirs_exist_ok=True,
                    symlinks=True,
                    ignore=shutil.ignore_patterns("data", "suite"),
                )
    except Missing as missing:
        print(f"{name}: {missing}", file=sys.stderr)
        return report.Row(name, {}, {}, [], [], failure=str(missing))
    return report.row(name, found["direct"], found["gate"], exact=suite.exact, policy=options.policy)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="proof/run", description=__doc__)
    parser.add_argument("suites", nargs="*", metavar="suite", help=", ".join(SUITES))
    parser.add_argument("--policy", choices=POLICIES, default="open")
    parser.add_argument("--turns", type=int, default=3, help="at most, while the two ways still differ")
    parser.add_argument("--library", type=Path, default=TOP / ".proof", help="where sources are kept")
    parser.add_argument("--out", type=Path, default=TOP / ".proof" / "report", help="results are kept here")
    parser.add_argument(
        "--write", action="store_true", help="put all results in --out into the documentation"
    )
    parser.add_argument("--keep", type=Path, help="keep the suites' own output here")
    options = parser.parse_args(arguments)
    if unknown := set(options.suites) - SUITES.keys():
        parser.error(f"there is no suite {', '.join(sorted(unknown))}; there are {', '.join(SUITES)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
