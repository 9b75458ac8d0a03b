"""A WebSocket server. Prints its port; ends with its standard input."""

import asyncio
import http
import sys

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


async def talk(connection):
    path = connection.request.path
    if path.startswith("/close/"):
        await connection.close(int(path.rsplit("/", 1)[1]), "as asked")
        return
    if path == "/ping":
        await (await connection.ping(b"from the server"))
        await connection.send("ponged")
    try:
        async for message in connection:
            await connection.send(message)
    except ConnectionClosed:
        pass  # with any code: the client checks it


def refuse(connection, request):
    if request.path == "/refuse":
        return connection.respond(http.HTTPStatus.FORBIDDEN, "not for you\n")
    return None


def choose(connection, offered):
    return "chat.v1" if "chat.v1" in offered else None


async def main():
    options = {"process_request": refuse, "max_size": None, "subprotocols": ["chat.v1"],
               "select_subprotocol": choose}
    async with serve(talk, "127.0.0.1", 0, **options) as server:
        print(server.sockets[0].getsockname()[1], flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main())
