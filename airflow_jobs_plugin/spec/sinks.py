"""Where results go: the configuration of a sink."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    SerializationInfo,
    Tag,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from airflow_jobs_plugin.spec import plugins
from airflow_jobs_plugin.spec.base import Model, check_plain, raise_at
from airflow_jobs_plugin.spec.faults import quoted
from airflow_jobs_plugin.spec.keys import check_key, check_prefix
from airflow_jobs_plugin.spec.payload import ApiName
from airflow_jobs_plugin.spec.secrets import MASK

_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers if HTTP can carry them; else raise ``ValueError`` (values are never repeated)."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{quoted(name)} is not a header name")
        if value != value.strip() or any(ord(c) < 32 and c != "\t" or ord(c) == 127 or ord(c) > 255 for c in value):
            raise ValueError(f"the value of {quoted(name)} has characters that a header cannot carry")
    return headers


#: What says how a message is carried, and is for whoever carries it to say.
_FRAMING = frozenset({
    "connection", "content-encoding", "content-length", "expect", "host", "keep-alive", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def check_own_headers(headers: dict[str, str]) -> dict[str, str]:
    """Return the headers if a definition may add them to a delivery; else raise ``ValueError``."""
    for name in headers:
        if name.lower() in _FRAMING:
            hint = (
                "the URL says to which host it goes" if name.lower() == "host" else "it is set as the message needs it"
            )
            raise ValueError(f"{name!r} is not for a definition to say: {hint}; leave it out")
    return headers


def _is_name(host: str) -> bool:
    """Whether HTTP clients find a host of that name thinkable. May raise ``UnicodeError`` instead of saying no."""
    if host.isascii() and not host.lower().startswith("xn--"):
        return bool(host.encode("idna"))
    import idna

    if host.isascii():
        return bool(idna.decode(host))
    return bool(idna.encode(host.lower()))


def check_http_url(url: str) -> str:
    """Return the URL if it is an absolute http(s) one; else raise ``ValueError``."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        # What cannot be a name on the network would only fail when the results are to be delivered.
        if "[" in parts.netloc:
            # Of the kinds of addresses that may stand in brackets clients know one.
            IPv6Address(host)
        usable = parts.scheme in ("http", "https") and _is_name(host) and parts.port != 0
    except ValueError:  # a UnicodeError is one
        usable = False
    if not usable or any(ord(c) <= 32 or ord(c) == 127 for c in url):
        raise ValueError("should be an absolute URL such as https://example.com/hook")
    return url


#: As Airflow takes them for connections. The id becomes part of a path when a task asks Airflow for the connection.
_CONNECTION = re.compile(r"[\w#!()\-.:/\\]+")


def check_connection(conn_id: str) -> str:
    """Return the id if an Airflow connection may have it; else raise ``ValueError``."""
    if not _CONNECTION.fullmatch(conn_id) or any(part in (".", "..") for part in re.split(r"[/\\]", conn_id)):
        raise ValueError(
            "is not the id of a connection, which has letters, digits and any of _ - . : / \\ # ! ( ), and not "
            "'.' or '..' between slashes"
        )
    return conn_id


ConnId = Annotated[
    str,
    Field(min_length=1, max_length=250, json_schema_extra={"pattern": f"^{_CONNECTION.pattern}$"}),
    AfterValidator(check_connection),
]
Headers = Annotated[dict[str, str], AfterValidator(check_headers)]
HttpUrl = Annotated[
    str,
    Field(max_length=4096, json_schema_extra={"pattern": r"^[Hh][Tt][Tt][Pp][Ss]?://[^\x00-\x20\x7f]+$"}),
    AfterValidator(check_http_url),
]


class BaseSink(Model):
    """What every sink's configuration has. That of a sink of one's own is a subclass of it."""

    type: str
    skip_on_fail: bool = False
    """Leave failed items out."""
    apis_to_send: Annotated[list[ApiName], Field(min_length=1)] | None = None
    """Only results of these APIs; None: of all."""
    delivery: Literal["run", "payload"] = "run"
    """``run``: one delivery closes the run. ``payload``: one per item."""


class UnknownSink(BaseSink):
    """A stored sink of a type that is not installed here: it can be shown, and nothing else."""

    model_config = ConfigDict(extra="allow")


class WebhookSink(BaseSink):
    """A POST with a JSON body to a URL; 2xx is delivered."""

    type: Literal["webhook"]
    url: HttpUrl
    headers: Annotated[Headers, AfterValidator(check_own_headers)] = Field(default_factory=dict)
    """Sent along; not those that say how a message is carried, such as Host. Write-only: never shown again."""
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


_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_RESERVED = ("xn--", "sthree-", "amzn-s3-demo-")


def check_bucket(name: str) -> str:
    """Return the name if S3 allows it for a bucket, or for an alias of one; else raise ``ValueError``."""
    if not _BUCKET.fullmatch(name):
        raise ValueError(
            "should be a bucket's name: 3 to 63 lower-case letters, digits, '.' and '-', with a letter or digit at "
            "both ends"
        )
    if ".." in name or re.fullmatch(r"\d+(\.\d+){3}", name) or name.startswith(_RESERVED):
        raise ValueError("is no bucket's name: S3 allows none with '..', like an IP address, or that begins with xn--")
    return name


def check_endpoint(url: str) -> str:
    """Return the URL if a store can be there; else raise ``ValueError``."""
    parts = urlsplit(url)
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ValueError("should be the store's URL alone, such as https://s3.example.com; credentials have fields")
    return url


# Whatever else is in them, they go into a header.
Secret = Annotated[str, Field(min_length=1, max_length=1000), AfterValidator(check_plain)]


class S3Sink(BaseSink):
    """Objects in a bucket of any S3-compatible store. An object of the same key is overwritten."""

    type: Literal["s3"]
    bucket: Annotated[
        str,
        Field(min_length=3, max_length=63, json_schema_extra={"pattern": f"^{_BUCKET.pattern}$"}),
        AfterValidator(check_bucket),
    ]
    region: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")] | None = None
    """None: the connection's, else that of the worker's own configuration."""
    conn_id: ConnId | None = None
    """Airflow connection with the credentials; or the two keys below. Neither: what the worker itself has."""
    access_key_id: Secret | None = None
    """Write-only."""
    secret_access_key: Secret | None = None
    """Write-only."""
    key: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    """Template of the object's key; or ``prefix``. May have ``{jobId}``, ``{jobRunId}``, ``{date}`` (of the run's
    start, UTC), ``{time}``, ``{type}`` and ``{status}``; per item also ``{index}``, ``{itemId}`` and ``{api}``."""
    prefix: Annotated[str, Field(max_length=900)] | None = None
    """What keys begin with, a template as well: ``<prefix>/{jobId}/{jobRunId}.json``, per item
    ``<prefix>/{jobId}/{jobRunId}/{index}.json``."""
    endpoint: Annotated[HttpUrl, AfterValidator(check_endpoint)] | None = None
    """URL of a store other than Amazon's. None: the connection's, else Amazon's."""
    force_path_style: bool | None = None
    """Whether the bucket is in the path of URLs and not in their host. None: the connection's, else as fits."""
    format: Literal["json", "jsonl"] = "json"
    """``json``: one document. ``jsonl``: one item per line and nothing else."""

    @property
    def key_template(self) -> str:
        """The template of every key, whichever way it is given."""
        if self.key is not None:
            return self.key
        prefix = (self.prefix or "").removesuffix("/")
        name = "{jobId}/{jobRunId}/{index}" if self.delivery == "payload" else "{jobId}/{jobRunId}"
        return f"{prefix}{'/' if prefix else ''}{name}.{self.format}"

    @model_validator(mode="after")
    def _one_way_each(self) -> Self:
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("give both accessKeyId and secretAccessKey, or connId instead of them")
        if self.conn_id is not None and self.access_key_id is not None:
            raise ValueError("give connId, or accessKeyId and secretAccessKey, not both")
        if self.key is not None and self.prefix is not None:
            raise ValueError("give key or prefix, not both")
        return self

    @model_validator(mode="after")
    def _keys_stay_in_place(self) -> Self:
        for name, template, check in (("key", self.key, check_key), ("prefix", self.prefix, check_prefix)):
            if template is not None:
                try:
                    check(template, of_item=self.delivery == "payload")
                except ValueError as error:
                    raise_at("S3Sink", [((name,), str(error))])
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


#: Built in, and as such not for others to bring.
SINK_TYPES = ("webhook", "s3")

_BuiltIn = Annotated[
    Annotated[WebhookSink, Tag("webhook")] | Annotated[S3Sink, Tag("s3")],
    tagged(SINK_TYPES),
]


class _AnySink:
    """The built-in sinks, and those that other distributions bring."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.with_info_wrap_validator_function(
            _validated,
            handler.generate_schema(_BuiltIn),
            serialization=core_schema.plain_serializer_function_ser_schema(_serialized, info_arg=True),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        found = handler(schema)
        for kind in plugins.sink_types():
            try:
                model = sink_model(kind)
            except ValueError:
                # What is broken can be in no definition.
                continue
            if model is not None:
                part = handler(model.__pydantic_core_schema__)
                # Whatever the model itself says of its type: without a constant it would be all types.
                handler.resolve_ref_schema(part)["properties"]["type"] = {"const": kind, "type": "string"}
                found["oneOf"].append(part)
        return found


def sink_model(kind: str) -> type[BaseSink] | None:
    """The model of a sink that is not built in; None if no such type is installed. Raises ``ValueError``."""
    found = None if kind in SINK_TYPES else plugins.sink_class(kind)
    if found is None:
        return None
    model = getattr(found, "Spec", None)
    if not (isinstance(model, type) and issubclass(model, BaseSink)):
        raise ValueError(
            f"the sink type {kind!r} comes from {found.__module__}.{found.__qualname__}, which needs an inner class "
            "Spec that is a subclass of airflow_jobs_plugin.spec.sinks.BaseSink"
        )
    return model


def _validated(value: Any, built_in: ValidatorFunctionWrapHandler, info: ValidationInfo) -> BaseSink:
    kind = value.get("type") if isinstance(value, dict) else None
    if not isinstance(kind, str) or kind in SINK_TYPES:
        return value if isinstance(value, BaseSink) else built_in(value)
    if not (info.context or {}).get("masked"):
        return _plugged_in(kind, value, info.context)
    try:
        return _plugged_in(kind, value, info.context)
    except ValueError:
        # Stored, and valid when it was. That its masked values are not, or that only other components of this Airflow
        # have its plug-in, is no reason not to show the job.
        return UnknownSink.model_validate(value)


def _plugged_in(kind: str, value: Any, context: Any) -> BaseSink:
    model = sink_model(kind)
    if model is None:
        known = ", ".join(dict.fromkeys((*SINK_TYPES, *plugins.sink_types())))
        raise PydanticCustomError("unknown_type", "needs a 'type' that is one of: {known}", {"known": known})
    return model.model_validate(value, context=context)


def _serialized(sink: BaseSink, info: SerializationInfo) -> Any:
    return sink.model_dump(mode=info.mode, by_alias=bool(info.by_alias), exclude_none=info.exclude_none)


Sink = Annotated[BaseSink, _AnySink]

__all__ = [
    "SINK_TYPES",
    "BaseSink",
    "Headers",
    "HttpUrl",
    "S3Sink",
    "Sink",
    "UnknownSink",
    "WebhookSink",
    "signing_key",
    "sink_model",
    "tagged",
]
