"""The command: its help, its exit statuses, what it prints where, and Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from PIL import Image

from tests.cli.stage import KEY, Playing, as_a_shell_shows, invoke
from tests.stage import environment, run, started, until
from tests.systems import posix
from wan25_mcp.cli.main import main
from wan25_mcp.emulator.pictures import sample
from wan25_mcp.settings import SETTINGS

# --- help and usage --------------------------------------------------------------------------

COMMANDS = [
    "serve", "demo", "edit", "task", "tasks", "emulator", "doctor", "key", "credits", "completion",
    "install", "uninstall", "gallery",
]  # fmt: skip


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
        ["tasks", "--limit", "0"],
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
    "WAN25_CONFIRM_CREDITS": "few",
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
    problem, fix = result.stderr.splitlines()
    assert problem.startswith("Error: No API key is set.")
    assert "share" in problem
    assert "WAN25_API_KEY" in fix
    assert "WAN25_BASE_URL" in fix


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
    copies = [tmp_path / "other" / file.name for file in files]
    assert waited.exit_code == 0
    assert waited.stdout.splitlines()[1:5] == [
        *(f"Saved: {file}" for file in copies),
        *(f"Original: {file}" for file in files),
    ]
    assert sorted((tmp_path / "out").iterdir()) == files  # downloaded once
    assert sorted((tmp_path / "other").iterdir()) == copies
    listed = invoke(world, "tasks")
    assert listed.exit_code == 0
    assert re.search(
        rf"completed +3 credits, charged +{task_id}  Make it night$", listed.stdout, re.M
    )


@pytest.mark.parametrize(
    ("outcome", "told"),
    [
        ({"fail": "content_policy_violation", "message": "Not this"}, "Not this"),
        ({"images": 0}, "made no image"),
    ],
)
def test_an_edit_that_fails_is_status_1_and_says_why(
    outcome: dict[str, Any], told: str, played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("outcome", run_seconds=0.1, **outcome)
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", str(outcome))
    assert result.exit_code == 1
    assert "Charged: no" in result.stdout
    assert told in result.stderr
    assert "To do: " in result.stderr


def test_a_refused_edit_is_status_1(played: Playing, world: dict[str, str | None]) -> None:
    played.ask("fault", endpoint="submit", kind="status", code=402)
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Poor")
    assert result.exit_code == 1
    assert "enough credits" in result.stderr
    assert "Charged: no" in result.stdout


def test_an_unknown_outcome_is_status_1_and_not_called_free(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("fault", endpoint="submit", kind="drop_after")
    result = invoke(world, "edit", played.ask("sample_image_url"), "--prompt", "Lost")
    assert result.exit_code == 1
    assert "Charged: unknown" in result.stdout
    assert "Check recent tasks" in " ".join(result.stderr.split())


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


@pytest.mark.parametrize("output", ["file/out", "/"])
def test_a_folder_that_cannot_be_written_is_found_before_the_edit_is_paid_for(
    output: str, played: Playing, world: dict[str, str | None], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("in the way")
    before = len(played.emulator.submits)
    output = str(tmp_path / output)  # an absolute one stays as it is
    result = invoke(
        world, "edit", played.ask("sample_image_url"), "--prompt", "p", "--output", output
    )
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Images cannot be saved in" in result.stderr
    assert "nothing was sent" in result.stderr
    assert len(played.emulator.submits) == before


def test_an_identical_edit_is_reused_with_a_word_and_force_new_makes_another(
    played: Playing, world: dict[str, str | None]
) -> None:
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Twice"]
    before = played.emulator.ledger.charges
    assert "Price: " in invoke(world, *command).stderr
    again = invoke(world, *command)
    assert ("Price: " in again.stderr, "Nothing to pay" in again.stderr) == (False, True)
    assert "Saved: " in again.stdout
    assert played.emulator.ledger.charges == before + 1
    assert "Nothing to pay" not in invoke(world, *command, "--force-new").stderr
    assert played.emulator.ledger.charges == before + 2


# --- a photo from the disk -------------------------------------------------------------------


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photos" / "house.jpg"
    path.parent.mkdir()
    Image.new("RGB", (640, 480), tuple(os.urandom(3))).save(path)
    return path


@pytest.fixture
def only_a_key(played: Playing, environ: dict[str, str | None]) -> dict[str, str | None]:
    """The settings of somebody who has set nothing but a key."""
    return environ | {"WAN25_API_KEY": KEY, "WAN25_BASE_URL": played.emulator.base_url}


def test_a_photo_from_the_disk_needs_nothing_but_a_key(
    played: Playing, only_a_key: dict[str, str | None], photo: Path
) -> None:
    result = invoke(only_a_key, "edit", str(photo), "--prompt", "Make it night")
    assert result.exit_code == 0
    assert "Saved: " in result.stdout
    assert result.stderr.count("Uploading house.jpg") == 1
    link = played.emulator.submits[-1].body["image_urls"][0]
    assert link.startswith(played.emulator.files_url)
    again = invoke(only_a_key, "edit", str(photo), "--prompt", "Make it day")
    assert (again.exit_code, "Uploading" in again.stderr) == (0, False)  # its link still works


def test_without_a_place_for_a_photo_the_error_is_all_that_is_said(
    played: Playing, only_a_key: dict[str, str | None], photo: Path
) -> None:
    before = len(played.emulator.submits)
    played.ask("fault", endpoint="quota", kind="status", code=404, times=1)
    result = invoke(only_a_key, "edit", str(photo), "--prompt", "Make it night")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Uploading" not in result.stderr
    for said in ("no place", "public https:// link", "WAN25_BUCKET_URL", "WAN25_FILES_URL"):
        assert said in result.stderr
    assert "restart the server" not in result.stderr
    assert len(played.emulator.submits) == before


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("/mnt/data/house.jpg", "on another machine"),
        ("C:\\Users\\Ann\\house.jpg", "on another machine"),
        ("example.com/house.jpg", "Did you mean https://example.com/"),
        ("www.example.com", "Did you mean https://www.example.com/"),
        ("/9j/" + "A" * 400, "data:image/jpeg;base64,"),
        ("hose.jpg", 'Did you mean "house.jpg"'),
    ],
    ids=lambda value: value[:20],
)
def test_what_is_no_path_here_is_answered_with_what_was_probably_meant(
    image: str,
    said: str,
    only_a_key: dict[str, str | None],
    photo: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(photo.parent)
    result = invoke(only_a_key, "edit", image, "--prompt", "Make it night")
    assert (result.exit_code, result.stdout) == (2, "")
    assert said in result.stderr
    assert "Ask the user" not in result.stderr


def test_a_file_that_is_named_like_a_link_is_read(
    only_a_key: dict[str, str | None], photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    Path("example.com").mkdir()
    photo.rename("example.com/house.jpg")
    result = invoke(only_a_key, "edit", "example.com/house.jpg", "--prompt", "Make it night")
    assert result.exit_code == 0


def test_no_edits_yet_is_said(world: dict[str, str | None]) -> None:
    result = invoke(world, "tasks")
    assert (result.exit_code, result.stdout) == (0, "")
    assert "No edits yet" in result.stderr


# --- doctor ----------------------------------------------------------------------------------


def test_the_doctor_finds_all_well(
    played: Playing, environ: dict[str, str | None], tmp_path: Path
) -> None:
    url = played.emulator.base_url
    files = url.removesuffix("/apiv1")
    result = invoke(environ, "doctor", WAN25_API_KEY=KEY, WAN25_BASE_URL=url, WAN25_FILES_URL=files)
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1] == "All checks passed."
    assert {line[:5] for line in result.stdout.splitlines()[:-1]} == {"ok   "}


def test_the_doctor_fails_where_local_images_cannot_be_edited(
    played: Playing, environ: dict[str, str | None]
) -> None:
    played.ask("fault", endpoint="quota", kind="status", code=404, times=1)
    result = invoke(environ, "doctor", WAN25_API_KEY=KEY, WAN25_BASE_URL=played.emulator.base_url)
    assert result.exit_code == 1
    [number] = [n for n, line in enumerate(result.stdout.splitlines()) if line[:4] == "FAIL"]
    failure, ways_out = result.stdout.splitlines()[number : number + 2]
    assert "Local images cannot be edited" in failure
    assert "WAN25_FILES_URL" in ways_out
    assert "WAN25_BUCKET_URL" in ways_out
    assert result.stdout.splitlines()[-1] == "1 problem found."


def test_with_nothing_but_a_key_the_doctor_finds_all_well(
    played: Playing, environ: dict[str, str | None]
) -> None:
    result = invoke(environ, "doctor", WAN25_API_KEY=KEY, WAN25_BASE_URL=played.emulator.base_url)
    assert result.stdout.splitlines()[-1] == "All checks passed."
    assert "The API has a file service for local images" in result.stdout


def test_the_doctor_says_what_to_fix(environ: dict[str, str | None]) -> None:
    result = invoke(environ, "doctor")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert any(line.startswith("FAIL No API key is set") for line in lines)
    assert lines[-1] == "1 problem found, 1 warning."


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
    [saved] = demos.output.iterdir()
    lines = out.splitlines()
    assert lines[0] == "Status: completed, 100 %"
    assert f"Saved: {saved}" in lines
    assert any(line.startswith("Charged: yes") for line in lines)
    assert "Error" not in out
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
    assert result.exit_code == 2  # as `edit` ends
    [problem, *_] = [line for line in result.stderr.splitlines() if line.startswith("Error: ")]
    assert picture.name in problem
    assert result.stderr.count("To do: ") == 1


def test_the_demo_names_the_nearest_picture(environ: dict[str, str | None], tmp_path: Path) -> None:
    (tmp_path / "house.jpg").write_bytes(sample(400, 400))
    result = invoke(environ, "demo", str(tmp_path / "huose.jpg"))
    assert (result.exit_code, "house.jpg" in result.stderr) == (2, True)


# --- Ctrl-C ----------------------------------------------------------------------------------


@posix
def test_ctrl_c_while_waiting_says_how_to_get_the_edit_later(
    played: Playing, world: dict[str, str | None]
) -> None:
    played.ask("outcome", stuck_at=50)
    values = {name: value for name, value in world.items() if value is not None}
    command = ["edit", played.ask("sample_image_url"), "--prompt", "Stop me"]
    with started(command, environment(**values)) as process:
        told = until(process.stderr, lambda text: "processing" in text or "pending 0" in text)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=15)
    task_id = list(played.emulator.tasks)[-1]
    assert as_a_shell_shows(process.returncode) == 130
    assert f"wan25-mcp task {task_id} --wait" in err.decode()
    assert "Stopped waiting" in err.decode()
    assert "Traceback" not in told + err.decode()
    assert out == b""


@posix
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
    assert as_a_shell_shows(process.returncode) == 130
    assert "Traceback" not in err.decode()
    assert f"wan25-mcp task {task_id} --wait" in err.decode()


# --- the emulator on its own -----------------------------------------------------------------


@posix
def test_the_emulator_says_where_it_is_and_stops_on_a_signal() -> None:
    with started(["emulator", "--port", "0"], environment()) as process:
        url = until(process.stdout, lambda text: "\n" in text).strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/apiv1", url)
        told = until(process.stderr, lambda text: "\n" in text)
        assert told == f"The emulator accepts any key. Use it: WAN25_EMULATOR={url}\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
        port = url.split(":")[2].split("/")[0]
    assert invoke({}, "emulator", "--host", "8.8.8.8", "--port", port).exit_code == 2
