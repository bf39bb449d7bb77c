"""Server processes as a host has them: raw lines of JSON-RPC over stdio, and a pid of one's own."""

from __future__ import annotations

import itertools
import json
import math
import re
import sqlite3
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import psycopg
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.emulator_lab import Emulator
from tests.stage import PICTURE, environment

ANSWERED_WITHIN: Final = 20.0
"""Seconds; a process on a busy machine needs some to start."""


class Server:
    """A server process over stdio. One call at a time, unless its answer is not waited for."""

    def __init__(self, process: anyio.abc.Process) -> None:
        assert process.stdin
        assert process.stdout
        self._process = process
        self._stdin = process.stdin
        self._lines = BufferedByteReceiveStream(process.stdout)
        self._ids = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}

    @property
    def pid(self) -> int:
        return self._process.pid

    async def greet(self) -> None:
        """The handshake; nothing of the server's own work begins with it."""
        me = {"name": "a test", "version": "1"}
        await self.ask(
            "initialize", protocolVersion="2025-11-25", capabilities={}, clientInfo=me
        )  # fmt: skip
        await self._write({"method": "notifications/initialized"})

    async def ask(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a request and read its answer's result."""
        return await self.result(await self.send(method, **params))

    async def send(self, method: str, **params: Any) -> int:
        """Send a request; its number."""
        number = next(self._ids)
        await self._write({"id": number, "method": method, "params": params})
        return number

    async def result(self, number: int) -> dict[str, Any]:
        """The result of a request sent before."""
        with anyio.fail_after(ANSWERED_WITHIN):
            while number not in self._answers:
                line = await self._lines.receive_until(b"\n", 4_000_000)
                message = json.loads(line)
                if "id" in message and "method" not in message:
                    self._answers[message["id"]] = message
        answer = self._answers.pop(number)
        assert "result" in answer, answer
        result: dict[str, Any] = answer["result"]
        return result

    async def call(self, tool: str, **given: Any) -> dict[str, Any]:
        """Call a tool; the structure of its answer."""
        return await self.answer(await self.send_call(tool, **given))

    async def send_call(self, tool: str, **given: Any) -> int:
        return await self.send("tools/call", name=tool, arguments=given)

    async def answer(self, number: int) -> dict[str, Any]:
        """The structure of an answer, which is in its text as well."""
        result = await self.result(number)
        reported: dict[str, Any] = result["structuredContent"]
        [text] = result["content"]
        assert f"Status: {reported['status']}" in text["text"]
        assert reported["task_id"] is None or reported["task_id"] in text["text"]
        return reported

    async def send_edit(self, prompt: str, **given: Any) -> int:
        return await self.send_call("edit_image", prompt=prompt, image_urls=[PICTURE], **given)

    async def edit(self, prompt: str, **given: Any) -> dict[str, Any]:
        return await self.answer(await self.send_edit(prompt, **given))

    async def resource(self, uri: str) -> Any:
        """The JSON of a resource."""
        [content] = (await self.ask("resources/read", uri=uri))["contents"]
        return json.loads(content["text"])

    async def kill(self) -> None:
        """SIGKILL: nothing of it goes on."""
        self._process.kill()
        with anyio.fail_after(10):
            await self._process.wait()

    async def stop(self) -> None:
        """As a host stops a server: its stdin ends."""
        await self._stdin.aclose()
        with anyio.fail_after(ANSWERED_WITHIN):
            await self._process.wait()

    async def terminate(self) -> None:
        """As a service manager stops a server."""
        self._process.terminate()
        with anyio.fail_after(ANSWERED_WITHIN):
            await self._process.wait()

    async def _write(self, message: Mapping[str, Any]) -> None:
        line = json.dumps({"jsonrpc": "2.0", **message})
        with anyio.fail_after(10):
            await self._stdin.send(line.encode() + b"\n")


async def start(values: Mapping[str, str]) -> Server:
    """A server process, ready to be called."""
    command = [sys.executable, "-m", "wan25_mcp", "serve"]
    process = await anyio.open_process(command, env=environment(**values), stderr=None)
    server = Server(process)
    await server.greet()
    return server


async def end(server: Server) -> None:
    """Whatever state it is in, it is gone and its pipes are closed."""
    with anyio.CancelScope(shield=True), anyio.move_on_after(10):
        if server._process.returncode is None:
            server._process.kill()
        await server._process.aclose()


@asynccontextmanager
async def serving(values: Mapping[str, str]) -> AsyncIterator[Server]:
    """A server process while the block runs."""
    server = await start(values)
    try:
        yield server
    finally:
        await end(server)


@asynccontextmanager
async def listening(values: Mapping[str, str]) -> AsyncIterator[str]:
    """A server process over Streamable HTTP; its address."""
    command = [sys.executable, "-m", "wan25_mcp", "serve", "--transport", "streamable-http"]
    process = await anyio.open_process([*command, "--port", "0"], env=environment(**values))
    try:
        assert process.stderr
        reported = b""
        with anyio.fail_after(ANSWERED_WITHIN):
            while not (found := re.search(rb"Serving MCP at (\S+)\n", reported)):
                reported += await process.stderr.receive()
        yield found.group(1).decode()
    finally:
        with anyio.CancelScope(shield=True), anyio.move_on_after(10):
            process.kill()
            await process.aclose()


# --- the journal, seen and touched from outside ----------------------------------------------


class Books:
    """The tables of a journal, read and written past the program."""

    def __init__(self, place: Path | str) -> None:
        self._place = place

    def rows(self, statement: str, *values: Any) -> list[dict[str, Any]]:
        """What a statement finds; nothing while there are no tables."""
        with closing(self._connect()) as connection:
            try:
                cursor = connection.execute(self._worded(statement), values)
            except (sqlite3.OperationalError, psycopg.errors.UndefinedTable) as error:
                if "wan25_" not in str(error):
                    raise
                return []
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

    def execute(self, statement: str, *values: Any) -> int:
        """Change something; how many rows. Nothing where there are no tables."""
        with closing(self._connect()) as connection:
            try:
                count: int = connection.execute(self._worded(statement), values).rowcount
            except (sqlite3.OperationalError, psycopg.errors.UndefinedTable) as error:
                if "wan25_" not in str(error):
                    raise
                return 0
            connection.commit()
            return count

    def intents(self, prompt: str) -> list[dict[str, Any]]:
        return self.rows("SELECT * FROM wan25_account_intents WHERE prompt = ?", prompt)

    def let_leases_run_out(self, prompt: str) -> int:
        """The time passes after which a holder counts as dead."""
        return self.execute(
            "UPDATE wan25_account_intents SET lease_until = 1 "
            "WHERE stage IN ('intent', 'sending') AND prompt = ?",
            prompt,
        )

    def _connect(self) -> Any:
        if isinstance(self._place, str):
            return psycopg.connect(self._place, connect_timeout=10)
        if not self._place.exists():  # looking must not create it
            return sqlite3.connect(":memory:")
        return sqlite3.connect(self._place, timeout=5)

    def _worded(self, statement: str) -> Any:
        return statement if isinstance(self._place, Path) else statement.replace("?", "%s").encode()


async def until(what: str, true: Any, *, seconds: float = 15.0, every: float = 0.002) -> None:
    """Wait until something is true, looking often."""
    for _ in range(math.ceil(seconds / every)):
        if true():
            return
        await anyio.sleep(every)
    raise AssertionError(f"not within {seconds} s: {what}")


def charges(emulator: Emulator, prompt: str) -> list[str]:
    """The tasks the provider made of a prompt, each of which costs money."""
    return [
        submit.task_id or ""
        for submit in emulator.submits
        if submit.accepted and submit.body["prompt"] == prompt
    ]


def submits(emulator: Emulator, prompt: str) -> Sequence[Any]:
    return [submit for submit in emulator.submits if submit.body["prompt"] == prompt]
