"""Where results go, what is printed, and what is left out: -o, --json, -q, -v, --open, stdin."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from PIL import Image

from tests.cli.stage import Environ, Playing, as_a_shell_shows, at_terminal, invoke
from tests.stage import environment
from tests.systems import posix
from wan25_mcp.cli import given
from wan25_mcp.cli.destination import Destination
from wan25_mcp.editing.answers import Answer
from wan25_mcp.errors import InvalidRequest
from wan25_mcp.outputs.save import NotSaved


def picture(path: Path, colour: int = 90) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (400, 400), (colour, 40, 200)).save(path)
    return path


# --- -o -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "made"), [("night.png", "PNG"), ("night.JPG", "JPEG"),
                                            ("new/night.webp", "WEBP")])  # fmt: skip
def test_a_name_with_the_suffix_of_an_image_is_a_file_of_that_format(
    name: str, made: str, played: Playing, world: Environ, tmp_path: Path
) -> None:
    link, file = played.ask("sample_image_url"), tmp_path / name
    file.parent.mkdir(exist_ok=True)
    file.write_text("an earlier result")
    told = invoke(world, "edit", link, f"Into {made}", "-o", str(file))
    assert told.exit_code == 0
    [original] = (tmp_path / "out").iterdir()
    lines = told.stdout.splitlines()
    assert lines[1:3] == [f"Saved: {file}", f"Original: {original}"]
    with Image.open(file) as image:
        assert image.format == made
        image.load()
    assert (file.read_bytes() == original.read_bytes()) == (made == "PNG")
    assert [path.name for path in file.parent.iterdir() if path.suffix == ".part"] == []


def test_several_results_are_numbered(played: Playing, world: Environ, tmp_path: Path) -> None:
    link = played.ask("sample_image_url")
    told = invoke(world, "edit", link, "Two", "-n", "2", "-o", str(tmp_path / "a.png"), "--json")
    assert json.loads(told.stdout)["saved"] == [str(tmp_path / f"a-{n}.png") for n in (1, 2)]
    assert (tmp_path / "a-2.png").exists()
    again = json.loads(invoke(world, "task", json.loads(told.stdout)["task_id"], "--wait", "-o",
                              str(tmp_path / "b.png"), "--json").stdout)  # fmt: skip
    assert again["saved"] == [str(tmp_path / f"b-{n}.png") for n in (1, 2)]


def test_any_other_name_is_a_folder(played: Playing, world: Environ, tmp_path: Path) -> None:
    link = played.ask("sample_image_url")
    (tmp_path / "odd.png").mkdir()
    for name in ("results", "odd.png"):
        told = invoke(world, "edit", link, f"Folder {name[:3]}", "-o", str(tmp_path / name))
        assert told.exit_code == 0
        assert len(list((tmp_path / name).iterdir())) == 1


def test_a_reused_edit_is_copied_once_into_the_folder_that_is_asked_for(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    command = ["edit", played.ask("sample_image_url"), "Elsewhere", "--json"]
    [original] = json.loads(invoke(world, *command).stdout)["saved"]
    copy = tmp_path / "two" / Path(original).name
    for _ in range(2):
        told = invoke(world, *command, "-o", str(tmp_path / "two"))
        assert (told.exit_code, json.loads(told.stdout)["saved"]) == (0, [str(copy)])
    assert [*copy.parent.iterdir()] == [copy]
    assert copy.read_bytes() == Path(original).read_bytes()
    there = json.loads(invoke(world, *command, "-o", str(Path(original).parent)).stdout)
    assert there["saved"] == [original]
    assert len(list(Path(original).parent.iterdir())) == 1


def test_a_copy_into_a_folder_that_fails_keeps_the_original_and_says_so(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    command = ["edit", played.ask("sample_image_url"), "No copy", "--json"]
    [original] = json.loads(invoke(world, *command).stdout)["saved"]
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")  # results are not saved through one
    told = invoke(world, *command, "-o", str(tmp_path / "link"))
    answer = Answer.model_validate_json(told.stdout)
    assert (told.exit_code, answer.saved, answer.status) == (1, [original], "completed")
    assert answer.error is not None
    assert answer.error.code == "not_saved"


@pytest.mark.parametrize("n", ["1", "2"])
def test_a_result_over_one_of_the_images_is_refused_before_it_costs(
    n: str, played: Playing, world: Environ, tmp_path: Path
) -> None:
    image = picture(tmp_path / ("a.png" if n == "1" else "a-2.png"))
    (tmp_path / "link.png").symlink_to(image)
    before, submits = image.read_bytes(), len(played.emulator.submits)
    for given_as in (image, tmp_path / "link.png"):
        told = invoke(world, "edit", str(given_as), "Over", "-n", n, "-o", str(tmp_path / "a.png"))
        assert (told.exit_code, told.stdout) == (2, "")
        assert "written over" in told.stderr
    assert (image.read_bytes(), len(played.emulator.submits)) == (before, submits)


def test_an_image_named_by_a_uri_is_not_written_over_either(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    image = picture(tmp_path / "a b.png")
    before, submits = image.read_bytes(), len(played.emulator.submits)
    told = invoke(
        world, "edit", image.as_uri(), "Over", "-o", str(image), WAN25_INPUT_DIRS=str(tmp_path)
    )
    assert (told.exit_code, "written over" in told.stderr) == (2, True)
    assert (image.read_bytes(), len(played.emulator.submits)) == (before, submits)


def test_fewer_results_than_asked_for_are_not_written_over_the_image(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    image = picture(tmp_path / "a.png")
    before, submits = image.read_bytes(), len(played.emulator.submits)
    told = invoke(world, "edit", str(image), "Fewer", "-n", "2", "-o", str(image))
    assert (told.exit_code, "written over" in told.stderr) == (2, True)
    assert (image.read_bytes(), len(played.emulator.submits)) == (before, submits)


@pytest.mark.parametrize("name", ["a.gif", "a.heic", "a.tiff", "out.txt", "prompt.TXT"])
def test_formats_that_are_not_written_are_refused_before_they_cost(
    name: str, played: Playing, world: Environ, tmp_path: Path
) -> None:
    before = len(played.emulator.submits)
    (tmp_path / "prompt.TXT").write_text("Make it night")
    told = invoke(world, "edit", "https://a.example/b", "x", "-o", str(tmp_path / name))
    assert (told.exit_code, len(played.emulator.submits)) == (2, before)
    assert ".png, .jpg or .webp" in told.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["prompt.TXT"]


@pytest.mark.parametrize("name", ["v1.5", "2026.11.25", "my.results", "out.txt/", ".hidden"])
def test_a_folder_may_have_a_dot_in_its_name(name: str, tmp_path: Path) -> None:
    assert Destination.of(f"{tmp_path}/{name}") == Destination(folder=tmp_path / name)


def test_a_folder_that_cannot_be_written_to_is_said_before_it_costs(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    before = len(played.emulator.submits)
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    for output in ("file/a.png", "file/new/deep", "gone/new", "gone", f"new/{'long' * 100}"):
        told = invoke(world, "edit", "https://a.example/b", "x", "-o", str(tmp_path / output))
        assert (told.exit_code, len(played.emulator.submits)) == (2, before), output
        assert "--output" in told.stderr


def test_a_copy_that_fails_says_where_the_original_is(
    played: Playing, world: Environ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> Any:
        raise NotSaved("The disk is full.", fix="Free some space.")

    monkeypatch.setattr(Destination, "copied", full)
    told = invoke(
        world, "edit", played.ask("sample_image_url"), "Full", "-o", str(tmp_path / "a.png")
    )
    [original] = (tmp_path / "out").iterdir()
    assert told.exit_code == 1
    assert f"Saved: {original}" in told.stdout
    assert "Charged: yes" in told.stdout
    assert "The disk is full" in told.stderr


def test_transparency_becomes_white_where_the_format_has_none() -> None:
    from wan25_mcp.cli.destination import _as

    clear, packed = Image.new("RGBA", (8, 8), (255, 0, 0, 0)), io.BytesIO()
    clear.save(packed, "PNG")
    with Image.open(io.BytesIO(_as(".jpg", packed.getvalue()))) as image:
        assert image.getpixel((4, 4)) == (255, 255, 255)
    with Image.open(io.BytesIO(_as(".webp", packed.getvalue()))) as image:
        assert image.convert("RGBA").getpixel((4, 4))[3] == 0  # type: ignore[index]


# --- --json ---------------------------------------------------------------------------------


def test_an_edit_as_json_is_an_answer_of_the_tools(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    command = ["edit", played.ask("sample_image_url"), "As JSON", "--json"]
    told = invoke(world, *command)
    answer = Answer.model_validate_json(told.stdout)
    assert (told.exit_code, answer.status, answer.charged) == (0, "completed", "yes")
    assert answer.saved == [str(path) for path in (tmp_path / "out").iterdir()]
    assert answer.error is None
    again = Answer.model_validate_json(invoke(world, *command).stdout)
    assert again.duplicate_of_earlier_call
    shown = Answer.model_validate_json(invoke(world, "task", str(answer.task_id), "--json").stdout)
    assert (shown.task_id, shown.saved) == (answer.task_id, answer.saved)


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        (["https://a.example/b", "x", "-n", "9"], 2, "invalid_request"),
        (["https://a.example/b"], 2, "invalid_request"),
        (["/no/such/image.png", "x"], 2, "image_not_found"),
        (["--no-such-option"], 2, "invalid_request"),
        (["https://a.example/b", "x", "-n", "two"], 2, "invalid_request"),
    ],
)
def test_an_error_as_json_is_an_answer_too_and_keeps_its_status(
    arguments: list[str], status: int, code: str, world: Environ
) -> None:
    told = invoke(world, "edit", *arguments, "--json")
    answer = Answer.model_validate_json(told.stdout)
    assert answer.error is not None
    assert (told.exit_code, answer.error.code, answer.charged) == (status, code, "no")
    assert (answer.status, answer.task_id) == ("failed", None)


def test_a_failed_edit_as_json_has_its_reason(played: Playing, world: Environ) -> None:
    played.ask("fault", endpoint="submit", kind="drop_after")
    told = invoke(world, "edit", played.ask("sample_image_url"), "Lost in JSON", "--json")
    answer = Answer.model_validate_json(told.stdout)
    assert (told.exit_code, answer.charged) == (1, "unknown")
    assert answer.error is not None
    assert "--force-new" in answer.error.fix
    assert "force_new" not in told.stdout


def test_an_edit_that_is_not_confirmed_is_an_object_too(played: Playing, world: Environ) -> None:
    before = len(played.emulator.submits)
    command = ["edit", played.ask("sample_image_url"), "Dear JSON", "--json"]
    with at_terminal(command, world | {"WAN25_CONFIRM_CREDITS": "0"}) as terminal:
        terminal.until(lambda text: "Edit? [y/N]" in text)
        terminal.type("n\n")
        assert terminal.process.wait(timeout=20) == 1
        text = terminal.until(lambda text: text.rstrip().endswith("}"))
    answer = Answer.model_validate_json(text[text.index("{") :])
    assert (answer.status, answer.charged) == ("failed", "no")
    assert len(played.emulator.submits) == before


def test_every_command_that_answers_prints_one_object(world: Environ) -> None:
    for command in (["tasks"], ["credits"], ["doctor"], ["key", "show"], ["task", "task-1-none"]):
        told = invoke(world, *command, "--json")
        assert isinstance(json.loads(told.stdout), dict), command
    listed = json.loads(invoke(world, "tasks", "--json").stdout)
    assert set(listed) == {"tasks", "totals"}
    checked = json.loads(invoke(world, "doctor", "--json").stdout)
    assert checked["problems"] == 0
    assert {one["verdict"] for one in checked["checks"]} == {"ok"}


@pytest.mark.parametrize("command", [["tasks"], ["credits"], ["key", "show"]])
def test_without_a_key_the_error_is_the_object(command: list[str], environ: Environ) -> None:
    told = invoke(environ, *command, "--json")
    assert (told.exit_code, told.stderr) == (2, "")
    assert json.loads(told.stdout)["error"]["code"] == "missing_api_key"


# --- -q, -v, --emulator, --open ---------------------------------------------------------------


@pytest.mark.parametrize("status", [1, 130])
def test_a_price_that_is_declined_is_one_object_too(
    status: int, played: Playing, world: Environ
) -> None:
    before = len(played.emulator.submits)
    command = ["edit", played.ask("sample_image_url"), "Declined", "--json"]
    with at_terminal(command, world | {"WAN25_CONFIRM_CREDITS": "0"}) as terminal:
        terminal.until(lambda text: "Edit?" in text)
        if status == 130:
            terminal.interrupt()
        else:
            terminal.type("n\n")
        text = terminal.until(lambda text: text.rstrip().endswith("}"))
        assert as_a_shell_shows(terminal.process.wait(timeout=10)) == status
    told = json.loads(text[text.index("{") :])
    assert (told["error"]["code"], told["charged"]) == ("never_sent", "no")
    assert len(played.emulator.submits) == before


def test_quiet_leaves_results_and_errors_only(played: Playing, world: Environ) -> None:
    told = invoke(world, "edit", played.ask("sample_image_url"), "Quietly", "-q")
    assert (told.exit_code, told.stderr) == (0, "")
    assert told.stdout.startswith("Status: completed")
    failed = invoke(world, "edit", "/no/such/image.png", "x", "-q")
    assert "does not exist" in failed.stderr
    assert "To do: " in failed.stderr


def test_verbose_logs_what_is_done(played: Playing, world: Environ) -> None:
    link = played.ask("sample_image_url")
    levels = {}
    for flag in ("-v", "-vv"):
        told = invoke(world, "edit", link, f"Loudly {flag}", flag)
        levels[flag] = set(re.findall(r" (DEBUG|INFO) \w+", told.stderr))
        logged = re.findall(r" (?:DEBUG|INFO) (\w+)", told.stderr)
        assert set(logged) <= {"wan25_mcp", "httpx2"}  # not the inside of other libraries
    assert levels == {"-v": {"INFO"}, "-vv": {"INFO", "DEBUG"}}


def test_a_line_of_the_log_stands_alone_above_the_progress(played: Playing, world: Environ) -> None:
    command = ["edit", played.ask("sample_image_url"), "Loudly at a terminal", "-vv"]
    with at_terminal(command, world, columns=200) as terminal:
        assert terminal.process.wait(timeout=30) == 0
        text = terminal.until(lambda text: "Charged: yes" in text)
    logged = [line for line in re.split(r"[\r\n]+", text) if re.search(r" (DEBUG|INFO) \w", line)]
    assert len(logged) > 3
    assert all(re.match(r"\d{4}-", line) for line in logged)


@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_nothing_is_saved_of_a_refused_edit_and_no_progress_is_left(
    flags: list[str], played: Playing, world: Environ
) -> None:
    played.ask("fault", endpoint="submit", kind="status", code=402)
    command = ["edit", played.ask("sample_image_url"), f"Refused {flags}", *flags]
    with at_terminal(command, world) as terminal:
        assert terminal.process.wait(timeout=30) == 1
        text = terminal.until(lambda text: "insufficient_credits" in text or "To do: " in text)
    assert "saving" not in text
    assert not re.search(r"\d s *(Status|\{)", text)


def test_a_failed_edit_names_its_task_once_and_has_no_percent(
    played: Playing, world: Environ
) -> None:
    played.ask("outcome", run_seconds=0.1, fail="content_policy_violation", message="Not this")
    command = ["edit", played.ask("sample_image_url"), "Fails at a terminal"]
    with at_terminal(command, world) as terminal:
        assert terminal.process.wait(timeout=30) == 1
        text = terminal.until(lambda text: "To do: " in text)
    assert text.count("Task id: ") == 1
    assert re.search(r"Status: failed\r?\n", text)


def test_the_emulator_can_be_chosen_by_a_flag(environ: Environ) -> None:
    for command in ("tasks", "credits", "doctor"):
        told = invoke(environ, command, "--emulator")
        assert told.exit_code == 0, told.output


def test_open_opens_what_was_saved(
    played: Playing, world: Environ, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []

    def launch(path: str) -> int:
        opened.append(path)
        return 3

    monkeypatch.setattr(click, "launch", launch)  # the one thing that a test cannot look at
    told = invoke(world, "edit", played.ask("sample_image_url"), "Open", "--open")
    assert opened == [str(path) for path in (tmp_path / "out").iterdir()]
    assert "No program" in told.stderr
    assert told.exit_code == 0


# --- stdin ----------------------------------------------------------------------------------


def test_an_image_can_be_piped_in(played: Playing, world: Environ, tmp_path: Path) -> None:
    image = picture(tmp_path / "a.png").read_bytes()
    told = CliRunner().invoke(
        __import__("wan25_mcp.cli.main", fromlist=["main"]).main,
        ["edit", "-", "Piped", "--json"],
        input=image,
        env=world,
    )
    assert told.exit_code == 0
    assert Answer.model_validate_json(told.stdout).status == "completed"
    named = Answer.model_validate_json(
        invoke(world, "edit", str(tmp_path / "a.png"), "Piped", "--json").stdout
    )
    assert named.duplicate_of_earlier_call  # the same picture, by whatever way it came


def test_a_piped_image_leaves_nobody_to_ask(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    values = {name: value for name, value in world.items() if value is not None}
    ran = subprocess.run(
        [sys.executable, "-m", "wan25_mcp", "edit", "-", "Dear"],
        env=environment(**values, WAN25_CONFIRM_CREDITS="0"),
        input=picture(tmp_path / "a.png").read_bytes(),
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert ran.returncode == 2
    assert b"--yes" in ran.stderr


@posix
def test_a_closed_stream_leads_nowhere_and_loses_nothing(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    values = {name: value for name, value in world.items() if value is not None}
    before = len(played.emulator.submits)
    link = played.ask("sample_image_url")

    def shell(line: str, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["/bin/sh", "-c", f'exec "$0" -m wan25_mcp "$@" {line}', sys.executable, *arguments],
            env=environment(**values),
            capture_output=True,
            timeout=30,
            check=False,
        )

    without_input = shell("<&-", "edit", "-", "Make it night", "--json")
    assert without_input.returncode == 2
    assert json.loads(without_input.stdout)["error"]["code"] == "image_unusable"
    assert len(played.emulator.submits) == before
    without_output = shell(">&- 2>&-", "edit", link, "Closed")
    assert without_output.returncode == 0
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("content", [b"", b"no image"])
def test_what_is_no_image_is_refused(content: bytes, played: Playing, world: Environ) -> None:
    before = len(played.emulator.submits)
    from wan25_mcp.cli.main import main

    told = CliRunner().invoke(main, ["edit", "-", "x"], input=content, env=world)
    assert (told.exit_code, told.stdout) == (2, "")
    assert len(played.emulator.submits) == before


def test_no_more_of_stdin_is_kept_than_an_image_may_have(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Endless:
        given = 0

        def read(self, size: int) -> bytes:
            self.given += size
            return b"x" * size

    class Stdin:
        buffer = Endless()

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr(given, "MAX_FILE_BYTES", 3 << 20)
    monkeypatch.setattr(sys, "stdin", Stdin())
    with pytest.raises(InvalidRequest, match="larger"), given.stdin_as_file(["-"]):
        pass
    assert Endless.given == 0
    assert Stdin.buffer.given <= 5 << 20


def test_at_a_terminal_stdin_has_no_image(world: Environ) -> None:
    with at_terminal(["edit", "-", "x"], world) as terminal:
        assert terminal.process.wait(timeout=20) == 2
        assert "piped" in terminal.until(lambda text: "To do: " in text)


# --- paths that can be clicked ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("term", "no_colour", "is_link"),
    [("xterm", "1", True), ("dumb", "", False), ("linux", "", False)],
)
def test_a_path_opens_its_file_where_the_terminal_can(
    term: str, no_colour: str, is_link: bool, played: Playing, world: Environ, tmp_path: Path
) -> None:
    output = tmp_path / "a b ü"
    command = ["edit", played.ask("sample_image_url"), f"Click {term}", "-o", str(output)]
    with at_terminal(command, world | {"NO_COLOR": no_colour}, term=term) as terminal:
        assert terminal.process.wait(timeout=30) == 0
        text = terminal.until(lambda text: "Charged: yes" in text)
    [file] = output.iterdir()
    assert str(file) in text
    assert (f"\x1b]8;;{file.as_uri()}\x1b\\{file}\x1b]8;;\x1b\\" in text) == is_link
    assert ("\x1b]" in text) == is_link


# --- errors at a terminal ---------------------------------------------------------------------


@pytest.mark.parametrize("columns", [60, 120])
def test_an_error_is_broken_between_words_and_commands_stay_in_one_piece(
    columns: int, environ: Environ
) -> None:
    with at_terminal(["credits"], environ, columns=columns) as terminal:
        assert terminal.process.wait(timeout=20) == 2
        text = terminal.until(lambda text: "wan25-mcp demo" in text)
    lines = re.sub(r"\x1b\[\d*m", "", text).replace("\r", "").splitlines()
    assert max(map(len, lines)) < columns
    assert len(lines) > 2
    assert all(line.startswith(("Error: ", "To do: ", "       ")) for line in lines)
    for command in ("`wan25-mcp key set`", "`wan25-mcp demo`"):
        assert any(command in line for line in lines)


@pytest.mark.parametrize(
    ("image", "told"),
    [
        ("/mnt/data/cat.png", "on another machine"),
        ("/no/such/folder/cat.png", "does not exist"),
        ("www.example.com/cat", "https://www.example.com"),
    ],
)
def test_an_image_that_is_not_there_is_said_in_a_persons_words(
    image: str, told: str, world: Environ
) -> None:
    answer = invoke(world, "edit", image, "x")
    assert answer.exit_code == 2
    assert told in answer.stderr
    assert "server" not in answer.stderr


def test_a_picture_behind_a_symlink_is_the_persons_own(
    played: Playing, world: Environ, tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link.png").symlink_to(picture(tmp_path / "elsewhere" / "a.png"))
    assert invoke(world, "edit", str(tmp_path / "in" / "link.png"), "x").exit_code == 0
