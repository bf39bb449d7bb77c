"""What was given to `edit`: which words are images, and which is the prompt.

A misspelt file name must never become the prompt of a paid edit. So the last word is the prompt
only if it is neither a file that exists, nor a link, nor anything that looks like a path.
"""

from __future__ import annotations

import glob
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from wan25_mcp.errors import InvalidRequest
from wan25_mcp.inputs.misspelt import as_written
from wan25_mcp.inputs.nearest import IMAGES
from wan25_mcp.inputs.read import MAX_FILE_BYTES, is_data, is_link
from wan25_mcp.provider.models import MAX_IMAGES_IN

STDIN: Final = "-"
_MAX_PROMPT_BYTES: Final = 100_000
_PIECE: Final = 1 << 20
_USAGE: Final = 'For example: wan25-mcp edit house.jpg "Make it night"'
_BEGINS_PATH: Final = re.compile(r"[~.]?[.]?[\\/]|[A-Za-z]:[\\/]")


@dataclass(frozen=True, slots=True)
class Given:
    """The images, as absolute paths, links or URIs, and the prompt."""

    images: tuple[str, ...]
    prompt: str


def read(words: Sequence[str], prompt: str | None, *, each: bool = False) -> Given:
    """Tell images and prompt apart.

    Args:
        words: The arguments of the command.
        prompt: As given with `-p`; None: it is the last argument.
        each: Whether every image is edited on its own: then there may be any number of them, and
            a folder stands for the images in it.

    Raises:
        InvalidRequest: A part is missing, or there are too many images.
    """
    named = list(words)
    if prompt is None:
        if not named or _is_image(named[-1]):
            raise _no_prompt(named)
        prompt = named.pop()
    else:
        _check_no_second_prompt(named)
    text = _from_file(prompt)
    images = _images(named, each=each)
    if not images:
        raise InvalidRequest("No image was given.", fix=f"{_USAGE}.")
    if len(images) > MAX_IMAGES_IN and not each:
        raise InvalidRequest(
            f"IMAGE must be 1 or {MAX_IMAGES_IN} images, and {len(images)} were given.",
            fix="Add --each to edit every image on its own.",
        )
    return Given(tuple(images), text)


def _is_image(word: str) -> bool:
    """Whether a word names an image, or was meant to."""
    if word == STDIN or is_link(word) or is_data(word) or word[:5].lower() == "file:":
        return True
    if as_written(word) is not None or os.path.lexists(Path(word).expanduser()):
        return True
    has_suffix = word.lower().endswith(IMAGES)
    has_separator = any(sign in word for sign in {"/", os.sep}) and not re.search(r"\s", word)
    return has_suffix or has_separator or _BEGINS_PATH.match(word) is not None


def _check_no_second_prompt(words: Sequence[str]) -> None:
    """
    Raises:
        InvalidRequest: The last word is meant as a prompt rather than as an image.
    """
    last = words[-1] if words else STDIN
    is_sentence = re.search(r"\s", last) is not None
    if _is_image(last) or (glob.has_magic(last) and (not is_sentence or glob.glob(last))):  # noqa: PTH207
        return
    if is_sentence or len(words) > 1:
        raise InvalidRequest(
            f'"{last[:80]}" is not a file, and the prompt was given with --prompt as well.',
            fix="Give the prompt once, or correct the name of the image.",
        )


def _no_prompt(words: Sequence[str]) -> InvalidRequest:
    last = words[-1] if words else ""
    if not last:
        return InvalidRequest(
            "Neither an image nor a prompt was given.",
            fix=f"{_USAGE}. All options: `wan25-mcp edit --help`.",
        )
    if len(words) > 1 and _is_also_a_word(last):
        kind = "folder" if Path(last).is_dir() else "file"
        return InvalidRequest(
            f'"{last}" is a {kind} here, and no prompt was given.',
            fix=f'If it is the prompt, give it with --prompt: --prompt "{last}"',
        )
    if not last or not _may_be_misspelt(last):
        return InvalidRequest("No prompt was given.", fix=f"{_USAGE}. Or give it with --prompt.")
    from wan25_mcp.inputs.folders import AllowedFolders
    from wan25_mcp.inputs.nearest import nearest_image

    path = absolute(last)
    near = nearest_image(path, AllowedFolders.at([Path(path).parent]))
    meant = f'Did you mean "{near}"? ' if near else ""
    return InvalidRequest(
        f'"{last[:80]}" looks like a file, which does not exist, and no prompt was given.',
        fix=f"{meant}Correct the name and add a prompt. If this is the prompt, give it with "
        "--prompt.",
        code="image_not_found",
    )


def _is_also_a_word(word: str) -> bool:
    """Whether a file or folder is named like a prompt."""
    return re.fullmatch(r"[\w\s-]+", word) is not None and os.path.lexists(word)


def _may_be_misspelt(word: str) -> bool:
    if word == STDIN or is_link(word) or is_data(word) or word[:5].lower() == "file:":
        return False
    return as_written(word) is None and not os.path.lexists(Path(word).expanduser())


# --- the prompt -----------------------------------------------------------------------------


def _from_file(prompt: str) -> str:
    """The prompt, or the content of the file that it names after an @; @@ stands for @."""
    if prompt.startswith("@@"):
        return prompt[1:]
    if not prompt.startswith("@") or prompt == "@":
        return prompt
    path = Path(prompt[1:]).expanduser()
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_PROMPT_BYTES)
        return content.decode("utf-8-sig").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise InvalidRequest(
            f'The prompt cannot be read from "{path}" ({(reason or "unknown").lower()}).',
            fix="Check the name after the @. A prompt that begins with @ is given as @@.",
        ) from None


# --- the images -----------------------------------------------------------------------------


def absolute(image: str) -> str:
    """Make a relative path absolute: the editor accepts only absolute ones."""
    if is_link(image) or is_data(image) or image[:5].lower() == "file:":
        return image
    path = str(Path(image).expanduser().absolute())
    # What is no path is refused with its reason, unless a file has that name.
    return image if as_written(image) and not os.path.lexists(path) else path


def _images(words: Sequence[str], *, each: bool) -> list[str]:
    if words.count(STDIN) > 1:
        raise InvalidRequest("- was given twice.", fix="Only one image can be read from stdin.")
    if each and STDIN in words:
        raise InvalidRequest(
            "An image cannot be read from stdin with --each.", fix="Save it as a file first."
        )
    found: list[str] = []
    for word in words:
        found += _meant_by(word, each=each)
    return list(dict.fromkeys(found)) if each else found


def _meant_by(word: str, *, each: bool) -> list[str]:
    path = absolute(word)
    if word == STDIN or not Path(path).is_absolute():
        return [word if word == STDIN else path]
    if os.path.isdir(path):  # noqa: PTH112  text
        return _in_folder(path, word, each=each)
    if glob.has_magic(word) and not os.path.lexists(path):
        # As a shell does. The ones of Windows do not.
        matches = [one for one in glob.glob(path) if os.path.isfile(one)]  # noqa: PTH113, PTH207
        if not matches:
            raise InvalidRequest(f'No file matches "{word}".', fix="Check the pattern.")
        return sorted(matches, key=_in_order)
    return [path]


def _in_folder(path: str, word: str, *, each: bool) -> list[str]:
    if not each:
        raise InvalidRequest(
            f'"{word}" is a folder.', fix="Give an image, or add --each for every image in it."
        )
    names = [name for name in os.listdir(path) if name.lower().endswith(IMAGES)]  # noqa: PTH208
    visible = [os.path.join(path, name) for name in names if not name.startswith(".")]  # noqa: PTH118
    if not visible:
        raise InvalidRequest(f'There is no image in the folder "{word}".', fix="Check the folder.")
    return sorted(visible, key=_in_order)


def _in_order(path: str) -> list[tuple[int, str]]:
    """Sorts house-2 before house-10."""
    parts = re.split(r"(\d+)", path.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


@contextmanager
def stdin_as_file(images: Sequence[str]) -> Iterator[list[str]]:
    """The images, with a file in place of `-`, which has what stdin had.

    Raises:
        InvalidRequest: stdin is a terminal, empty, or larger than an image may be.
    """
    if STDIN not in images:
        yield list(images)
        return
    if sys.stdin.isatty():
        raise InvalidRequest(
            "- stands for an image on stdin, and nothing is piped into it.",
            fix="For example: wan25-mcp edit - --prompt TEXT < house.jpg",
        )
    with tempfile.TemporaryDirectory(prefix="wan25-") as folder:
        path = Path(folder, "stdin")
        _copy_stdin(path)
        yield [str(path) if image == STDIN else image for image in images]


def _copy_stdin(path: Path) -> None:
    size = 0
    with path.open("wb") as file:
        while piece := sys.stdin.buffer.read(_PIECE):
            size += file.write(piece)
            if size > MAX_FILE_BYTES:
                raise InvalidRequest(
                    f"The image on stdin is larger than {MAX_FILE_BYTES // 1_000_000} MB.",
                    code="image_unusable",
                    fix="Give a smaller copy.",
                )
    if not size:
        raise InvalidRequest(
            "stdin is empty.", code="image_unusable", fix="Pipe an image into the command."
        )
