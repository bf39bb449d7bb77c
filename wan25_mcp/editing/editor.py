"""The Python API: `Editor`, and `edit` for a single edit.

An error that is raised is always a `Wan25Error`. If an edit came to nothing, its `edit` attribute
has what is known of it, so that a task id is never lost.
"""

from __future__ import annotations

import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import replace
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup
from pydantic import SecretStr

from wan25_mcp.editing import program_calls as calls
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.batch import Batch
from wan25_mcp.editing.connect import account_of, open_configured_engine
from wan25_mcp.editing.edit import Edit, PastEdit, Price, Progress
from wan25_mcp.editing.editor_settings import Passed
from wan25_mcp.editing.engine import open_tasks
from wan25_mcp.editing.handing_over import Handed, HandOver
from wan25_mcp.editing.python_words import closed, not_open, python_words, spoken_edit
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.given import Images
from wan25_mcp.journal import Spent
from wan25_mcp.provider.catalogue import MODEL, ModelName
from wan25_mcp.provider.exchange import check_http
from wan25_mcp.provider.models import MAX_IMAGES_OUT
from wan25_mcp.settings import Settings

if TYPE_CHECKING:
    import httpx2

MAX_AT_ONCE: Final = 1000
MAX_LISTED: Final = 10_000


class Editor:
    """Edits images. Open it with `async with`, for as long as edits should be followed.

    Everything is optional: without arguments, the settings are those of the command, from the
    environment and the key that `wan25-mcp key set` keeps.

    Args:
        key: The provider's API key.
        base_url: Base URL of the API, path included.
        output: The folder where finished images are saved; made if there is none.
        save: Whether they are saved.
        http: An HTTP client for the provider's calls, as `open_http` makes it; you close it.
        emulator: True: the built-in emulator plays the provider, without a key. A URL: an emulator
            already running. False: the provider, whatever `WAN25_EMULATOR` says.
        settings: `Settings`, or a mapping with WAN25_ names, in place of the environment.

    Raises:
        SettingsError: An argument is of the wrong type, or `http` is not safe for paid edits.
    """

    def __init__(
        self,
        *,
        key: str | SecretStr | None = None,
        base_url: str | None = None,
        output: str | os.PathLike[str] | None = None,
        save: bool | None = None,
        http: httpx2.AsyncClient | None = None,
        emulator: bool | str | None = None,
        settings: Settings | Mapping[str, str] | None = None,
    ) -> None:
        self._passed = Passed(
            key=key, base_url=base_url, output=output, save=save, emulator=emulator,
            settings=settings,
        )  # fmt: skip
        self._http = None if http is None else check_http(http)
        self._open: tuple[AsyncExitStack, AccountEditor, TaskGroup] | None = None
        self._calls: set[anyio.CancelScope] = set()

    async def __aenter__(self) -> Self:
        """Open it. Nothing is sent.

        Raises:
            SettingsError: A setting is invalid.
            InvalidRequest: It is open already.
        """
        with python_words():
            if self._open is not None:
                raise InvalidRequest(
                    "This editor is open already.", fix="Make another one, or use this one."
                )
            settings = await anyio.to_thread.run_sync(self._passed.read)
            async with AsyncExitStack() as stack:
                engine = await stack.enter_async_context(
                    open_configured_engine(settings, http=self._http)
                )
                tasks = await stack.enter_async_context(open_tasks())
                editor = engine.editor(account_of(settings))
                self._open = (stack.pop_all(), editor, tasks)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close it: what runs at the provider continues, and its task ids are in the journal."""
        if self._open is None:
            return
        stack, self._open = self._open[0], None
        for call in list(self._calls):
            call.cancel()
        await stack.__aexit__(kind, error, traceback)

    # --- edits ------------------------------------------------------------------------------

    async def edit(
        self, images: Images, prompt: str, *, n: int = 1, model: ModelName = MODEL,
        callback_url: str | None = None, force_new: bool = False,
        duplicate_window: float | None = None, wait: bool = True, timeout: float | None = None,
    ) -> Edit:  # fmt: skip
        """Edit one image, or combine two. Costs credits for each result image.

        Cancelling this call, or its timeout, changes nothing about the edit: `get`, `wait` and
        `follow` find it again.

        Args:
            images: One image or two: a path, a public link, a `file:` or `data:` URI, the bytes
                of an image's file, or a PIL image. The last one sets the aspect of the result.
            prompt: What to change.
            n: How many result images, 1 to 4.
            model: The model that makes them.
            callback_url: A public https link that the provider posts the finished task to.
            force_new: Make, and pay for, another edit even if there is an identical one.
            duplicate_window: Seconds within which an identical edit is returned at no charge;
                None: as configured, usually 600.
            wait: Whether to wait until it is settled and saved; if not, until it is accepted.
            timeout: Seconds to wait at most, in both cases; None: as long as it takes.

        Returns:
            The edit: completed, or still running if `wait` is False or the time was up.

        Raises:
            Wan25Error: Nothing comes of it: refused, failed, or of unknown outcome. The error's
                `charged` says what it cost, and its `edit` what is known of it.
        """
        options = {
            "prompt": prompt, "n": n, "model": model, "callback_url": callback_url,
            "force_new": force_new, "duplicate_window": duplicate_window, "wait": wait,
            "timeout": timeout,
        }  # fmt: skip
        with self._call() as editor:
            return await calls.started(editor, images, options)

    async def wait(self, edit: Edit | str, *, timeout: float | None = None) -> Edit:
        """Wait until an edit is settled and its results are saved.

        Args:
            edit: An edit, or its task id, also of an edit that another program made.
            timeout: Seconds to wait at most; None: as long as it takes.

        Returns:
            The edit: completed, or still running if the time was up.

        Raises:
            Wan25Error: As `edit`.
        """
        with self._call() as editor:
            patience = math.inf if timeout is None else calls.seconds("timeout", timeout)
            until = anyio.current_time() + patience
            return calls.outcome(await calls.settled(editor, calls.known(edit), until))

    async def get(self, edit: Edit | str) -> Edit:
        """An edit as it is now, polled at most every 2 seconds. Its `error` says what went wrong.

        Args:
            edit: An edit, or its task id, also of an edit that another program made.
        """
        with self._call() as editor:
            return spoken_edit(await editor.get(calls.known(edit)))

    def follow(self, edit: Edit | str) -> AsyncIterator[Progress]:
        """The progress of an edit, at least every 5 seconds until it is settled.

        The last one has the settled edit with its saved results, or with its `error`: that is not
        raised. Leaving the loop changes nothing about the edit.

        Args:
            edit: An edit, or its task id, also of an edit that another program made.
        """

        async def produce(hand_over: HandOver[Progress]) -> None:
            with self._call() as editor:
                await calls.followed(editor, calls.known(edit), hand_over)

        return Handed(self._group, produce, closed)

    def edit_many(
        self,
        requests: Iterable[Mapping[str, object]] | AsyncIterable[Mapping[str, object]],
        *,
        limit: int = 3,
    ) -> AsyncIterator[Edit]:
        """Make many edits, `limit` at a time; yields each when it is settled and saved.

        Each edit has the place of its request as `index`. One that comes to nothing has an `error`
        and stops none of the others. Requests are taken as they are needed, so they may be made
        while edits run. Leaving the loop starts no more edits; those that were sent continue.

        Args:
            requests: Mappings with the arguments of `edit`: `images`, `prompt`, and its options.
            limit: How many edits run at the same time.
        """
        with python_words():
            batch = Batch(
                partial(calls.attempted, self._call),
                requests,
                calls.whole_number("limit", limit, 1, MAX_AT_ONCE),
            )
            return Handed(self._group, batch.run, closed)

    # --- results, history, cost -------------------------------------------------------------

    async def save(self, edit: Edit | str) -> Edit:
        """Save a completed edit's images, however long that takes; returns it with the files."""
        with self._call() as editor:
            return spoken_edit(await editor.save(await calls.completed(editor, edit)))

    async def image(self, edit: Edit | str, number: int = 1) -> bytes:
        """The bytes of an image of a completed edit, numbered from 1: from disk, or by its link.

        Raises:
            InvalidRequest: There is no such image.
            NotDownloaded: It is not on disk, and its link returns none.
        """
        with self._call() as editor:
            found = await calls.completed(editor, edit)
            return await editor.image(found, calls.whole_number("number", number, 1))

    async def recent(self, limit: int = 20) -> list[PastEdit]:
        """The latest edits of this account, newest first, as last seen. Free, and works offline.

        Raises:
            JournalUnusable: The journal cannot be read.
        """
        with self._call() as editor:
            past = await editor.recent(calls.whole_number("limit", limit, 1, MAX_LISTED))
            return [replace(each, edit=spoken_edit(each.edit)) for each in past]

    async def price(self, n: int = 1, model: ModelName = MODEL) -> Price:
        """What an edit of `n` images will probably cost. Raises as `recent`."""
        with self._call() as editor:
            count = calls.whole_number("n", n, 1, MAX_IMAGES_OUT)
            return await editor.price(count, calls.model_name(model))

    async def spent(self, period: float) -> Spent:
        """What edits of the last seconds cost; 30 days are known. Raises as `recent`."""
        with self._call() as editor:
            return await editor.spent(calls.seconds("period", period))

    async def credits(self) -> float | None:
        """The credits left; None if the provider does not say. Free.

        Raises:
            Wan25Error: The provider could not be asked.
        """
        with self._call() as editor:
            report = await (await editor.connection()).client.credits()
            balance = report.user or report.token
            return balance.remaining_credits if balance else None

    @contextmanager
    def _call(self) -> Iterator[AccountEditor]:
        """For as long as a call runs: it ends when the editor is closed."""
        with python_words():
            editor = self._opened()[1]
            with anyio.CancelScope() as scope:
                self._calls.add(scope)
                try:
                    yield editor
                finally:
                    self._calls.discard(scope)
            if scope.cancelled_caught:
                raise closed()

    def _group(self) -> TaskGroup:
        with python_words():
            return self._opened()[2]

    def _opened(self) -> tuple[AsyncExitStack, AccountEditor, TaskGroup]:
        if self._open is None:
            raise not_open("is not open")
        return self._open
