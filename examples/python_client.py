"""Edit an image from Python, without MCP: first with the editor, then with the bare client.

    python examples/python_client.py

Needs no key: it starts an emulator of the provider. For real edits leave out `WAN25_EMULATOR`, set
`WAN25_API_KEY`, and pass links of your own.
"""

from __future__ import annotations

import tempfile

import anyio
from pydantic import SecretStr

from wan25_mcp import Client, EditRequest, Refused, Settings, open_configured_editor, open_http
from wan25_mcp.emulator import Emulator, EmulatorOptions
from wan25_mcp.provider.statuses import is_settled

REQUEST = EditRequest(
    prompt="Replace the background with a starry sky; keep the house unchanged.",
    image_urls=("https://example.com/house.jpg",),
    n=2,
)


async def with_the_editor(settings: Settings) -> None:
    """The editor submits once, waits, and reports whether you were charged."""
    async with open_configured_editor(settings) as editor:
        edit = await editor.edit(REQUEST)
        assert edit.task_id is not None, edit.error
        edit = await editor.wait(edit.task_id, timeout=60)
        assert edit.error is None, edit.error
        assert edit.status == "completed"
        assert edit.charged == "yes"
        assert len(edit.image_urls) == 2
        print("editor:", edit.task_id, *edit.image_urls)


async def with_the_editor_when_it_is_refused(settings: Settings) -> None:
    """A refused edit is an error that says what to do, and what it cost."""
    async with open_configured_editor(settings) as editor:
        # Without `force_new` this repeats the edit above, and returns it at no charge.
        edit = await editor.edit(REQUEST, force_new=True)
        assert isinstance(edit.error, Refused), edit
        assert edit.charged == "no"
        print("refused:", edit.error, "To do:", edit.error.fix)


async def with_the_client(base_url: str) -> None:
    """The client has one method for each endpoint, and no policy: you decide when to poll."""
    async with open_http() as http:
        client = Client(http, base_url=base_url, key=SecretStr("any key opens the emulator"))
        task = await client.submit(REQUEST, idempotency_key="example-1")
        while not is_settled(task.status):
            await anyio.sleep(0.5)
            task = await client.query(task.id)
        assert task.status == "completed"
        report = await client.credits()
        assert report.user is not None
        print("client:", task.id, task.usage, "left:", report.user.remaining_credits)


async def main() -> None:
    # The links are made up, so the emulator edits a picture of its own instead of theirs.
    options = EmulatorOptions(key=None, speed=20, check_images=False, balance=4)
    emulator = Emulator(options)
    with tempfile.TemporaryDirectory() as folder:  # keeps the example's journal apart from yours
        await edit_in_three_ways(emulator, folder)


async def edit_in_three_ways(emulator: Emulator, folder: str) -> None:
    async with emulator.serving():
        settings = Settings.from_mapping(
            {"WAN25_EMULATOR": emulator.base_url, "WAN25_DATA_DIR": folder}
        )
        await with_the_editor(settings)
        await with_the_editor_when_it_is_refused(settings)
        emulator.ledger.deposit(10)
        await with_the_client(emulator.base_url)


if __name__ == "__main__":
    anyio.run(main)
