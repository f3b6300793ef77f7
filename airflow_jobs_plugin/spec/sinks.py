"""Where results go: the configuration of a sink."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, Tag, ValidationInfo, model_validator

from airflow_jobs_plugin.spec.base import Model
from airflow_jobs_plugin.spec.payload import ApiName
from airflow_jobs_plugin.spec.secrets import MASK

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers if HTTP can carry them; else raise ``ValueError`` (values are never repeated)."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if value != value.strip() or any(ord(c) < 32 and c != "\t" or ord(c) == 127 or ord(c) > 255 for c in value):
            raise ValueError(f"the value of {name!r} has characters that a header cannot carry")
    return headers


def check_http_url(url: str) -> str:
    """Return the URL if it is an absolute http(s) one; else raise ``ValueError``."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        # What cannot be a name on the network would only fail when the results are to be delivered.
        usable = parts.scheme in ("http", "https") and bool(host.encode("idna")) and parts.port != 0
    except ValueError:  # a UnicodeError is one
        usable = False
    if not usable or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise ValueError("should be an absolute URL such as https://example.com/hook")
    return url


Headers = Annotated[dict[str, str], AfterValidator(check_headers)]
HttpUrl = Annotated[
    str,
    Field(max_length=4096, json_schema_extra={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\x00-\x20\x7f]+$"}),
    AfterValidator(check_http_url),
]


class _Sink(Model):
    skip_on_fail: bool = False
    """Leave failed items out."""
    apis_to_send: Annotated[list[ApiName], Field(min_length=1)] | None = None
    """Only results of these APIs; None: of all."""
    delivery: Literal["run", "payload"] = "run"
    """``run``: one delivery closes the run. ``payload``: one per item."""


class WebhookSink(_Sink):
    """A POST with a JSON body to a URL; 2xx is delivered."""

    type: Literal["webhook"]
    url: HttpUrl
    headers: Headers = Field(default_factory=dict)
    """Sent along. Write-only: never shown again."""
    secret: Annotated[str, Field(min_length=1, max_length=500)] | None = None
    """Signs deliveries as Standard Webhooks says (``whsec_`` and base64, or the bare base64). Write-only."""

    @model_validator(mode="after")
    def _secret_is_base64(self, info: ValidationInfo) -> Self:
        # A definition without its secrets is valid where they are not needed.
        if self.secret is not None and not (self.secret == MASK and (info.context or {}).get("masked")):
            signing_key(self.secret)
        return self


def signing_key(secret: str) -> bytes:
    """The key bytes of a Standard Webhooks secret. Raises ``ValueError`` if it is not base64."""
    import base64
    import binascii

    try:
        key = base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("the webhook secret should be base64, usually with 'whsec_' in front")
    return key


class S3Sink(_Sink):
    """Objects in a bucket of any S3-compatible store."""

    type: Literal["s3"]
    bucket: Annotated[str, Field(min_length=3, max_length=255)]
    region: str | None = None
    conn_id: Annotated[str, Field(min_length=1, max_length=250)] | None = None
    """Airflow connection with the credentials; or the two keys below."""
    access_key_id: str | None = None
    secret_access_key: str | None = None
    key: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Template of the object's key; or ``prefix``."""
    prefix: Annotated[str, Field(max_length=900)] | None = None
    endpoint: HttpUrl | None = None
    force_path_style: bool | None = None
    format: Literal["json", "jsonl"] = "json"

    @model_validator(mode="after")
    def _one_way_each(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("give both accessKeyId and secretAccessKey, or connId instead of them")
        if self.conn_id is not None and self.access_key_id is not None:
            raise ValueError("give connId, or accessKeyId and secretAccessKey, not both")
        if self.key is not None and self.prefix is not None:
            raise ValueError("give key or prefix, not both")
        return self


def tagged(kinds: tuple[str, ...], default: str | None = None) -> Discriminator:
    """Choose the model of a union by ``type``; an unknown type is an error that lists the known ones."""

    def kind(value: Any) -> str | None:
        found = value.get("type", default) if isinstance(value, dict) else getattr(value, "type", None)
        return found if isinstance(found, str) and found in kinds else None

    return Discriminator(
        kind,
        custom_error_type="unknown_type",
        custom_error_message="needs a 'type' that is one of: " + ", ".join(kinds),
    )


Sink = Annotated[
    Annotated[WebhookSink, Tag("webhook")] | Annotated[S3Sink, Tag("s3")],
    tagged(("webhook", "s3")),
]

__all__ = ["Headers", "HttpUrl", "S3Sink", "Sink", "WebhookSink", "signing_key", "tagged"]
