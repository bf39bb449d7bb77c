"""Starting an edit: claim its intent and send it, or return what an identical call started."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import anyio

from wan25_mcp.editing.callbacks import CallbackAddress, new_address
from wan25_mcp.editing.edit import Edit, seen, unseen
from wan25_mcp.editing.live_account import HANDLE_PREFIX, LiveAccount, is_open
from wan25_mcp.editing.submitter import LEASE_SECONDS
from wan25_mcp.editing.waiting import OnProgress, until_ended
from wan25_mcp.errors import TaskFailed, Wan25Error
from wan25_mcp.inputs.prepare import EditInput, ImagePreparer, Local, PreparedRequest
from wan25_mcp.inputs.publisher import Announced, Publisher
from wan25_mcp.journal import Claim, ClaimRequest, Intent, fingerprint
from wan25_mcp.outputs.previews import make_previews

logger: Final = logging.getLogger(__name__)


class Start:
    """The start of one edit.

    Args:
        on_upload: Called with the name of each image whose upload begins.
    """

    def __init__(
        self,
        account: LiveAccount,
        preparer: ImagePreparer,
        wanted: EditInput,
        on_upload: Callable[[str], None] | None = None,
    ) -> None:
        self._account = account
        self._options = account.options
        self._preparer = preparer
        self._wanted = wanted
        self._handle = HANDLE_PREFIX + uuid.uuid4().hex[:16]
        self._on_upload = on_upload
        self._publisher: Publisher | None = None
        self._callback: CallbackAddress | None = None

    async def edit(
        self,
        window: float | None,
        patience: float,
        on_progress: OnProgress | None = None,
        source: str | None = None,
    ) -> Edit:
        """The edit when its submit has ended, or after `patience` seconds. Raises as the editor.

        Args:
            window: Seconds that an identical earlier edit counts for; None: as configured.
        """
        until = anyio.current_time() + patience
        self._publisher = await self._image_host(patience)
        owner = await self._account.ownership.owner()
        # A cancelled call must not leave a claimed intent that nobody sends.
        with anyio.CancelScope(shield=True):
            claim = await self._claim(owner, window)
            self._account.results.name_after(source, claim.intent.handle)
            if not claim.deduplicated:
                submit = self._account.submitter.start(claim.intent, self._prepare)
        if claim.deduplicated:
            return await self._earlier(claim.intent, until)
        with anyio.CancelScope(deadline=until):
            await until_ended(submit, on_progress)
        intent = submit.intent
        edit = seen(submit.snapshot, intent) if submit.snapshot else unseen(intent)
        edit = replace(edit, notes=(*submit.changes, *edit.notes))
        return await self._account.with_times(edit)

    async def _image_host(self, patience: float) -> Publisher | None:
        """Where local images are uploaded to; None if there are none."""
        if all(isinstance(image, str) for image in self._wanted.images):
            return None
        host = await self._account.connection.image_host(patience)
        return host if self._on_upload is None else Announced(host, self._on_upload)

    def _callback_address(self) -> CallbackAddress | None:
        """The address for the provider's callback, unless the caller gave one of its own."""
        if self._options.callback_url is None or self._wanted.callback_url is not None:
            return None
        address = new_address(self._options.callback_url, self._handle)
        self._account.callbacks.note(self._handle, address)
        return address

    async def _claim(self, owner: str, window: float | None) -> Claim:
        self._callback = self._callback_address()
        wanted, account = self._wanted, self._account
        return await account.journal.claim(
            ClaimRequest(
                handle=self._handle,
                owner=owner,
                fingerprint=fingerprint(wanted.content()),
                n=wanted.n,
                prompt=wanted.prompt,
                holder=account.holder,
                callback=self._callback.digest if self._callback else None,
                address=account.connection.address,
                model=wanted.model,
            ),
            now=self._options.clock(),
            window=self._options.duplicate_window if window is None else window,
            lease=LEASE_SECONDS,
            allowance=account.allowance,
            refusal=account.submitter.refusal(),
        )

    async def _prepare(self) -> PreparedRequest:
        wanted = self._wanted
        if self._callback is not None:
            wanted = replace(wanted, callback_url=self._callback.url)
        prepared = await self._preparer.prepare(
            wanted,
            self._publisher,
            self._account.journal,
            owner=await self._account.ownership.owner(),
            now=self._options.clock(),
        )
        self._account.start_soon(self._keep_originals)
        return prepared

    async def _keep_originals(self) -> None:
        """Keep a small preview of each local image, to show it beside the result."""
        for number, image in enumerate(self._wanted.images, 1):
            if not isinstance(image, str):
                try:
                    await self._keep_original(number, image)
                except Wan25Error as error:  # the file is gone, or the journal unavailable
                    logger.info("No preview of image %d is kept: %s", number, error.message)

    async def _keep_original(self, number: int, image: Local) -> None:
        sketch = await self._preparer.sketch(image, self._wanted.model)
        [preview] = await make_previews([sketch], run=self._options.run)
        if preview is not None:
            owner, now = await self._account.ownership.owner(), self._options.clock()
            await self._account.journal.keep_input(owner, self._handle, number, preview, now=now)

    async def _earlier(self, intent: Intent, until: float) -> Edit:
        """The edit that an identical call started."""
        account, handle, edit = self._account, intent.handle, None
        with anyio.CancelScope(deadline=until):
            find = account.submitted if is_open(intent) else account.find_if_readable
            intent = await find(handle) or intent
            if intent.task_id is not None:
                edit = _as_last_seen(await account.poll(intent.task_id, intent))
        if edit is None:
            edit = unseen(intent) if intent.stage == "unknown" else await account.report(handle)
        patience = max(until - anyio.current_time(), 0.0)
        saved = await account.results.saved_soon(edit, patience=patience)
        return replace(await account.with_times(saved), deduplicated=True)


def _as_last_seen(edit: Edit) -> Edit:
    """An edit without the error of a failed poll, if an earlier poll showed its state."""
    if edit.status == "unknown" or isinstance(edit.error, TaskFailed):
        return edit
    return replace(edit, error=None)
