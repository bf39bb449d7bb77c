"""The messages of a client that probes for the newer protocol, or that closes while it waits."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.streams.memory import MemoryObjectSendStream
from mcp.shared.message import SessionMessage
from mcp_types import CONNECTION_CLOSED, INVALID_PARAMS, jsonrpc_message_adapter

from wan25_mcp.server.stdio_streams import HELD_SECONDS, Input, Message, Output

pytestmark = pytest.mark.anyio

PROBE = {"jsonrpc": "2.0", "id": 0, "method": "server/discover"}
INITIALIZE = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list"}
CANCEL = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 0}}
NOTE = {"jsonrpc": "2.0", "method": "notifications/initialized"}


def message(content: dict[str, Any]) -> SessionMessage:
    return SessionMessage(jsonrpc_message_adapter.validate_python(content, by_name=False))


@asynccontextmanager
async def stdin() -> AsyncIterator[tuple[MemoryObjectSendStream[Message], Input]]:
    send, receive = anyio.create_memory_object_stream[Message](10)
    async with send, Input(receive) as messages:
        yield send, messages


async def read(*sent: dict[str, Any]) -> list[Any]:
    """What is read of what was sent before stdin ended."""
    async with stdin() as (send, messages):
        for content in sent:
            await send.send(message(content))
        await send.aclose()
        return [one.message.method async for one in messages]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ([PROBE, INITIALIZE, LIST], ["initialize", "tools/list"]),
        ([NOTE, PROBE, NOTE, INITIALIZE], [NOTE["method"], NOTE["method"], "initialize"]),
        ([PROBE, CANCEL, INITIALIZE], ["initialize"]),
        ([PROBE, CANCEL, PROBE, INITIALIZE], ["initialize"]),
        ([PROBE, CANCEL, LIST], ["tools/list"]),
    ],
)
async def test_a_probe_that_its_sender_has_given_up_is_not_read(
    sent: list[dict[str, Any]], expected: list[str]
) -> None:
    assert await read(*sent) == expected


@pytest.mark.parametrize(
    "sent",
    [
        [PROBE],
        [PROBE, LIST],
        [PROBE, LIST, INITIALIZE],
        [PROBE, NOTE],
        [LIST, PROBE, INITIALIZE],  # only the first request decides the era
        [INITIALIZE, PROBE],
    ],
)
async def test_every_other_message_is_read_in_order(sent: list[dict[str, Any]]) -> None:
    assert await read(*sent) == [content["method"] for content in sent]


async def test_a_probe_waits_for_50_ms_at_most() -> None:
    async with stdin() as (send, messages):
        await send.send(message(PROBE))
        began = anyio.current_time()
        await messages.receive()
        assert anyio.current_time() - began == pytest.approx(HELD_SECONDS)


async def test_what_cannot_be_read_is_passed_on() -> None:
    async with stdin() as (send, messages):
        garbage = ValueError("no JSON")
        await send.send(garbage)
        await send.send(message(PROBE))
        await send.send(garbage)
        await send.send(message(INITIALIZE))
        assert await messages.receive() is garbage
        assert await messages.receive() is garbage


async def test_only_the_errors_about_a_closed_connection_are_not_written() -> None:
    send, receive = anyio.create_memory_object_stream[SessionMessage](10)
    async with receive, Output(send) as answers:
        for code in (CONNECTION_CLOSED, INVALID_PARAMS):
            error = {"code": code, "message": "no"}
            await answers.send(message({"jsonrpc": "2.0", "id": 1, "error": error}))
        await answers.send(message({"jsonrpc": "2.0", "id": 2, "result": {}}))
        await answers.aclose()
        written = [one.message.model_dump(exclude_none=True) async for one in receive]
    assert [one.get("error", {}).get("code") for one in written] == [INVALID_PARAMS, None]
