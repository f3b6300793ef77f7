"""The S3 sink: an object in a bucket of any S3-compatible store, through the amazon provider's hook.

The same key again overwrites the object, so a try that is repeated leaves one object and the last one whole.
"""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks.base import Delivery, Format, Window, one_line
from airflow_jobs_plugin.sinks.destinations import Destinations, environment_proxy
from airflow_jobs_plugin.sinks.identity import refused_connection, refused_identity
from airflow_jobs_plugin.spec import S3Sink
from airflow_jobs_plugin.spec.keys import fill
from airflow_jobs_plugin.spec.secrets import Redactor

if TYPE_CHECKING:
    from airflow.providers.amazon.aws.hooks.s3 import S3Hook
    from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

#: Seconds for connecting, and for every single read and write.
CONNECT_TIMEOUT = 10.0
TIMEOUT = 60.0
#: How often one request is made. Twice: a long upload is not to begin anew for one lost part. The window has the rest.
REQUEST_TRIES = 2
#: Seconds for which a client is used again. Making one takes a fifth of a second of the processor, so that a sink that
#: puts item by item would do little else; and what the connection says may change.
CLIENT_SECONDS = 60.0
#: Bodies above this size are uploaded in parts of this size, one after the other: what of a body is in memory at a
#: time are copies of one part while it is read and signed, less than three times its size in all: 24 MiB. (Above 80
#: GB parts grow, as S3 takes 10,000 of them.)
PART_BYTES = 8 * 1024 * 1024

#: What S3 refuses with a 4xx and may grant a moment later.
_PASSING = {
    "BadDigest",  # damaged on the way
    "ConditionalRequestConflict",
    "IncompleteBody",
    "NoSuchUpload",  # somebody cleaned up an upload in parts while it was under way
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeTooSkewed",  # clocks are set right
    "RequestTimeout",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "XAmzContentSHA256Mismatch",
}

#: What a store refuses with whatever is put there: not this object, but the bucket, the keys or the account.
_FOR_ALL = {
    "AccountProblem",
    "AllAccessDisabled",
    "AuthorizationHeaderMalformed",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidBucketName",
    "InvalidSecurity",
    "InvalidToken",
    "MethodNotAllowed",
    "NoSuchBucket",
    "NotSignedUp",
    "PermanentRedirect",
    "SignatureDoesNotMatch",
}


class S3:
    """Puts deliveries into a bucket."""

    window = Window(total=timedelta(minutes=10))

    def __init__(self, spec: S3Sink, destinations: Destinations | None = None) -> None:
        self._spec = spec
        self._destinations = destinations or Destinations()
        self.format: Format = spec.format
        self._lock = threading.Lock()
        self._kept: tuple[Any, float] | None = None
        self._secrets: list[str | None] = [spec.access_key_id, spec.secret_access_key]

    def destination(self) -> str:
        return f"s3://{self._spec.bucket}/{self._spec.key_template}"

    def deliver(self, delivery: Delivery) -> dict[str, Any]:
        import boto3.s3.transfer
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            to = f"s3://{self._spec.bucket}/{fill(self._spec.key_template, delivery.names)}"
        except ValueError as error:
            raise DeliveryError(str(error), retriable=False) from None
        if refused := refused_identity(self._spec, self._destinations.source):
            raise DeliveryError(f"the sink {refused}", for_all=True)
        making = True
        try:
            client = self._client()
            making = False
            client.upload_fileobj(
                _LeftOpen(delivery.body),
                self._spec.bucket,
                to.removeprefix(f"s3://{self._spec.bucket}/"),
                ExtraArgs={"ContentType": delivery.content_type},
                Config=boto3.s3.transfer.TransferConfig(
                    multipart_threshold=PART_BYTES,
                    multipart_chunksize=PART_BYTES,
                    use_threads=False,
                    preferred_transfer_client="classic",
                ),
            )
        except ClientError as error:
            self._kept = None  # what is wrong may be its credentials
            raise _refused(error, to, self._secrets, making) from None
        except (BotoCoreError, ResponseParserError) as error:
            self._kept = None
            raise _unreached(error, to, self._secrets) from None
        return {"to": to, "id": delivery.id}

    def _client(self) -> Any:
        """A boto3 client, made lately. For any thread, and so is the client."""
        with self._lock:
            now = time.monotonic()
            kept = self._kept
            if kept is None or now - kept[1] > CLIENT_SECONDS:
                kept = self._kept = (self._make_client(), now)
            return kept[0]

    def _make_client(self) -> Any:
        """A boto3 client whose every request keeps to the rules; what is secret about it goes into ``_secrets``."""
        from airflow.providers.amazon.aws.hooks.s3 import S3Hook
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            hook = S3Hook(aws_conn_id=self._spec.conn_id, region_name=self._spec.region)
            connection = self._connection(hook)
            if refused := refused_connection(
                self._spec, self._destinations.source, has_credentials=_has_credentials(connection)
            ):
                raise DeliveryError(f"the sink {refused}", for_all=True)
            self._secrets += [
                connection.aws_access_key_id,
                connection.aws_secret_access_key,
                connection.aws_session_token,
            ]
            given = connection.get_service_endpoint_url("s3")
            if given is not None:
                # Before anything is made of it, such as a token of a role's.
                self._check(given)
            theirs = connection.botocore_config or Config()
            options: dict[str, Any] = dict(theirs.s3 or {})
            if self._spec.force_path_style is not None:
                options["addressing_style"] = "path" if self._spec.force_path_style else "virtual"
            ours = {
                "connect_timeout": CONNECT_TIMEOUT,
                "read_timeout": TIMEOUT,
                "retries": {"total_max_attempts": REQUEST_TRIES, "mode": "standard"},
                "s3": options,
            }
            if given is not None:
                # Many stores other than Amazon's do not take the trailing checksums that boto3 sends of its own accord.
                ours |= {
                    name: getattr(theirs, name) if getattr(theirs, name, None) else "when_required"
                    for name in ("request_checksum_calculation", "response_checksum_validation")
                }
            client = hook.get_client_type(config=theirs.merge(Config(**ours)))
        except (DeliveryError, ClientError, BotoCoreError):
            raise
        except Exception as error:
            if _is_airflow_away(error):
                raise
            # Its text may repeat parts of the connection.
            raise DeliveryError(
                f"the connection {self._spec.conn_id!r} cannot be used ({type(error).__name__}); it should be readable "
                "for this task, of the type aws, and its extra a JSON object",
                for_all=True,
            ) from None
        proxies = theirs.proxies or {}

        def guard(request: Any, **_: Any) -> None:
            self._guard(request, custom=given is not None, proxied=bool(proxies))

        client.meta.events.register_first("before-send.s3", guard)
        return client

    def _connection(self, hook: S3Hook) -> AwsConnectionWrapper:
        """What the hook knows of credentials and store, with the definition's own in it. Never stored."""
        from airflow.providers.amazon.aws.utils.connection_wrapper import AwsConnectionWrapper

        if self._spec.access_key_id is not None:
            made = AwsConnectionWrapper.from_connection_metadata(
                login=self._spec.access_key_id, password=self._spec.secret_access_key
            )
            hook.conn_config = AwsConnectionWrapper(conn=made, region_name=self._spec.region)
        connection = hook.conn_config
        if self._spec.conn_id is not None and not connection:
            # The hook would go on with whatever the worker itself may do.
            raise DeliveryError(
                f"there is no connection {self._spec.conn_id!r}; create it with `airflow connections add "
                f"{self._spec.conn_id} --conn-type aws --conn-login KEY_ID --conn-password SECRET_KEY`",
                for_all=True,
            )
        if self._spec.endpoint is not None:
            service = {**connection.get_service_config("s3"), "endpoint_url": self._spec.endpoint}
            connection.service_config = {**connection.service_config, "s3": service}
        return connection

    def _check(self, url: str) -> None:
        if environment_proxy(url) is None:
            self._destinations.addresses(url)
        else:
            self._destinations.check_by_proxy(url)

    def _guard(self, request: Any, *, custom: bool, proxied: bool) -> None:
        """Judge the very host of a request, which may have the bucket's name in front. Raises ``DeliveryError``."""
        if not custom:
            # Amazon's own names, which in a private network may well have private addresses.
            self._destinations.check_host(request.url)
        elif proxied or environment_proxy(request.url) is not None:
            self._destinations.check_by_proxy(request.url)
        elif addresses := self._destinations.addresses(request.url):
            parts = urlsplit(request.url)
            if parts.scheme == "http" and "Host" not in request.headers:
                # To an address that has been judged. With TLS the host's certificate sees to that.
                address = next((a for a in addresses if ":" not in a), f"[{addresses[0]}]")
                request.headers["Host"] = parts.netloc
                request.url = parts._replace(netloc=address + (f":{parts.port}" if parts.port else "")).geturl()


def _has_credentials(connection: AwsConnectionWrapper) -> bool:
    return bool(connection.aws_access_key_id or connection.profile_name or connection.role_arn)


class _LeftOpen:
    """A body from its start to its end. The upload closes what it is given; the body may be needed again."""

    def __init__(self, body: IO[bytes]) -> None:
        body.seek(0)
        self._body = body
        self.read, self.seek, self.tell = body.read, body.seek, body.tell

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        pass


def _refused(error: Any, to: str, secrets: list[str | None], making: bool) -> DeliveryError:
    """What to say of a refusal. ``making``: it came before anything was sent, as when a role could not be assumed."""
    said: dict[str, Any] = error.response.get("Error", {})
    meta = error.response.get("ResponseMetadata", {})
    status, code = meta.get("HTTPStatusCode"), str(said.get("Code", ""))
    passing = not isinstance(status, int) or status >= 500 or status in (307, 408, 429) or code in _PASSING
    text = _told(f"{code}: {said.get('Message', '')}", secrets)
    return DeliveryError(
        f"{to} was refused with {status}, {text}",
        status_code=status,
        retriable=passing,
        for_all=not passing and (making or code in _FOR_ALL),
    )


def _unreached(error: Exception, to: str, secrets: list[str | None]) -> DeliveryError:
    from botocore.exceptions import (
        ConnectionError,
        CredentialRetrievalError,
        HTTPClientError,
        IncompleteReadError,
        MetadataRetrievalError,
        ParamValidationError,
    )
    from botocore.parsers import ResponseParserError

    if isinstance(error, ResponseParserError):
        # Its text has the whole answer.
        return DeliveryError(f"{to}: what answered does not speak S3, or broke off")
    passing = isinstance(
        error,
        (ConnectionError, HTTPClientError, IncompleteReadError, CredentialRetrievalError, MetadataRetrievalError),
    )
    words = "could not be reached" if passing else "could not be written"
    # Such as that there are no credentials; what is wrong with one key alone is a parameter.
    for_all = not passing and not isinstance(error, ParamValidationError)
    return DeliveryError(f"{to} {words}: {_told(str(error), secrets)}", retriable=passing, for_all=for_all)


def _told(text: str, secrets: list[str | None]) -> str:
    # Stores repeat what they were sent, and what they say is logged, stored and shown.
    return one_line(Redactor([secret for secret in secrets if secret])(text))


def _is_airflow_away(error: Exception) -> bool:
    """Whether Airflow could not be asked for the connection, and may be a moment later."""
    from airflow.sdk.exceptions import AirflowRuntimeError

    return isinstance(error, (AirflowRuntimeError, ConnectionError, TimeoutError))
