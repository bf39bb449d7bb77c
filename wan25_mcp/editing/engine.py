"""The edits of one process, for any number of accounts.

Accounts share what a process has once: the journal, the connections to the provider, the memory
for images, and the limits on concurrent polls and downloads. Everything else belongs to one account
(`LiveAccount`), so that nothing leaks between accounts.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
from anyio.abc import TaskGroup, TaskStatus

from wan25_mcp.editing.account import Account
from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.background import prune_daily, run_rounds
from wan25_mcp.editing.live_account import LiveAccount
from wan25_mcp.editing.options import Connect, Connection, Connector, OpenJournal, Options
from wan25_mcp.editing.shared import Shared
from wan25_mcp.inputs.prepare import ImagePreparer


class Engine:
    """Makes editors for accounts. Make one with `open_engine`."""

    def __init__(
        self, connect: Connect, open_journal: OpenJournal, tasks: TaskGroup, options: Options
    ) -> None:
        self._connect = connect
        self._open_journal = open_journal
        self._tasks = tasks
        self._options = options
        self._preparer = ImagePreparer(options.input_dirs, run=options.run)
        self._held: tuple[Shared, Connector] | None = None
        self._accounts: dict[Account, LiveAccount] = {}
        self._opening = anyio.Lock()

    def editor(self, account: Account) -> AccountEditor:
        """An editor for an account. Nothing is opened or checked before it is first used."""

        async def open_account() -> LiveAccount:
            return await self._opened(account)

        return AccountEditor(open_account, self._preparer, self._tasks, self._options)

    async def finish(self) -> None:
        """Wait for the task ids of submits on the wire; the others are journaled as unknown."""
        async with anyio.create_task_group() as tasks:
            for account in self._accounts.values():
                tasks.start_soon(account.submitter.finish)

    async def _opened(self, account: Account) -> LiveAccount:
        """The account in use in this process.

        Raises:
            SettingsError: The provider cannot be reached with these settings, or this key.
        """
        async with self._opening:
            if account not in self._accounts:
                if self._held is None:
                    self._held = await self._tasks.start(self._hold)
                shared, connector = self._held
                opened = LiveAccount(account, connector(account), shared)
                self._tasks.start_soon(opened.poller.run)
                if self._options.background:
                    self._tasks.start_soon(run_rounds, opened)
                self._accounts[account] = opened
            return self._accounts[account]

    async def _hold(self, *, task_status: TaskStatus[tuple[Shared, Connector]]) -> None:
        """Hold the connections open in one task, from first use until the engine is closed."""
        async with self._connect() as connector:
            journal = await self._open_journal()
            task_status.started((Shared(journal, self._tasks, self._options), connector))
            if self._options.background:
                await prune_daily(journal, self._options.clock)
            await anyio.sleep_forever()


@asynccontextmanager
async def open_engine(
    connect: Connect, open_journal: OpenJournal, options: Options | None = None
) -> AsyncIterator[Engine]:
    """An engine for as long as the block runs. Opening it has no side effects.

    Args:
        connect: Opens the connections to the provider; called at first use.
        open_journal: Opens the journal; called at first use.
    """
    async with open_tasks() as tasks:
        engine = Engine(connect, open_journal, tasks, options or Options())
        try:
            yield engine
        finally:
            with anyio.CancelScope(shield=True):
                await engine.finish()


@asynccontextmanager
async def open_tasks() -> AsyncIterator[TaskGroup]:
    """A task group for as long as the block runs, whose tasks are then cancelled."""
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        try:
            yield tasks
        except Exception as error:  # noqa: BLE001  raised again below, outside the task group
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:  # bare, not in the exception group that a task group wraps it in
        raise failure


@asynccontextmanager
async def open_editor(
    connect: Callable[[], AbstractAsyncContextManager[Connection]],
    open_journal: OpenJournal,
    options: Options | None = None,
    account: Account | None = None,
) -> AsyncIterator[AccountEditor]:
    """An editor for one account, for as long as the block runs. Opening it has no side effects.

    Args:
        connect: Opens the connection to the provider; called at first use.
        open_journal: Opens the journal; called at first use.
    """

    @asynccontextmanager
    async def connect_one() -> AsyncIterator[Connector]:
        async with connect() as connection:
            yield lambda _: connection

    async with open_engine(connect_one, open_journal, options) as engine:
        yield engine.editor(account or Account())
