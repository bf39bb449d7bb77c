"""The file service of the configured API is found with one free read, and the key goes nowhere
else."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import httpx2
import pytest
from pydantic import SecretStr

from tests.emulator_lab import Emulator
from tests.stage import KEY, virtual
from wan25_mcp.errors import NotPublished, Refused
from wan25_mcp.inputs.discovery import FileServiceSearch, known_file_service
from wan25_mcp.inputs.file_service import FileService
from wan25_mcp.inputs.publisher import Publisher
from wan25_mcp.provider.dashboard import dashboard_of

pytestmark = pytest.mark.anyio

BASE: Final = "https://api.example/apiv1"
BELOW: Final = f"{BASE}/api/v1/files/quota"
ROOT: Final = "https://api.example/api/v1/files/quota"
QUOTA: Final = {
    "success": True,
    "code": 200,
    "data": {"user_group": "default", "used_files": 35, "max_files": 2000, "remain_files": 1965},
}
PATIENCE: Final = 3.0
Answer = Callable[[httpx2.Request], Any]


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> Any:
    return virtual(request.param)


class World:
    """Answers by address; 404 in the API's own form to everything else."""

    def __init__(self, **answers: Any) -> None:
        self.answers = {BELOW: answers.get("below"), ROOT: answers.get("root")}
        self.seen: list[httpx2.Request] = []

    async def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.seen.append(request)
        answer = self.answers.get(str(request.url))
        if isinstance(answer, float):
            await anyio.sleep(answer)
            answer = QUOTA
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, httpx2.Response):
            return httpx2.Response(
                answer.status_code, headers=answer.headers, content=answer.read()
            )
        if answer is not None:
            return httpx2.Response(200, json=answer)
        error = {"code": 404, "message": "Not found", "type": "not_found_error"}
        return httpx2.Response(404, json={"error": error})


@asynccontextmanager
async def searching(
    world: World, *keys: str, base: str = BASE
) -> AsyncIterator[list[FileServiceSearch]]:
    async with httpx2.AsyncClient(transport=httpx2.MockTransport(world)) as http:

        def at(key: SecretStr) -> Callable[[str], Publisher]:
            return lambda url: FileService(http, url=url, key=key, clock=lambda: 0.0)

        secrets = [SecretStr(key) for key in keys or (KEY,)]
        yield [
            FileServiceSearch(http, base_url=base, key=key, publisher_at=at(key)) for key in secrets
        ]


async def found_in(world: World, *, patience: float = PATIENCE) -> str | None:
    """The place that is found. The key was sent to the API's origin only."""
    async with searching(world) as [search]:
        try:
            publisher = await search.find(patience)
        finally:
            assert {str(request.url) for request in world.seen} == {BELOW, ROOT}
            assert len(world.seen) == 2
            assert {request.method for request in world.seen} == {"GET"}
            assert {r.headers["authorization"] for r in world.seen} == {f"Bearer {KEY}"}
    return publisher.place if publisher else None


async def test_it_is_found_below_the_base_path_and_at_the_root() -> None:
    assert await found_in(World(below=QUOTA)) == f"file service {BASE}"
    assert await found_in(World(root=QUOTA)) == "file service https://api.example"
    assert await found_in(World(below=QUOTA, root=QUOTA)) == f"file service {BASE}"


async def test_an_api_without_a_path_is_asked_once() -> None:
    world = World(root=QUOTA)
    async with searching(world, base="https://api.example/") as [search]:
        publisher = await search.find(PATIENCE)
    assert publisher is not None
    assert publisher.place == "file service https://api.example"
    assert [str(request.url) for request in world.seen] == [ROOT]


async def test_an_api_without_one_is_remembered() -> None:
    world = World()
    async with searching(world) as [search]:
        assert [await search.find(PATIENCE) for _ in range(3)] == [None, None, None]
    assert len(world.seen) == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_no_redirect_is_followed_with_the_key(status: int) -> None:
    away = httpx2.Response(status, headers={"location": "https://elsewhere.example/quota"})
    assert await found_in(World(below=away, root=away)) is None


PAGE = httpx2.Response(200, text="<html>Welcome</html>", headers={"content-type": "text/html"})


@pytest.mark.parametrize(
    "answer",
    [
        PAGE,
        httpx2.Response(200, text=""),
        httpx2.Response(200, text="[" * 2000),
        httpx2.Response(200, text=" " * 200_000),
        httpx2.Response(401, text="<html>Log in</html>"),
        httpx2.Response(401, json={"success": False, "message": "not logged in"}),
        httpx2.Response(403, json={"error": "forbidden"}),
        httpx2.Response(401, json={"error": {"message": "Invalid token"}}),
        httpx2.Response(405),
        {"success": True},
        {"success": True, "data": []},
        {"success": True, "data": {"max_files": True}},
        {"success": True, "data": {"used_bytes": 1, "quota_bytes": 2}},
        {"success": False, "code": 404, "msg": "no such address"},
        QUOTA | {"success": "true"},
        [QUOTA],
    ],
    ids=lambda answer: repr(answer)[:40],
)
async def test_a_root_that_is_another_application_is_no_file_service(answer: Any) -> None:
    assert await found_in(World(root=answer)) is None
    assert await found_in(World(root=answer, below=QUOTA)) == f"file service {BASE}"


@pytest.mark.parametrize(
    "trouble",
    [
        httpx2.ReadError("reset"),
        httpx2.ConnectError("no route"),
        httpx2.RemoteProtocolError("closed"),
        httpx2.Response(429),
        httpx2.Response(502, text="<html>"),
        httpx2.Response(503, json={"error": {"message": "busy"}}),
        {"success": False, "code": 500, "msg": "try again"},
        1000.0,
    ],
    ids=lambda trouble: repr(trouble)[:40],
)
async def test_what_a_failure_hides_is_asked_again_by_the_next_call(trouble: Any) -> None:
    world = World(root=trouble)
    is_away = isinstance(trouble, httpx2.ConnectError)
    began = anyio.current_time()
    async with searching(world) as [search]:
        for _ in range(2):
            with pytest.raises(NotPublished) as failure:
                await search.find(PATIENCE)
            code = "unreachable" if is_away else "image_host_unknown"
            assert (failure.value.code, failure.value.retryable) == (code, True)
            assert failure.value.charged == "no"
        assert anyio.current_time() - began <= 2 * PATIENCE
        world.answers[ROOT] = QUOTA
        assert await search.find(PATIENCE) is not None
        assert await search.find(PATIENCE) is not None
    assert len(world.seen) == 6


async def test_an_address_that_never_answers_does_not_hide_the_other() -> None:
    began = anyio.current_time()
    assert await found_in(World(below=1000.0, root=QUOTA)) == "file service https://api.example"
    assert anyio.current_time() - began <= PATIENCE


async def test_a_patient_caller_waits_longer_but_not_for_ever() -> None:
    assert await found_in(World(root=10.0), patience=3600) == "file service https://api.example"
    began = anyio.current_time()
    with pytest.raises(NotPublished):
        await found_in(World(root=1000.0), patience=3600)
    assert anyio.current_time() - began <= 20


@pytest.mark.parametrize(
    "answers",
    [
        {"below": httpx2.Response(401, json={"error": {"message": "Invalid key"}})},
        {"root": httpx2.Response(401, json={"success": False, "code": 401, "msg": "Invalid key"})},
        {"root": {"success": False, "code": 401, "msg": "Invalid key"}},
    ],
)
async def test_a_key_that_is_not_accepted_is_said_and_not_remembered(answers: Any) -> None:
    with pytest.raises(Refused) as refusal:
        await found_in(World(**answers))
    assert (refusal.value.code, refusal.value.charged) == ("authentication", "no")
    assert KEY not in f"{refusal.value.message} {refusal.value.fix}"
    assert dashboard_of(BASE) in refusal.value.fix


async def test_each_account_asks_with_its_own_key_and_once() -> None:
    world = World(root=1.0)
    async with searching(world, "one", "two") as searches:
        async with anyio.create_task_group() as tasks:
            for search in searches * 3:
                tasks.start_soon(search.find, PATIENCE)
        places = [await search.find(PATIENCE) for search in searches]
    assert places[0] is not places[1]
    keys = sorted(request.headers["authorization"] for request in world.seen)
    assert keys == ["Bearer one", "Bearer one", "Bearer two", "Bearer two"]


async def test_a_caller_who_leaves_does_not_spoil_it_for_the_next() -> None:
    async with searching(World(root=2.0)) as [search]:
        with anyio.move_on_after(1.0):
            await search.find(PATIENCE)
        assert await search.find(PATIENCE) is not None


async def test_the_emulators_own_is_found_at_its_origin() -> None:
    emulator = Emulator(key=KEY)
    async with (
        emulator.running(),
        httpx2.AsyncClient(transport=emulator.transport()) as http,
    ):

        def at(url: str) -> Publisher:
            return FileService(http, url=url, key=SecretStr(KEY), clock=lambda: 0.0)

        search = FileServiceSearch(
            http, base_url=emulator.base_url, key=SecretStr(KEY), publisher_at=at
        )
        publisher = await search.find(PATIENCE)
        assert publisher is not None
        assert publisher.place == f"file service {emulator.files_url}"
        wrong = FileServiceSearch(
            http, base_url=emulator.base_url, key=SecretStr("wrong"), publisher_at=at
        )
        with pytest.raises(Refused):
            await wrong.find(PATIENCE)


@pytest.mark.parametrize(
    ("base", "service"),
    [
        ("https://api.evolink.ai", "https://files-api.evolink.ai"),
        ("https://API.evolink.ai:443/v9/", "https://files-api.evolink.ai"),
        ("http://api.evolink.ai", None),
        ("https://api.evolink.ai.example", None),
        ("https://api.evolink.ai:8443", None),
        ("https://ai.odkkk.com/apiv1", None),
    ],
)
async def test_a_known_api_has_a_known_service(base: str, service: str | None) -> None:
    assert known_file_service(base) == service
