"""`access serve`: the house in the foreground, until it is told to stop."""

from __future__ import annotations

import asyncio
import errno
import gc
import resource
import signal
from typing import TYPE_CHECKING, Annotated

import typer

from cli.say import whisper
from cli.trouble import Exit, Trouble

if TYPE_CHECKING:
    from cli.settings import ServeSettings


def serve(
    only: Annotated[
        str,
        typer.Option(help="Only these parts, separated by commas: broker, bot, proxy.", show_default=False),
    ] = "",
    workers: Annotated[
        int, typer.Option(help="Processes of the gate behind its one port.", min=1, max=128)
    ] = 1,
) -> None:
    """Serve broker, bot and gate. Settings come from the environment: docs/reference/settings.md."""
    import uvloop
    from alembic.util import CommandError
    from pydantic import ValidationError
    from sqlalchemy.exc import SQLAlchemyError

    from broker import logs
    from broker.config import ConfigError
    from cli.settings import ALL_PARTS, ServeSettings

    try:
        settings = ServeSettings()
    except ValidationError as error:
        wrong = "; ".join(
            f"PORTCULLIS_{'_'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors()
        )
        raise Trouble(f"The settings cannot be used: {wrong}.", exit_code=Exit.NOT_UNDERSTOOD) from None
    parts = frozenset(part.strip() for part in only.split(",") if part.strip()) or ALL_PARTS
    logs.configure(settings.log_level)
    _open_files()
    try:
        uvloop.run(_until_told(settings, parts, workers))
    except ConfigError as error:
        raise Trouble(str(error), f"Check it: access check {settings.policy}") from None
    except SQLAlchemyError as error:
        raise Trouble(
            f"The database cannot be used ({type(error).__name__}).",
            "Check PORTCULLIS_DATABASE_URL.",
            Exit.UNREACHABLE,
        ) from None
    except CommandError:
        raise Trouble(
            "The database is of a newer version than this, which cannot read it.",
            "Install that version again, or put the backup from before in place: docs/how-to/operate.md",
        ) from None
    except (OSError, ValueError, TimeoutError) as error:
        raise Trouble(f"It cannot start: {error}", _way_out(error)) from None


def _way_out(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return "Something else listens there. Stop it, or set PORTCULLIS_HTTP_PORT or PORTCULLIS_GATE_…PORT."
    if isinstance(error, PermissionError):
        return "Give this user the right to it, or set PORTCULLIS_DATA_DIR."
    if isinstance(error, ConnectionError):
        return "Check PORTCULLIS_REDIS_URL; of a gate alone PORTCULLIS_BROKER_URL."
    return ""


def _settle() -> None:
    """Spare what the start left behind from later garbage collections: a full one would stop all sessions
    for some 80 ms.
    """
    gc.collect()
    gc.freeze()


def _open_files() -> None:
    """Allow this process and its workers all the open files they may have: a session takes three."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


async def _until_told(settings: ServeSettings, parts: frozenset[str], workers: int) -> None:
    from cli.house import House

    told = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(name, told.set)
    house = House(settings, only=parts, workers=workers)
    starting = asyncio.create_task(house.start())
    waiting = asyncio.create_task(told.wait())
    await asyncio.wait({starting, waiting}, return_when=asyncio.FIRST_COMPLETED)
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return
    try:
        await starting
        _settle()
        where = [f"gate at {house.gate.host}:{house.gate.port}"] if house.gate and "proxy" in parts else []
        where += [f"broker at {house.public_url}"] if house.public_url else []
        whisper(f"Serving: {', '.join(where)}. Ctrl-C stops it.")
        await waiting
    finally:
        waiting.cancel()
        await house.stop()
