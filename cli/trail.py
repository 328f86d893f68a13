"""`access audit`: prove the trail, offline, and carry it elsewhere."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any

import typer

from cli.client import Api
from cli.say import say, warn
from cli.trouble import Exit, Trouble

app = typer.Typer(help="The audit trail: verify and export.", no_args_is_help=True)


@app.command()
def verify(
    data_dir: Annotated[
        Path, typer.Option(help="The broker's data directory.", envvar="PORTCULLIS_DATA_DIR")
    ] = Path(".portcullis"),
    database: Annotated[
        str,
        typer.Option(
            help="The database, where it is not in the data directory: postgresql://…",
            envvar="PORTCULLIS_DATABASE_URL",
            show_default=False,
        ),
    ] = "",
    export: Annotated[Path | None, typer.Option(help="Check this exported trail instead.")] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option(help="Public keys to trust. Default: audit.pub of the data directory."),
    ] = None,
    recordings: Annotated[
        Path | None, typer.Option(help="Where recordings lie. Default: in the data directory.")
    ] = None,
    without_recordings: Annotated[
        bool,
        typer.Option("--without-recordings", help="Check the trail alone: the recordings are elsewhere."),
    ] = False,
) -> None:
    """Check every entry, signature and recording of the trail. Needs no broker; names the first bad entry."""
    if without_recordings and recordings:
        raise Trouble(
            "Recordings are to be checked and not.", "Give one of the two options.", Exit.NOT_UNDERSTOOD
        )
    place = None if without_recordings else recordings or data_dir / "recordings"
    verdict = _verified(data_dir, database, export, key or [data_dir / "audit.pub"], place)
    what = f"{verdict.entries} entries, {verdict.checkpoints} signed checkpoints"
    what += f", {verdict.recordings} anchors of recordings"
    if verdict.good:
        if missing := _witness_missing(data_dir, export, key, verdict.checkpoints):
            warn(
                "The trail holds as far as it goes, and its end may be cut off: " + missing, f"Good: {what}."
            )
            raise typer.Exit(Exit.REFUSED)
        say(f"[green]The trail holds[/green]: {what}.")
        return
    warn(f"The trail does not hold at entry {verdict.bad}: {verdict.what}.", f"Good up to there: {what}.")
    raise typer.Exit(Exit.REFUSED)


def _witness_missing(data_dir: Path, export: Path | None, keys: list[Path] | None, checkpoints: int) -> str:
    """What is missing beside the database; empty where nothing is, or where this is not the directory of the
    broker that signs.
    """
    witness = data_dir / "audit-checkpoints.jsonl"
    if export is not None or keys or not checkpoints or witness.is_file():
        return ""
    return f"{witness.name}, which the broker writes at every checkpoint, is not in the data directory"


def _verified(
    data_dir: Path, database: str, export: Path | None, keys: list[Path], place: Path | None
) -> Any:
    from sqlalchemy.exc import SQLAlchemyError

    from broker import trail
    from broker.settings import Settings
    from broker.store.engine import Store
    from cli.recordings import Shelf

    try:
        trusted = trail.load_public_keys(keys)
        witness = trail.read_witness(data_dir / "audit-checkpoints.jsonl")
        # Beside the store a directory that is gone is told; of an export the recordings may be elsewhere.
        look = place is not None and (export is None or place.is_dir())
        check = Shelf(place).check if place is not None and look else None
        if export is not None:
            with export.open() as lines:
                return trail.verify_export(lines, trusted, witness=witness, recordings=check)
        settings = Settings(data_dir=data_dir, database_url=database)
        return asyncio.run(_of_store(Store(settings.database), trusted, witness, check))
    except (OSError, ValueError) as error:
        raise Trouble(
            f"The trail cannot be checked: {error}", "Give --data-dir, and --key where it is elsewhere."
        ) from None
    except SQLAlchemyError as error:
        raise Trouble(
            f"The database cannot be read ({type(error).__name__}).",
            "Give --data-dir or --database.",
            Exit.UNREACHABLE,
        ) from None


async def _of_store(store: Any, keys: Any, witness: Any, recordings: Any) -> Any:
    from broker.trail import verify_store

    try:
        return await verify_store(store, keys, witness=witness, recordings=recordings)
    finally:
        await store.close()


@app.command("export")
def export_() -> None:
    """The whole trail and its signed checkpoints as lines of JSON, for administrators."""
    with Api.mine().lines("/api/v1/audit/export") as lines:
        for line in lines:
            typer.echo(line)
