"""A plain reverse proxy with aiohttp, to compare: `python -m bench.aiohttp_proxy PORT TARGET CERT KEY`."""

from __future__ import annotations

import asyncio
import ssl
import sys

import aiohttp
import uvloop
from aiohttp import web

_HOP = {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "host", "content-length"}


async def main(port: int, target: int, certificate: str, key: str) -> None:
    client = aiohttp.ClientSession(auto_decompress=False)

    async def pass_on(request: web.Request) -> web.StreamResponse:
        kept = [(name, value) for name, value in request.headers.items() if name.lower() not in _HOP]
        address = f"http://127.0.0.1:{target}{request.raw_path}"
        body = request.content if request.body_exists else None
        async with client.request(
            request.method, address, headers=kept, data=body, allow_redirects=False
        ) as answer:
            headers = [
                (n, v) for n, v in answer.headers.items() if n.lower() not in _HOP - {"content-length"}
            ]
            passed = web.StreamResponse(status=answer.status, headers=dict(headers))
            await passed.prepare(request)
            async for piece in answer.content.iter_any():
                await passed.write(piece)
            await passed.write_eof()
            return passed

    app = web.Application(client_max_size=1 << 40)
    app.router.add_route("*", "/{rest:.*}", pass_on)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=context).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]))
