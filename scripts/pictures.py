"""Makes the README's pictures from a real run of `wan25-mcp demo` in a terminal.

    python -m scripts.pictures           run the demo, write docs/pictures, badges included
    python -m scripts.pictures --check   write nothing; exit 1 if the demo prints something else now

Nothing is drawn by hand: `terminal.svg` replays what the demo wrote, at the speed at which it wrote
it, and ends as the screen ended. `before.jpg` and `after.jpg` are its input and its result. Only
the home folder in a path is replaced. Needs a pseudo-terminal, so it does not run on Windows.
"""

from __future__ import annotations

import os
import re
import shlex
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

from PIL import Image

from scripts.badges import FOLDER, ROOT, badges
from scripts.recording import Screen, Shown, record, rows_over_time

COMMAND: Final = ("wan25-mcp", "demo", "--prompt", "Paint it as a moonlit night")
COLUMNS: Final = 95
HOME: Final = "/home/me"
"""What the picture shows in place of this machine's folder."""

PICTURE_WIDTH: Final = 720
SECONDS_TO_TYPE: Final = 1.0
"""The prompt and the command stand there for so long before the first line appears."""


@dataclass(frozen=True)
class Demo:
    """One run of the demo."""

    screens: list[Screen]
    result: Image.Image


def run_demo() -> Demo:
    """Run the demo in a terminal, in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        pictures = Path(home) / "Pictures"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("WAN25_")},
            "XDG_PICTURES_DIR": str(pictures),
            "TERM": "xterm-256color",
        }
        command = [sys.executable, "-m", "wan25_mcp", *COMMAND[1:]]
        screens = record(command, environment, replace=(home, HOME), columns=COLUMNS)
        (saved,) = pictures.rglob("*.png")
        with Image.open(saved) as image:
            return Demo(screens, image.convert("RGB"))


# --- the terminal ---------------------------------------------------------------------------

CHARACTER: Final = 8.4
LINE: Final = 20
MARGIN: Final = 18
TITLE: Final = 36
_STYLE: Final = """
text{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;
fill:#d7dce5;white-space:pre}
.prompt{fill:#7ee2a8}.title{fill:#8b93a5;font-size:13px}.still{animation:wait 0s}
.moving{visibility:hidden}
@keyframes wait{from,to{visibility:hidden}}@keyframes pass{from,to{visibility:visible}}
@media (prefers-reduced-motion:reduce){.still,.moving{animation:none!important}}
"""


def terminal(screens: list[Screen]) -> str:
    """The recording as an SVG that plays once. Where nothing moves, it shows the last screen."""
    rows = [[Shown(f"$ {shlex.join(COMMAND)}", 0, None)], *rows_over_time(screens)]
    width = round(2 * MARGIN + COLUMNS * CHARACTER)
    height = TITLE + len(rows) * LINE + MARGIN
    lines = [line for number, row in enumerate(rows) for line in _row(number, row)]
    dots = "".join(
        f'<circle cx="{MARGIN + 4 + 20 * place}" cy="18" r="6" fill="{colour}"/>'
        for place, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img" aria-label="wan25-mcp demo">',
            f"<style>{_STYLE}</style>",
            f'<rect x=".5" y=".5" width="{width - 1}" height="{height - 1}" rx="10" '
            'fill="#161a23" stroke="#3a4150"/>',
            dots,
            f'<text class="title" x="{width / 2:g}" y="23" text-anchor="middle">'
            "wan25-mcp demo, against the emulator</text>",
            *lines,
            "</svg>\n",
        ]
    )


def _row(number: int, row: list[Shown]) -> Iterator[str]:
    y = TITLE + (number + 1) * LINE - 4
    for shown in row:
        if not shown.text.strip():
            continue
        begins = f"{shown.begins + SECONDS_TO_TYPE:.2f}s" if number else "0s"
        if shown.ends is None:
            motion = f'class="still" style="animation-duration:{begins}"'
        else:
            motion = (
                f'class="moving" style="animation:pass {shown.ends - shown.begins:.2f}s {begins}"'
            )
        text = escape(shown.text, quote=False)
        if not number:
            text = re.sub(r"^\$", '<tspan class="prompt">$</tspan>', text)
        # Each line is as wide as its characters, whatever font the reader has.
        length = f'textLength="{len(shown.text) * CHARACTER:.1f}"'
        yield f'<text x="{MARGIN}" y="{y}" {length} xml:space="preserve" {motion}>{text}</text>'


# --- the command ----------------------------------------------------------------------------


def before_and_after(result: Image.Image) -> dict[str, Image.Image]:
    """The demo's picture and its result, in one size."""
    with Image.open(ROOT / "wan25_mcp" / "assets" / "picture.jpg") as picture:
        size = (PICTURE_WIDTH, PICTURE_WIDTH * picture.height // picture.width)
        both = {"before.jpg": picture.convert("RGB"), "after.jpg": result}
        return {name: image.resize(size) for name, image in both.items()}


def said(svg: str) -> list[str]:
    """The lines at the end of a recording, without what is different in each run."""
    lines = re.findall(r'class="still"[^>]*>(.*)</text>', svg)
    return [re.sub(r"\S*\d\S*", "#", line) for line in lines]


def run(arguments: list[str]) -> int:
    """The command; returns its exit status."""
    if arguments not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    demo = run_demo()
    svg = terminal(demo.screens)
    path = FOLDER / "terminal.svg"
    if arguments:
        if said(svg) == said(path.read_text(encoding="utf-8")):
            return 0
        print("The demo prints something else now. Run: python -m scripts.pictures")
        return 1
    FOLDER.mkdir(exist_ok=True)
    for drawing, text in {path: svg, **badges()}.items():
        drawing.write_text(text, encoding="utf-8")
    for name, image in before_and_after(demo.result).items():
        image.save(FOLDER / name, quality=85, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
