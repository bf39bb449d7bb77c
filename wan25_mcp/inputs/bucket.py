"""The user's own bucket (S3, Google Cloud Storage, Azure), with signed links that expire.

Objects are named by their content, so an identical image is the same object. Nothing is listed or
deleted; a life-cycle rule of the bucket can delete old objects. obstore reads credentials and
endpoints from the environment (`AWS_…`, `GOOGLE_…`, `AZURE_…`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import anyio.to_thread

from wan25_mcp.errors import NotPublished, SettingsError
from wan25_mcp.errors.codes import CODES
from wan25_mcp.inputs.conform import Conformed
from wan25_mcp.inputs.publisher import MARGIN_SECONDS, Published, published_name

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, RetryConfig, S3Store

LIFE_SECONDS: Final = 24 * 3600.0
"""Lifetime of a signed link, the same as that of result links. The provider downloads within
minutes. A longer life saves uploads of the same image, a shorter one limits the use of a leak."""

SCHEMES: Final = ("s3", "gs", "az")
_RETRIES: Final[RetryConfig] = {"max_retries": 2, "retry_timeout": timedelta(seconds=60)}
_ONE_QUICK_TRY: Final[RetryConfig] = {"max_retries": 0, "retry_timeout": timedelta(seconds=5)}


class Bucket:
    """A bucket that signs links.

    Args:
        url: `s3://bucket/prefix`, `gs://…` or `az://…`.
        clock: Epoch seconds.

    Raises:
        SettingsError: The URL is not a bucket's.
    """

    def __init__(self, url: str, *, clock: Callable[[], float]) -> None:
        self._url = _checked(url)
        self._clock = clock
        self._store: S3Store | GCSStore | AzureStore | None = None

    @property
    def place(self) -> str:
        """See `Publisher`."""
        return f"bucket {self._url}"

    async def publish(self, image: Conformed, name: str) -> Published:
        """See `Publisher`."""
        began = self._clock()
        # In a thread, because obstore's own async functions support asyncio only. An abandoned
        # upload may still finish.
        link = await anyio.to_thread.run_sync(
            partial(self._put, image, name), abandon_on_cancel=True
        )
        return Published(link, began + LIFE_SECONDS - MARGIN_SECONDS)

    async def check(self) -> None:
        """Check that the `buckets` extra is installed and finds credentials to sign links with.

        The bucket itself is not used: reading may be forbidden where writing is allowed, and
        writing would leave an object. The cloud's service for credentials may be queried.

        Raises:
            NotPublished: With what to install or set.
        """
        await anyio.to_thread.run_sync(self._sign_nothing, abandon_on_cancel=True)

    def _sign_nothing(self) -> None:
        obstore = _obstore()
        try:
            store = _opened(self._url, _ONE_QUICK_TRY)
            obstore.sign(store, "GET", "no-such-object", timedelta(seconds=60))
        except Exception:  # noqa: BLE001 - whatever failed, no link can be signed
            raise NotPublished(code="missing_credentials") from None

    def _put(self, image: Conformed, name: str) -> str:
        obstore = _obstore()
        path = published_name(image)
        try:
            store = self._store = self._store or _opened(self._url, _RETRIES)
            kind = {"Content-Type": image.mime_type}
            obstore.put(store, path, image.content, attributes=kind, use_multipart=False)
            link: str = obstore.sign(store, "GET", path, timedelta(seconds=LIFE_SECONDS))
        except Exception as error:  # noqa: BLE001 - whatever failed, there is no upload
            raise _failed(name, type(error).__name__) from None
        return link


def _checked(url: str) -> str:
    try:
        parts = urlsplit(url)
        is_bucket = parts.scheme in SCHEMES and parts.hostname and "@" not in parts.netloc
    except ValueError:
        is_bucket = False
    if not is_bucket or parts.query or parts.fragment or not url.isprintable():
        raise SettingsError(
            "WAN25_BUCKET_URL is not the URL of a bucket, or has a user name or a query.",
            fix="Set it to s3://bucket/prefix, gs://bucket/prefix or az://container/prefix. Set "
            "credentials in the cloud's own variables.",
        )
    return url.rstrip("/")


def _obstore() -> Any:
    try:
        import obstore
    except ImportError:
        raise NotPublished(code="missing_extra") from None
    return obstore


def _opened(url: str, retry: RetryConfig) -> S3Store | GCSStore | AzureStore:
    from obstore.store import AzureStore, GCSStore, S3Store

    # No client options: they would replace those from the environment, such as AWS_ALLOW_HTTP.
    match urlsplit(url).scheme:
        case "s3":
            return S3Store.from_url(url, retry_config=retry)
        case "gs":
            return GCSStore.from_url(url, retry_config=retry)
        case _:
            return AzureStore.from_url(url, retry_config=retry)


_CAUSES: Final = {
    "PermissionDeniedError": "the credentials may not write there",
    "UnauthenticatedError": "the credentials are not accepted",
    "FileNotFoundError": "there is no such bucket",
    "NotSupportedError": "it cannot sign links",
}


def _failed(name: str, kind: str) -> NotPublished:
    """Describe an error by its kind alone: a cloud's own text contains addresses and key ids."""
    why = _CAUSES.get(kind, "it could not be reached, or its credentials are not set")
    return NotPublished(
        f'The image "{name}" was not uploaded to the bucket: {why}.',
        code="upload_refused" if kind in _CAUSES else "upload_failed",
        fix=CODES["missing_credentials"].fix,
    )
