"""What the server says of itself to hosts that show it: its icon and its website."""

from __future__ import annotations

from typing import Final

from mcp_types import Icon

WEBSITE: Final = "https://ai.odkkk.com"
"""Where the service is explained, and where keys and credits are had."""

_PNG: Final = (
    "iVBORw0KGgoAAAANSUhEUgAAADAAAAAwAgMAAAAqbBEUAAAADFBMVEUAAABbS9v/////xD2hHmE+AAAAAXRSTlMA"
    "QObYZgAAAMlJREFUeNqNkTEOwjAMRZ+tVEJMYejOUTxwAAYqscFROAlih4Ej9D4snRASFWVI0qZQJDK9F9s/UQLZ"
    "EqginlGKtL9G8UkcikU+CCrDvKmLpEu85tHqB3bjSoLZLBMAKY0KkA33nUIRmPkptnUXuO+ltPIGMD9uu+noR/sR"
    "/Ye8mp9t9WTF57LC9SLCIgsw68WxwJL4MBLEYqCGbwEXxX1dR6L4vGKZNIEm3uAZ6ApSrPvCc9zWDtxoN0it1Ik7"
    "NB0DLZqS4cpovQFQxyFT9hWp0gAAAABJRU5ErkJggg=="
)
"""A picture in a frame with a star, of 48 x 48 px. It is small because servers name themselves in
each answer of the newer protocol."""

ICONS: Final = [
    Icon(src=f"data:image/png;base64,{_PNG}", mime_type="image/png", sizes=["48x48"]),
]
