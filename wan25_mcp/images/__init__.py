"""Images on this machine: results are saved before their links die."""

from wan25_mcp.images.downloading import (
    DOWNLOAD_SECONDS,
    NotDownloaded,
    download,
    ending_of,
    open_downloads,
)
from wan25_mcp.images.previews import make_previews, shows_images
from wan25_mcp.images.saving import (
    NotSaved,
    check_directory,
    default_directory,
    output_directory,
    save_image,
    save_images,
)

__all__ = [
    "DOWNLOAD_SECONDS",
    "NotDownloaded",
    "NotSaved",
    "check_directory",
    "default_directory",
    "download",
    "ending_of",
    "make_previews",
    "open_downloads",
    "output_directory",
    "save_image",
    "save_images",
    "shows_images",
]
