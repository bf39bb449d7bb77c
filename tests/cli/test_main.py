"""The command: its help, its exit statuses, what it prints where, and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest
from click.testing import CliRunner, Result

from tests.stage import environment, run, started, until
from wan25_mcp.cli.main import main
from wan25_mcp.emulator import Emulator
from wan25_mcp.emulator.pictures import sample
from wan25_mcp.settings import SETTINGS

KEY = "emulator-key"


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str | None]:
    """Nothing of the developer's settings; folders of the test's own."""
    return {
        **{variable.name: None for variable in SETTINGS},
        "WAN25_DATA_DIR": str(tmp_path / "data"),
        "WAN25_OUTPUT_DIR": str(tmp_path / "out"),
    }


def invoke(environ: dict[str, str | None], *arguments: str, **values: str) -> Result:
    """Run a command in this process, on an event loop of its own."""
    result = CliRunner().invoke(main, arguments, env=environ | values)
    assert result.exception is None or isinstance(result.exception, SystemExit)
    assert "Traceback" not in result.output
    return result


@dataclass
class Playing:
    """An emulator on a socket, in a thread of its own."""

    emulator: Emulator
    portal: Any

    def ask(self, method: str, *words: Any, **named: Any) -> Any:
        """Call the emulator in its own thread."""
        return self.portal.call(lambda: getattr(self.emulator, method)(*words, **named))


@contextmanager
def playing(**switches: Any) -> Iterator[Playing]:
    emulator = Emulator(**({"speed": 30.0, "run_seconds": 45.0} | switches))
    with (
        anyio.from_thread.start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(emulator.serving()),
    ):
        yield Playing(emulator, portal)


@pytest.fixture(scope="module")
def played() -> Iterator[Playing]:
    with playing(balance=1e6) as one:
        yield one


@pytest.fixture
def world(played: Playing, environ: dict[str, str | None]) -> dict[str, str | None]:
    """The environment of a command that works on the emulator."""
    played.emulator.faults.clear()
    played.emulator.fates.clear()
    return environ | {"WAN25_EMULATOR": played.emulator.base_url}


# --- help and usage --------------------------------------------------------------------------

COMMANDS = ["serve", "demo", "edit", "task", "tasks", "emulator", "doctor"]


def test_help_names_every_command() -> None:
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    listed = re.findall(r"^  (\w+) ", result.output.split("Commands:")[1], re.M)
    assert sorted(listed) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_each_command_explains_itself(command: str, flag: str) -> None:
    result = CliRunner().invoke(main, [command, flag])
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: main {command} ")
    assert max(map(len, result.output.splitlines())) <= 100
    for name in re.findall(r"^  (--\w+)", result.output, re.M):
        assert re.search(rf"^  .*{name}\b.*\S", result.output, re.M)


def test_the_version_is_the_package_s() -> None:
    result = CliRunner().invoke(main, ["--version"])
    assert re.fullmatch(r"wan25-mcp, version \d+\.\d+\.\d+\S*\n", result.output)


@pytest.mark.parametrize(
    "arguments",
    [
        ["no-such-command"],
        ["serve", "--transport", "carrier-pigeon"],
        ["serve", "--port", "70000"],
        ["serve", "--port", "x"],
        ["serve", "extra"],
        ["edit"],
        ["edit", "https://a.example/b.png"],
        ["edit", "--prompt", "p"],
        ["edit", "https://a.example/b.png", "--prompt", "p", "-n", "two"],
        ["task"],
        ["task", "a", "b"],
        ["tasks", "--most", "0"],
        ["demo", "/no/such/picture.png"],
        ["demo", "/"],
        ["emulator", "--speed", "0"],
        ["doctor", "now"],
        ["--no-such-flag"],
    ],
)
def test_wrong_usage_is_status_2_and_a_sentence(
    arguments: list[str], environ: dict[str, str | None]
) -> None:
    result = invoke(environ, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


BAD = {
    "WAN25_BASE_URL": "odkkk",
    "WAN25_DATA_DIR": "relative",
    "WAN25_DATABASE_URL": "mysql://hunter2@h/d",
    "WAN25_OUTPUT_DIR": "relative",
    "WAN25_SAVE": "sometimes",
    "WAN25_INPUT_DIRS": "relative",
    "WAN25_FILES_URL": "files",
    "WAN25_BUCKET_URL": "https://bucket",
    "WAN25_PREVIEW": "perhaps",
    "WAN25_WAIT_SECONDS": "soon",
    "WAN25_MAX_WAIT_SECONDS": "soon",
    "WAN25_DUPLICATE_WINDOW_SECONDS": "soon",
    "WAN25_CREDIT_LIMIT": "much",
    "WAN25_CREDITS_PER_IMAGE": "much",
    "WAN25_MAX_IN_FLIGHT": "many",
    "WAN25_CALLBACK_URL": "http://a.example",
    "WAN25_SERVER_TOKEN": "${TOKEN}",
    "WAN25_LOG_LEVEL": "LOUD",
    "WAN25_EMULATOR": "perhaps",
}


def test_every_variable_that_can_be_wrong_is_tried() -> None:
    free = {"WAN25_API_KEY", "WAN25_API_KEY_FILE", "WAN25_ALLOWED_HOSTS", "WAN25_ACCOUNT"}
    assert {variable.name for variable in SETTINGS} - free == set(BAD)


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("command", [["serve"], ["doctor"], ["tasks"], ["task", "t"],
                                     ["edit", "https://a.example/b", "--prompt", "p"]])  # fmt: skip
def test_a_bad_setting_is_a_sentence_about_its_variable(
    name: str, command: list[str], environ: dict[str, str | None]
) -> None:
    result = invoke(environ, *command, **{name: BAD[name]})
    assert (result.exit_code, result.stdout) == (2, "")
    first, second = result.stderr.splitlines()
    assert first.startswith(f"Error: {name} ")
    assert second.startswith("To do: Set ")
    assert "hunter2" not in result.stderr


def test_a_bad_setting_is_a_sentence_from_the_real_command_too() -> None:
    ran = run([], environment(WAN25_LOG_LEVEL="LOUD"))
    assert (ran.returncode, ran.stdout) == (2, b"")
    problem, fix = ran.stderr.decode().splitlines()
    assert problem.startswith("Error: WAN25_LOG_LEVEL is not ")
    assert "DEBUG, INFO, WARNING, ERROR, CRITICAL" in fix


@pytest.mark.parametrize("command", [["edit", "https://a.example/b", "--prompt", "p"],
                                     ["task", "task-1"], ["task", "task-1", "--wait"]])  # fmt: skip
def test_without_a_key_a_command_says_how_to_set_one(
    command: list[str], environ: dict[str, str | None]
) -> None:
    result = invoke(environ, *command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: No API key is set")
    assert "WAN25_API_KEY" in result.stderr


def test_without_a_key_the_list_says_why_it_needs_one(environ: dict[str, str | None]) -> None:
    result = invoke(environ, "tasks")
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.splitlines() == [
        "Error: No API key is set. Nothing else tells whose edits to list: the journal keeps those "
        "of each key apart, in case it is shared.",
        "To do: Set WAN25_API_KEY (and WAN25_BASE_URL, if it was set) as when the edits were made. "
        "Nothing will be sent.",
    ]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["https://127.0.0.1/x", "--prompt", "p"], "points to an internal or reserved address"),
        (["https://a.example/b", "--prompt", ""], "prompt must be text"),
        (["https://a.example/b", "--prompt", "p", "-n", "5"], "n must be a whole number"),
        (["https://a.example/b"] * 3 + ["--prompt", "p"], "IMAGE must be 1 or 2 images"),
    ],
)
def test_an_edit_that_cannot_work_is_refused_before_it_costs(
    arguments: list[str], told: str, played: Playing, world: dict[str, str | None]
) -> None:
    before = len(played.emulator.submits)
    result = invoke(world, "edit", *arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert len(played.emulator.submits) == before


# --- edit, task, tasks -----------------------------------------------------------------------


def test_an_edit_is_made_shown_and_saved(
    played: Playing, world: dict[str, str | None], tmp_path: Path
) -> None:
    link = played.ask("sample_image_url")
    result = invoke(world, "edit", link, "--prompt", "Make it night", "-n", "2")
    assert result.exit_code == 0, result.output
    files = sorted((tmp_path / "out").iterdir())
    assert len(files) == 2
    lines = result.stdout.splitlines()
    assert lines[:3] == ["Status: completed, 100 %", f"Saved: {files[0]}", f"Saved: {files[1]}"]
    assert lines[3].startswith("Image 1: http://127.0.0.1:")
    assert lines[5].startswith("Links expire: ")
    assert lines[6] == "Charged: yes (3 credits)"
    assert result.stderr.startswith("Emulator: not the real model")
    assert "\r" not in result.output
    assert "\x1b" not in result.output
    assert played.emulator.leaked_keys == []

    task_id = list(played.emulator.tasks)[-1]
    shown = invoke(world, "task", task_id)
    assert (shown.exit_code, shown.stdout.splitlines()) == (0, lines)
    waited = invoke(world, "task", task_id, "--wait", "--output", str(tmp_path / "other"))
    assert (waited.exit_code, waited.stdout.splitlines()) == (0, lines)
    assert sorted((tmp_path / "out").iterdir()) == files  # saved once, and where it was said
    listed = invoke(world, "tasks")
    assert listed.exit_code == 0
    assert re.search(
        rf"completed +3 credits \(yes\)  {task_id}  Make it night$", listed.stdout, re.M
    )


@pytest.mark.parametrize(
    ("fate", "told"),
    [
        ({"fail": "content_policy_violation", "message": "Not this"}, "Not this"),
        ({"images": 0}, "made no image"),
    ],
)
def test_an_edit_that_fails_is_status_1_and_says_why(
    fate: dict[str, Any], told: str, played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fate", run_seconds=0.1, **fate)
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", str(fate))
    assert result.exit_code == 1
    assert "Charged: no" in result.stdout
    assert told in result.stderr
    assert "To do: " in result.stderr


def test_a_refused_edit_is_status_1(played: Playing, world: dict[str, str | None]) -> None:
    played.ask("fault", endpoint="submit", kind="status", code=402)
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Poor")
    assert result.exit_code == 1
    assert "not enough credits" in result.stderr
    assert "Charged: no" in result.stdout


def test_an_unknown_outcome_is_status_1_and_not_called_free(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fault", endpoint="submit", kind="drop_after")
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Lost")
    assert result.exit_code == 1
    assert "Charged: unknown" in result.stdout
    assert "dashboard" in result.stderr


@pytest.mark.parametrize("name", ["task-unified-1-none", "edit-0000000000000000"])
def test_an_unknown_task_is_status_1(name: str, world: dict[str, str | None]) -> None:
    result = invoke(world, "task", name)
    assert result.exit_code == 1
    assert "Error: " in result.stderr


def test_images_that_cannot_be_saved_leave_their_links_on_the_screen(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fault", endpoint="result", kind="html", times=9)
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Not to be saved")
    played.emulator.faults.clear()
    assert result.exit_code == 1
    assert "Saved: " not in result.stdout
    assert "Image 1: http://127.0.0.1:" in result.stdout
    assert result.stderr.count("Not saved yet: ") == 1


def test_a_folder_that_cannot_be_written_is_found_before_the_edit_is_paid_for(
    played: Playing, world: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = len(played.emulator.submits)
    output = str(tmp_path / "file" / "out")
    result = invoke(
        world, "edit", played.ask("sample_image_url"), "--prompt", "p", "--output", output
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Images cannot be saved in" in result.stderr
    assert "nothing was sent" in result.stderr
    assert len(played.emulator.submits) == before


def test_an_equal_edit_is_said_to_be_joined_and_force_new_makes_another(
    played: Playing, world: dict[str, str | None]
) -> None:
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Twice"]
    before = played.emulator.ledger.charges
    assert "joined" not in invoke(world, *command).stderr
    again = invoke(world, *command)
    assert "An equal earlier edit was joined" in again.stderr
    assert "Saved: " in again.stdout
    assert played.emulator.ledger.charges == before + 1
    assert "joined" not in invoke(world, *command, "--force-new").stderr
    assert played.emulator.ledger.charges == before + 2


def test_no_edits_yet_is_said(world: dict[str, str | None]) -> None:
    result = invoke(world, "tasks")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No edits yet" in result.stderr


# --- doctor ----------------------------------------------------------------------------------


def test_the_doctor_finds_all_well(
    played: Playing, environ: dict[str, str | None], tmp_path: Path
) -> None:
    result = invoke(environ, "doctor", WAN25_API_KEY=KEY, WAN25_BASE_URL=played.emulator.base_url)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "Everything an edit needs is there."
    assert {line[:4] for line in result.stdout.splitlines()[:-1]} == {"ok  "}


def test_the_doctor_says_what_to_fix(environ: dict[str, str | None]) -> None:
    result = invoke(environ, "doctor")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "BAD  No API key is set, so nothing can be sent to the provider." in lines
    assert lines[-1] == "1 to fix."


# --- demo ------------------------------------------------------------------------------------


@dataclass
class Demos:
    """Two demos, run at the same time: each takes its seconds."""

    plain: subprocess.CompletedProcess[bytes]
    own_pictures: subprocess.CompletedProcess[bytes]
    output: Path


@pytest.fixture(scope="module")
def demos(tmp_path_factory: pytest.TempPathFactory) -> Demos:
    folder = tmp_path_factory.mktemp("demos")
    pictures = [folder / "a b.png", folder / "ü.png"]
    for number, picture in enumerate(pictures):
        picture.write_bytes(sample(500, 400, number))
    (folder / "file").write_text("in the way")
    names = [*map(str, pictures)]
    commands = [
        ["demo", "--output", str(folder / "out")],
        ["demo", *names, "--prompt", "Join", "--output", str(folder / "file" / "folder")],
    ]
    environ = environment(WAN25_DATA_DIR=str(folder / "data"))
    with ThreadPoolExecutor() as threads:
        plain, own = threads.map(lambda command: run(command, environ, seconds=50), commands)
    return Demos(plain, own, folder / "out")


def test_the_demo_does_the_whole_job_without_a_key(demos: Demos) -> None:
    err = demos.plain.stderr.decode()
    assert demos.plain.returncode == 0, err
    out = demos.plain.stdout.decode()
    answer = json.loads(out[: out.rindex("}") + 1])
    assert (answer["status"], answer["charged"], answer["error"]) == ("completed", "yes", None)
    [saved] = demos.output.iterdir()
    assert out.rstrip().endswith(f"Saved: {saved}")
    assert saved.read_bytes().startswith(b"\x89PNG")
    for step in ("1. Emulator at", "2. MCP server over stdio", "3. edit_image: picture uploaded",
                 "4. wait_for_task: completed"):  # fmt: skip
        assert step in err
    assert "\x1b" not in out + err


def test_the_demo_takes_pictures_of_one_s_own_and_says_when_the_result_cannot_be_saved(
    demos: Demos,
) -> None:
    err = demos.own_pictures.stderr.decode()
    assert "4. wait_for_task: completed" in err
    assert "Error: The image was not saved." in err
    assert (demos.own_pictures.returncode, "WAN25_OUTPUT_DIR" in err) == (1, True)
    assert "Traceback" not in err


@pytest.mark.parametrize("content", [b"not an image", b"", b"\x00\x00\x00\x18ftypheic" + bytes(99)])
def test_the_demo_says_when_a_picture_is_none(
    content: bytes, environ: dict[str, str | None], tmp_path: Path
) -> None:
    picture = tmp_path / "picture.heic"
    picture.write_bytes(content)
    result = invoke(environ, "demo", str(picture))
    assert result.exit_code == 1
    assert "Error: The server answered with an error." in result.stderr
    assert picture.name in result.stderr


# --- Ctrl-C ----------------------------------------------------------------------------------


def test_ctrl_c_while_waiting_says_how_to_get_the_edit_later(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fate", stuck_at=50)
    values = {name: value for name, value in world.items() if value is not None}
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Stop me"]
    with started(command, environment(**values)) as process:
        told = until(process.stderr, lambda text: "processing" in text or "pending 0" in text)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    task_id = list(played.emulator.tasks)[-1]
    assert process.returncode == 130
    assert f"wan25-mcp task {task_id} --wait" in err.decode()
    assert "the edit goes on" in err.decode()
    assert "Traceback" not in told + err.decode()
    assert out == b""


def test_ctrl_c_while_submitting_does_not_lose_the_paid_edit(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fault", endpoint="submit", kind="delay", seconds=2)
    values = {name: value for name, value in world.items() if value is not None}
    before = played.emulator.ledger.charges
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Stop me early"]
    with started(command, environment(**values)) as process:
        deadline = time.monotonic() + 20
        while played.emulator.ledger.charges == before and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=15)
    task_id = list(played.emulator.tasks)[-1]
    assert process.returncode == 130
    assert "Traceback" not in err.decode()
    assert f"wan25-mcp task {task_id} --wait" in err.decode()


def test_at_a_terminal_there_is_a_bar_and_ctrl_c_stops_it(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fate", stuck_at=50)
    values = {name: value for name, value in world.items() if value is not None}
    command = ["edit", played.ask("sample_image_url"), "--prompt", "At a terminal"]
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "wan25_mcp", *command],
        env=environment(**values, TERM="xterm"),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
    )
    os.close(slave)
    text = bytearray()
    reader = threading.Thread(target=_read_terminal, args=(master, text))
    reader.start()
    try:
        deadline = time.monotonic() + 20
        while b"processing" not in text and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=15) == 130
    finally:
        process.kill()
        process.wait()
        reader.join(timeout=10)
        os.close(master)
    shown = text.decode()
    assert "[" in shown
    assert "\r" in shown
    assert "--wait" in shown
    assert "Traceback" not in shown


def _read_terminal(master: int, text: bytearray) -> None:
    while True:
        try:
            part = os.read(master, 4096)
        except OSError:  # the other end is gone
            return
        text += part


# --- the emulator on its own -----------------------------------------------------------------


def test_the_emulator_says_where_it_is_and_stops_on_a_signal() -> None:
    with started(["emulator", "--port", "0"], environment()) as process:
        url = until(process.stdout, lambda text: "\n" in text).strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/apiv1", url)
        told = until(process.stderr, lambda text: "\n" in text)
        assert told == f"The emulator takes any key. Use it with: WAN25_EMULATOR={url}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        port = url.split(":")[2].split("/")[0]
    assert invoke({}, "emulator", "--host", "8.8.8.8", "--port", port).exit_code == 2
