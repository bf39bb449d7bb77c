"""The examples, and the README's, run as their readers run them. Each asserts its own outcome."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final

import httpx2
import pytest
from PIL import Image

from tests.programs import environment, served, with_picture

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENTS: Final = {
    path: path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
}
EXAMPLES: Final = ROOT / "examples"
DEADLINE: Final = 50.0

FRAMEWORK_PYTHON: Final = os.environ.get("WAN25_FRAMEWORK_PYTHON")
"""An interpreter with the agent framework, which cannot share ours; `.ci/run` makes one."""


def run(arguments: Sequence[str], folder: Path = ROOT, **variables: str) -> str:
    """Run a program of ours to its end; its output."""
    done = subprocess.run(
        arguments,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        cwd=folder,
        env={**os.environ, **variables},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def command() -> str:
    """The command `wan25-mcp` of this environment."""
    return str(Path(sys.executable).with_name("wan25-mcp"))


def blocks(language: str) -> list[str]:
    """The code in a language that README and docs show."""
    text = "\n".join(DOCUMENTS[path] for path in _FOR_USERS)
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


PYTHON_PAGE: Final = re.findall(
    r"```python\n(.*?)```", DOCUMENTS[ROOT / "docs" / "python.md"], re.DOTALL
)
_FOR_USERS: Final = [ROOT / "README.md", ROOT / "docs" / "install.md"]


def test_the_mcp_client_reaches_its_outcome() -> None:
    assert run([sys.executable, "examples/plain_mcp_client.py"])


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., str]]:
    """Runs a program of ours in a folder with `house.jpg`, against an emulator."""
    folder = with_picture(tmp_path_factory.mktemp("program"))
    with Image.open(folder / "house.png") as picture:
        picture.save(folder / "house.jpg")
    with served(key=None) as emulator:
        yield lambda *arguments: run(
            [sys.executable, *arguments], folder, **environment(emulator, folder)
        )


def test_a_local_file_is_edited(program: Callable[..., str]) -> None:
    said = program(str(EXAMPLES / "local_file.py"), "house.jpg", "Make it night")
    assert "Charged: yes" in said


@pytest.mark.thorough
def test_a_folder_is_edited(program: Callable[..., str], tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        with_picture(tmp_path).joinpath("house.png").rename(tmp_path / name)
    tmp_path.joinpath("c.png").write_bytes(b"no image")
    said = program(str(EXAMPLES / "batch.py"), str(tmp_path), "Make it night", "edited")
    assert said.startswith("3 images, about 4.5 credits\n")
    assert said.endswith("2 edited, 1 failed\n")
    assert re.search(r'^c\.png: .*"c\.png"', said, re.MULTILINE)


NOTEBOOK: Final = """
import asyncio, json, sys
cells = json.load(open(sys.argv[1]))["cells"]
found = {}
async def in_a_running_loop():  # as a notebook has one
    for cell in cells:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), found)
asyncio.run(in_a_running_loop())
"""


@pytest.mark.thorough
def test_the_cells_of_the_notebook_run(program: Callable[..., str]) -> None:
    said = program("-c", NOTEBOOK, str(EXAMPLES / "notebook.ipynb"))
    assert said.count("edited/") == 3
    assert said.endswith("credits left\n")
    cells = json.loads((EXAMPLES / "notebook.ipynb").read_text("utf-8"))["cells"]
    assert not any(cell.get("outputs") for cell in cells)  # they would be out of date


@pytest.mark.thorough
def test_a_web_application_shows_progress(tmp_path: Path) -> None:
    with_picture(tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    at = f"http://127.0.0.1:{port}"
    with served(run_seconds=400.0) as emulator:
        web = subprocess.Popen(
            [sys.executable, "examples/web_progress.py", str(port)],
            cwd=ROOT,
            env={**os.environ, **environment(emulator, tmp_path)},
        )
        try:
            transport = httpx2.HTTPTransport(retries=10)
            with httpx2.Client(base_url=at, transport=transport, timeout=30) as visitor:
                wrong = visitor.post("/edits", data={"prompt": "Make it night"})
                with (tmp_path / "house.png").open("rb") as image:
                    form = {"prompt": "Make it night"}
                    sent = visitor.post("/edits", data=form, files={"image": image})
                shown = visitor.get(f"/edits/{sent.json()['task_id']}").text
        finally:
            web.terminate()
            web.wait(10)
    assert (wrong.status_code, wrong.json()["charged"]) == (400, "no")
    assert sent.status_code == 202
    events = [json.loads(line[6:]) for line in shown.splitlines() if line]
    assert len(events) > 1
    assert (events[-1]["status"], len(events[-1]["image_urls"])) == ("completed", 1)


@pytest.mark.skipif(not FRAMEWORK_PYTHON, reason="WAN25_FRAMEWORK_PYTHON names no interpreter")
def test_an_agent_framework_edits_an_image_with_our_tools() -> None:
    said = run([FRAMEWORK_PYTHON or "", "examples/agent_framework.py", command()])
    assert "Status: completed" in said


def test_every_example_is_run() -> None:
    source = Path(__file__).read_text("utf-8")
    named = set(re.findall(r'"(?:examples/)?(\w+\.(?:py|ipynb))"', source))
    shown = {path.name for path in EXAMPLES.iterdir() if path.suffix in (".py", ".ipynb")}
    assert shown == named


def test_the_readmes_python_runs_as_it_stands(program: Callable[..., str]) -> None:
    (code,) = blocks("python")
    assert re.match(r"completed yes /\S+\n$", program("-c", code))


def test_the_code_on_the_page_about_python_runs(program: Callable[..., str]) -> None:
    whole, *others = PYTHON_PAGE
    assert program("-c", whole).endswith(" yes\n")
    functions = [
        f"async def block_{number}():\n{textwrap.indent(code, '    ')}"
        for number, code in enumerate(others)
    ]
    calls = "\n".join(f"    await block_{number}()" for number in range(len(functions)))
    main = f"import anyio\nasync def main():\n{calls}\nanyio.run(main)"
    said = program("-c", "\n".join([*functions, main]))
    assert "Did you mean" in said  # of the example with an error
