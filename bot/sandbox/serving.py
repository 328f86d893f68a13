"""uvicorn for a house in one process that comes and goes many times: the sandbox's own, and tests'.

uvicorn looks every tenth of a second whether it is to end, and then waits another: it is made to serve for
months. Here it ends as soon as nothing is open any more.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn

GRACE_SECONDS = 1.0
"""How long an answer under way may take once the server is to end."""


class Server(uvicorn.Server):
    """Leaves SIGINT and SIGTERM to whoever runs the process."""

    def __init__(self, asgi: Any, **options: Any) -> None:
        super().__init__(uvicorn.Config(asgi, log_config=None, log_level="error", lifespan="off", **options))
        self._told = asyncio.Event()
        self._serving: asyncio.Task[None] | None = None

    async def begin(self, listener: socket.socket) -> None:
        """Serve on a bound socket from now on."""
        self._serving = asyncio.create_task(self.serve(sockets=[listener]))
        while not self.started:
            if self._serving.done():
                await self._serving
                raise OSError(f"nothing can be served on {listener}")
            await asyncio.sleep(0.001)

    async def end(self) -> None:
        """Close the listener and every connection; what is still running after a moment is cancelled."""
        self.should_exit = True
        self._told.set()
        if self._serving is not None:
            await self._serving

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def main_loop(self) -> None:
        while not await self.on_tick(0):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1):
                    await self._told.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        state = self.server_state
        for connection in list(state.connections):
            connection.shutdown()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(GRACE_SECONDS):
                while state.connections or state.tasks:  # noqa: ASYNC110
                    await asyncio.sleep(0.002)
        for task in state.tasks:
            task.cancel()


@contextlib.asynccontextmanager
async def serving(asgi: Any, **options: Any) -> AsyncIterator[str]:
    """Serve an ASGI application on a free port of loopback; its address."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(asgi, **options)
    await server.begin(listener)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        await server.end()
