"""What the tools promise about local images: no more than the settings of this run can keep.

Nothing is asked of the provider for it: listing the tools needs no network and no key.
"""

from __future__ import annotations

from wan25_mcp.editing.account_editor import AccountEditor
from wan25_mcp.editing.arguments import images_described


def in_description(editor: AccountEditor) -> str:
    """The sentence of `edit_image` about them."""
    if editor.has_image_host:
        return "Local images of any common format are converted."
    return (
        "Local images of any common format are converted and uploaded if the provider has a file "
        "service; else the error no_image_host says so at no charge, and only public links work."
    )


def in_argument(editor: AccountEditor, usual: str) -> str:
    """The description of `image_urls`, given the usual one."""
    if editor.reads_files:
        return usual
    return images_described("public link, or data: URI (this server reads no files)")


def in_instructions(editor: AccountEditor) -> str:
    """What the server's instructions add, with a space before it; empty if there is nothing."""
    said = "" if editor.reads_files else " This server reads no files: give links or data: URIs."
    if not editor.has_image_host:
        said += (
            " Images that are not public links need the provider's file service. After the error "
            "no_image_host, use public links only."
        )
    return said
