"""What a person may configure, and how a wrong value is reported."""

from __future__ import annotations

import ast
from dataclasses import fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wan25_mcp import settings as settings_module
from wan25_mcp.errors import SettingsError
from wan25_mcp.settings import DEFAULT_BASE_URL, SETTINGS, Settings, nearest

SECRET = "sk-live-SECRET0123456789"


def read(**values: str) -> Settings:
    return Settings.from_mapping(values)


def test_nothing_set_is_a_working_default_without_a_key() -> None:
    settings = read()
    assert settings == Settings()
    assert (settings.key, settings.key_problem) == (None, None)
    assert settings.base_url == DEFAULT_BASE_URL == "https://ai.odkkk.com/apiv1"
    assert (settings.wait_seconds, settings.max_wait_seconds) == (None, 50)
    assert settings.duplicate_window_seconds == 600
    assert settings.credit_limit is None
    assert (settings.credits_per_image, settings.max_in_flight) == (1.5, None)
    assert (settings.emulator, settings.log_level) == (False, "WARNING")


def test_a_setting_without_a_default_is_an_attribute_that_may_be_none() -> None:
    unset = {one.name for one in fields(Settings) if one.default is None}
    assert {one.name for one in fields(Settings) if str(one.type).endswith("| None")} == unset


def test_an_empty_variable_is_an_unset_one() -> None:
    assert read(**{variable.name: " " for variable in SETTINGS}) == Settings()


def test_every_value_is_read() -> None:
    settings = read(
        WAN25_API_KEY=SECRET,
        WAN25_BASE_URL="http://10.0.0.1:8080/apiv1/",
        WAN25_DATA_DIR="/var/lib/wan25",
        WAN25_DATABASE_URL="postgresql://u:p@h/d",
        WAN25_OUTPUT_DIR="~/edits",
        WAN25_WAIT_SECONDS="10",
        WAN25_MAX_WAIT_SECONDS="120.5",
        WAN25_DUPLICATE_WINDOW_SECONDS="0",
        WAN25_CREDIT_LIMIT="20.5",
        WAN25_CREDITS_PER_IMAGE="1.2",
        WAN25_MAX_IN_FLIGHT="3",
        WAN25_CALLBACK_URL="https://edits.example.com/wan25-callbacks/",
        WAN25_SERVER_TOKEN="a-token",
        WAN25_ALLOWED_HOSTS="a.example, b.example,,",
        WAN25_LOG_LEVEL="debug",
        WAN25_EMULATOR="no",
    )
    assert settings.key is not None
    assert settings.key.get_secret_value() == SECRET
    assert settings.base_url == "http://10.0.0.1:8080/apiv1"
    assert settings.data_dir == Path("/var/lib/wan25")
    assert settings.output_dir == Path.home() / "edits"
    assert (settings.wait_seconds, settings.max_wait_seconds) == (10, 120.5)
    assert settings.duplicate_window_seconds == 0
    assert (settings.credit_limit, settings.credits_per_image) == (20.5, 1.2)
    assert settings.max_in_flight == 3
    assert settings.callback_url == "https://edits.example.com/wan25-callbacks"
    assert settings.unknown == ()
    assert settings.allowed_hosts == ("a.example", "b.example")
    assert (settings.log_level, settings.emulator) == ("DEBUG", False)
    assert set(settings.secrets) == {SECRET, "a-token", "postgresql://u:p@h/d"}


def test_secrets_are_not_in_the_text_of_the_settings() -> None:
    settings = read(
        WAN25_API_KEY=SECRET, WAN25_SERVER_TOKEN=SECRET, WAN25_DATABASE_URL=f"postgres://{SECRET}/d"
    )
    assert SECRET not in repr(settings) + str(settings)


WRONG: list[tuple[str, str]] = [
    *(("WAN25_BASE_URL", url) for url in (
        "ai.odkkk.com", "ftp://a.example", "https://", "https://u:p@a.example", "http://a:b",
        "http://a:99999", "http://a:0", "http://[::1", "https://a.example?x=1", "https://a.example#x",
        "https://münchen.de", "https://a b.example", "https://a\tb.example",
    )),
    *(("WAN25_EMULATOR", value) for value in ("maybe", "2", "http://", "ftp://a.example")),
    *((name, value)
      for name in ("WAN25_WAIT_SECONDS", "WAN25_MAX_WAIT_SECONDS", "WAN25_DUPLICATE_WINDOW_SECONDS")
      for value in ("soon", "-1", "nan", "inf", "1e9", "25s", "1,5")),
    ("WAN25_MAX_WAIT_SECONDS", "0"),
    *((name, value) for name in ("WAN25_CREDIT_LIMIT", "WAN25_CREDITS_PER_IMAGE")
      for value in ("much", "-1", "nan", "inf")),
    *(("WAN25_CREDITS_PER_IMAGE", value) for value in ("0", "0.0", "-0")),
    ("WAN25_WAIT_SECONDS", "51"),
    *(("WAN25_MAX_IN_FLIGHT", value) for value in ("0", "-1", "1.5", "many")),
    *((name, value) for name in ("WAN25_OUTPUT_DIR", "WAN25_DATA_DIR")
      for value in ("edits", "./edits", "/", "~", "~nobody-of-that-name/edits")),
    *(("WAN25_SERVER_TOKEN", value) for value in ("${TOKEN}", "a b", "tökén", "x" * 5000)),
    *(("WAN25_DATABASE_URL", value) for value in ("sqlite:///x", "mysql://a/b", "db")),
    *(("WAN25_CALLBACK_URL", url) for url in (
        "edits.example.com/cb", "http://edits.example.com/cb", "https://edits.example.com",
        "https://edits.example.com/", "https://u:p@a.example/cb", "https://a.example/cb?x=1",
        "https://127.0.0.1/cb", "https://0x7f.1/cb", "https://10.0.0.1/cb", "https://intranet/cb",
        "https://[::1]/cb", "https://a.local/cb", "http://localhost:8787/cb",
        "https://a.example//cb", "https://a.example/../cb",
        "https://a.example/cb/.", "https://a.example/c%62", "https://a.example/c;b",
        "https://a.example/" + "c" * 2000,
    )),
    ("WAN25_LOG_LEVEL", "LOUD"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_value_is_reported_by_the_name_of_its_variable(name: str, value: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read(**{name: value})
    error = refused.value
    assert name in error.message
    assert error.message.endswith(".")
    assert error.fix.startswith("Set ")
    assert (error.code, error.charged, error.retryable) == ("invalid_settings", "no", False)


@pytest.mark.parametrize(
    "key",
    ["${user_config.api_key}", "${WAN25_API_KEY}", "{{ key }}", "YOUR_API_KEY", "sk-...",
     "a key", "schlüssel", "k" * 5000, "a\tb", "<your key>"],
)  # fmt: skip
def test_a_key_that_cannot_be_one_is_no_reason_not_to_start(key: str) -> None:
    settings = read(WAN25_API_KEY=key)
    assert settings.key is None
    assert settings.key_problem is not None
    assert settings.key_problem.startswith("WAN25_API_KEY ")
    assert key not in settings.key_problem


def test_the_key_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text(f"\n  {SECRET} \nmore\n")
    settings = read(WAN25_API_KEY_FILE=str(file))
    assert settings.key is not None
    assert settings.key.get_secret_value() == SECRET
    assert settings.secrets == (SECRET,)


def test_the_key_itself_outranks_its_file() -> None:
    settings = read(WAN25_API_KEY="direct", WAN25_API_KEY_FILE="/nowhere")
    assert settings.key is not None
    assert settings.key.get_secret_value() == "direct"


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: None, "cannot be read (no such file or directory)."),
        (lambda path: path.mkdir(), "cannot be read (is a directory)."),
        (lambda path: path.write_text(" \n"), "is empty."),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "cannot be read (not text)."),
    ],
)
def test_a_key_file_that_cannot_be_used_says_why(
    make: object, problem: str, tmp_path: Path
) -> None:
    path = tmp_path / "key"
    make(path)  # type: ignore[operator]
    settings = read(WAN25_API_KEY_FILE=str(path))
    assert settings.key is None
    assert settings.key_problem == f"The file named by WAN25_API_KEY_FILE {problem}"


def test_a_key_file_of_an_unknown_user_is_reported_too() -> None:
    settings = read(WAN25_API_KEY_FILE="~nobody-of-that-name/key")
    assert settings.key is None
    assert settings.key_problem


def test_a_wait_longer_than_the_longest_is_refused() -> None:
    with pytest.raises(SettingsError, match="50 seconds") as caught:
        read(WAN25_WAIT_SECONDS="120")
    assert "WAN25_MAX_WAIT_SECONDS" in caught.value.fix
    assert read(WAN25_WAIT_SECONDS="120", WAN25_MAX_WAIT_SECONDS="120").wait_seconds == 120


@pytest.mark.parametrize("value", ["1", "true", "YES", "on"])
def test_the_emulator_is_switched_on_by_a_word(value: str) -> None:
    settings = read(WAN25_EMULATOR=value)
    assert (settings.emulator, settings.emulator_url) == (True, None)


def test_the_emulator_may_be_one_that_runs_already() -> None:
    settings = read(WAN25_EMULATOR="http://127.0.0.1:8100/apiv1/")
    assert (settings.emulator, settings.emulator_url) == (True, "http://127.0.0.1:8100/apiv1")


TEXT = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)


@given(st.dictionaries(st.sampled_from([variable.name for variable in SETTINGS]), TEXT))
def test_any_environment_is_read_or_refused_without_quoting_secrets(
    values: dict[str, str],
) -> None:
    settings = read_or_refuse(values)
    if isinstance(settings, Settings):
        assert 0 <= (settings.wait_seconds or 0) <= settings.max_wait_seconds
        return
    for name in ("WAN25_SERVER_TOKEN", "WAN25_DATABASE_URL", "WAN25_API_KEY"):
        value = values.get(name, "").strip()
        assert len(value) < 12 or value not in settings.message + settings.fix


def read_or_refuse(values: dict[str, str]) -> Settings | SettingsError:
    try:
        return read(**values)
    except SettingsError as error:
        return error


# --- callbacks -------------------------------------------------------------------------------

LOCAL = ["http://127.0.0.1:8787/cb", "http://localhost:8787/cb", "http://[::1]:8787/cb",
         "https://127.0.0.1/cb"]  # fmt: skip


@pytest.mark.parametrize("url", LOCAL)
def test_the_emulator_may_call_back_on_this_machine_and_the_provider_may_not(url: str) -> None:
    assert read(WAN25_CALLBACK_URL=url, WAN25_EMULATOR="1").callback_url == url
    assert Settings.from_mapping({"WAN25_CALLBACK_URL": url}, emulator=True).callback_url == url
    with pytest.raises(SettingsError):
        read(WAN25_CALLBACK_URL=url)


@pytest.mark.parametrize("url", ["http://edits.example.com/cb", "http://10.0.0.1/cb"])
def test_the_emulator_too_calls_nobody_else_without_encryption(url: str) -> None:
    with pytest.raises(SettingsError):
        read(WAN25_CALLBACK_URL=url, WAN25_EMULATOR="1")


def test_the_longest_callback_address_leaves_room_for_handle_and_secret() -> None:
    url = "https://a.example/" + "c" * (2047 - 66 - 18)
    assert read(WAN25_CALLBACK_URL=url).callback_url == url
    assert len(f"{url}/edit-{'0' * 16}/{'s' * 43}") == 2047
    with pytest.raises(SettingsError, match="is longer than 1981 characters"):
        read(WAN25_CALLBACK_URL=url + "c")


# --- unknown names ---------------------------------------------------------------------------


def test_unknown_names_are_kept_to_be_reported() -> None:
    settings = read(WAN25_API_KYE=SECRET, wan25_credit_limit="1", WAN25_SAVE="off", PATH="/bin")
    assert settings.unknown == ("WAN25_API_KYE", "wan25_credit_limit")
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("WAN25_API_KYE", "WAN25_API_KEY"),
        ("WAN25_APIKEY", "WAN25_API_KEY"),
        ("wan25_credit_limit", "WAN25_CREDIT_LIMIT"),
        ("WAN25_CREDITS_LIMIT", "WAN25_CREDIT_LIMIT"),
        ("WAN25_OUTPUT_FOLDER", "WAN25_OUTPUT_DIR"),
        ("WAN25_CALLBACKS_URL", "WAN25_CALLBACK_URL"),
        ("WAN25_XYZZY", None),
        ("WAN25_", None),
    ],
)
def test_the_nearest_real_name_is_found(name: str, meant: str | None) -> None:
    assert nearest(name) == meant


def test_every_setting_is_used() -> None:
    """Its attribute is read somewhere: a setting that nothing reads does nothing."""
    package = Path(settings_module.__file__).parent
    read = {
        node.attr
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)
    }
    unused = {field.name for field in fields(Settings) if field.name not in read}
    assert unused == {"key_file"}  # its content becomes `key`
