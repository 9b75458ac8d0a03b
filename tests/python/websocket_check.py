"""Checks of WebSocket through whatever is at ADDRESS. Prints the name of each that holds."""

import asyncio
import ssl
import sys

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

OPTIONS = {"max_size": None, "proxy": None, "open_timeout": 20, "close_timeout": 20}


async def check_echo(base):
    async with connect(base + "/echo", **OPTIONS) as connection:
        for message in ("text", "gr\u00fcn", "", b"", b"\x00\xff", "x" * 125, "x" * 126, "x" * 70_000):
            await connection.send(message)
            assert await connection.recv() == message


async def check_large(base):
    async with connect(base + "/echo", **OPTIONS) as connection:
        message = bytes(range(256)) * 20_000
        await connection.send(message)
        assert await connection.recv() == message
        await connection.send([b"a" * 100_000, b"b" * 100_000, b"c"])
        assert await connection.recv() == b"a" * 100_000 + b"b" * 100_000 + b"c"


async def check_ping(base):
    async with connect(base + "/ping", **OPTIONS) as connection:
        assert await connection.recv() == "ponged"
        await asyncio.wait_for(await connection.ping(b"from the client"), 20)


async def check_subprotocol(base):
    async with connect(base + "/echo", subprotocols=["other", "chat.v1"], **OPTIONS) as connection:
        assert connection.subprotocol == "chat.v1"


async def check_close(base):
    for code in (1000, 1001, 3000, 4001):
        async with connect(f"{base}/close/{code}", **OPTIONS) as connection:
            try:
                await connection.recv()
            except ConnectionClosed as closed:
                assert (closed.rcvd.code, closed.rcvd.reason) == (code, "as asked"), closed
            else:
                raise AssertionError("not closed")
    connection = await connect(base + "/echo", **OPTIONS)
    await connection.close(4321, "the client's")
    assert connection.close_code == 4321


async def check_refused(base):
    try:
        await connect(base + "/refuse", **OPTIONS)
    except InvalidStatus as refused:
        assert refused.response.status_code == 403, refused
        assert refused.response.body == b"not for you\n", refused.response.body
    else:
        raise AssertionError("not refused")


async def check_many(base):
    async def one(number):
        async with connect(base + "/echo", **OPTIONS) as connection:
            for turn in range(10):
                await connection.send(f"{number} {turn}")
                assert await connection.recv() == f"{number} {turn}"

    await asyncio.gather(*(one(number) for number in range(30)))


CHECKS = [check_echo, check_large, check_ping, check_subprotocol, check_close, check_refused,
          check_many]


async def main():
    base = sys.argv[1]
    if len(sys.argv) > 2:
        OPTIONS["ssl"] = ssl.create_default_context(cafile=sys.argv[2])
        OPTIONS["server_hostname"] = sys.argv[3]
    failed = False
    for check in CHECKS:
        try:
            await asyncio.wait_for(check(base), 40)
            print("ok", check.__name__, flush=True)
        except Exception as error:  # each is told, and the next is tried
            failed = True
            print("FAILED", check.__name__, repr(error), flush=True)
    sys.exit(failed)


asyncio.run(main())
