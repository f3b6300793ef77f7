"""Where deliveries may go: names, addresses, and that the connection is made to what was judged."""

from __future__ import annotations

import io
import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_jobs_plugin.demo.receiver import WebhookReceiver
from airflow_jobs_plugin.demo.server import Reply
from airflow_jobs_plugin.errors import DeliveryError
from airflow_jobs_plugin.sinks import destinations, sink_for
from airflow_jobs_plugin.sinks.base import Delivery
from airflow_jobs_plugin.sinks.destinations import Destinations, environment_proxy, is_public
from airflow_jobs_plugin.spec import S3Sink, WebhookSink

from .conftest import KEYS, Answers, Store

BODY = b'{"a": "\xc3\xa4"}'


def delivery() -> Delivery:
    return Delivery("msg_1", io.BytesIO(BODY), len(BODY), names={"jobId": "j", "jobRunId": "r"})


def hook(url: str, source: Any = "API") -> Any:
    return sink_for(WebhookSink(type="webhook", url=url), source)


def refusal(sink: Any) -> str:
    with pytest.raises(DeliveryError) as caught:
        sink.deliver(delivery())
    assert not caught.value.retriable, "to try again would not help"
    return str(caught.value)


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as running:
        yield running


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Makes a host known under addresses, one list per look-up; returns the list of look-ups."""
    real, looked_up = socket.getaddrinfo, []

    def know(host: str, *answers: list[str]) -> list[str]:
        todo = list(answers)

        def look_up(name: Any, port: Any = None, *args: Any, **kwargs: Any) -> Any:
            if name != host:
                # Whatever else is asked for has to be an address.
                return real(str(ip_address(name)), port, *args, **kwargs)
            looked_up.append(name)
            found = todo.pop(0) if len(todo) > 1 else todo[0]
            return [entry for address in found for entry in real(address, port, *args, **kwargs)]

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        return looked_up

    return know


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "::", "::1", "fe80::1", "fe80::1%lo",
        "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1", "::ffff:10.0.0.1", "::ffff:8.8.8.8",
        "64:ff9b::a00:1", "2002:a00:1::", "no address",
    ],
)  # fmt: skip
def test_addresses_that_are_not_of_the_public_network(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_public_network(address: str) -> None:
    assert is_public(address)


def test_only_jobs_of_files_deliver_to_private_addresses(receiver: WebhookReceiver) -> None:
    hook(receiver.url, "CODE").deliver(delivery())
    (got,) = receiver.ledger.all()
    assert got.raw == BODY
    port = receiver.port
    hosts = ("127.0.0.1", "localhost", "127.1", "2130706433", "0.0.0.0", "[::1]", "[::ffff:127.0.0.1]", "localhost.")
    for host in hosts:
        said = refusal(hook(f"http://{host}:{port}/"))
        assert "[jobs] sink_private_addresses" in said, host
        assert "'all' allows it" in said
    assert len(receiver.ledger) == 1, "nothing was sent"


@pytest.mark.parametrize(
    ("rule", "source", "allowed"),
    [
        ("files", "CODE", True),
        ("files", "API", False),
        ("all", "API", True),
        ("ALL", "API", True),
        ("none", "CODE", False),
    ],
)
def test_whose_private_addresses_is_a_setting(
    rule: str, source: Any, allowed: bool, receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_PRIVATE_ADDRESSES", rule)
    if allowed:
        hook(receiver.url, source).deliver(delivery())
        assert receiver.ledger.all()[0].raw == BODY
    else:
        assert "sink_private_addresses" in refusal(hook(receiver.url, source))


def test_a_setting_that_is_none_of_them_lets_nothing_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_PRIVATE_ADDRESSES", "yes")
    assert "'files', 'all' or 'none'" in refusal(hook("http://127.0.0.1:1/", "CODE"))


@pytest.mark.parametrize(
    ("patterns", "host", "allowed"),
    [
        ("", "anything.example", True),
        ("hooks.example.com", "HOOKS.example.com", True),
        ("hooks.example.com", "hooks.example.com.", True),
        ("hooks.example.com", "hooks.example.com.evil.example", False),
        ("*.example.com, other.test", "a.b.example.com", True),
        ("*.example.com, other.test", "other.test", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "evilexample.com", False),
        ("h?oks.[a-z]xample.com", "hooks.example.com", False),
        ("bücher.example", "xn--bcher-kva.example", True),
        ("xn--bcher-kva.example", "bücher.example", True),
        # As HTTP clients have it, and not as Python's own codec does, to which these two are one.
        ("faß.example", "fass.example", False),
        ("fass.example", "faß.example", False),
        ("faß.example", "faß.example", True),
        ("FAß.example", "xn--fa-hia.example", True),
        ("::1", "[::1]", True),
    ],
)
def test_hosts_are_judged_by_patterns(patterns: str, host: str, allowed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_HOSTS", patterns)
    if allowed:
        Destinations().check_host(f"https://{host}:8443/hook")
    else:
        with pytest.raises(DeliveryError, match="sink_hosts") as caught:
            Destinations().check_host(f"https://user:hunter2@{host}:8443/hook")
        assert not caught.value.retriable
        assert "hunter2" not in str(caught.value)


def test_one_private_address_among_others_is_enough(names: Any) -> None:
    names("mixed.test", ["8.8.8.8", "10.1.2.3"])
    said = refusal(hook("http://mixed.test/"))
    assert "mixed.test" in said
    assert "10.1.2.3" not in said, "what a name means in a private network is nobody's business"


def test_a_host_that_is_not_found_now_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    with pytest.raises(DeliveryError, match="could not be found: Temporary failure") as caught:
        hook("http://hooks.test/").deliver(delivery())
    assert caught.value.retriable


def test_a_name_that_changes_its_meaning_gains_nothing(
    receiver: WebhookReceiver, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destinations, "is_public", lambda address: address == "127.0.0.1")
    looked_up = names("hooks.test", ["127.0.0.1"], ["127.0.0.2"])
    hook(f"http://hooks.test:{receiver.port}/hook?x=1").deliver(delivery())
    (got,) = receiver.ledger.all()
    assert looked_up == ["hooks.test"], "found once, and not again for connecting"
    assert (got.raw, got.path, got.headers["host"]) == (BODY, "/hook?x=1", f"hooks.test:{receiver.port}")


def test_the_next_address_is_tried_where_one_cannot_be_reached(
    receiver: WebhookReceiver, names: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(destinations, "is_public", lambda _: True)
    names("hooks.test", ["127.0.0.2", "127.0.0.1"])
    hook(f"http://hooks.test:{receiver.port}/").deliver(delivery())
    assert receiver.ledger.all()[0].raw == BODY
    names("away.test", ["127.0.0.2", "127.0.0.3"])
    with pytest.raises(DeliveryError, match="could not be reached") as caught:
        hook(f"http://away.test:{receiver.port}/").deliver(delivery())
    assert caught.value.retriable


class Authority:
    """Makes certificates; ``path`` is its own, to be trusted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tests")])
        self.path = folder / "authority.pem"
        ours = self._signed(self._name, self._key.public_key(), x509.BasicConstraints(ca=True, path_length=None))
        self.path.write_bytes(ours.public_bytes(serialization.Encoding.PEM))

    def context(self, host: str) -> ssl.SSLContext:
        """That of a server of this name."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._signed(subject, key.public_key(), x509.SubjectAlternativeName([x509.DNSName(host)]))
        file = self._folder / f"{host}.pem"
        file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _signed(self, subject: x509.Name, key: Any, extension: x509.ExtensionType) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(subject).issuer_name(self._name).public_key(key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=1))
        return (
            builder.not_valid_after(now + timedelta(days=1))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )


def test_tls_is_for_the_name_also_where_the_connection_is_to_an_address(
    receiver: WebhookReceiver, names: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, asked = Authority(tmp_path), []
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.path))
    monkeypatch.setattr(destinations, "is_public", lambda _: True)
    context = authority.context("hooks.test")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    server = receiver._server
    assert server is not None
    server.socket = context.wrap_socket(server.socket, server_side=True)

    names("hooks.test", ["127.0.0.1"])
    hook(f"https://hooks.test:{receiver.port}/").deliver(delivery())
    assert receiver.ledger.all()[0].raw == BODY
    assert asked == ["hooks.test"]

    names("others.test", ["127.0.0.1"])
    with pytest.raises(DeliveryError, match="(?i)certificate") as caught:
        hook(f"https://others.test:{receiver.port}/").deliver(delivery())
    assert caught.value.retriable
    assert len(receiver.ledger) == 1


def test_a_proxy_of_the_environment_is_used_and_is_no_way_around_the_rules(
    receiver: WebhookReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", receiver.url)
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_HOSTS", "only-the-proxy-knows.test 127.* 2130706433")
    hook("http://only-the-proxy-knows.test/hook").deliver(delivery())
    (got,) = receiver.ledger.all()
    assert got.headers["host"] == "only-the-proxy-knows.test"
    assert got.raw == BODY
    assert "sink_private_addresses" in refusal(hook("http://127.0.0.1/"))
    assert "sink_private_addresses" in refusal(hook("http://2130706433/"))
    assert "sink_hosts" in refusal(hook("http://elsewhere.test/"))
    assert len(receiver.ledger) == 1
    monkeypatch.setenv("NO_PROXY", ".test")
    assert environment_proxy("http://only-the-proxy-knows.test/") is None
    assert environment_proxy("http://elsewhere.example/") == receiver.url
    monkeypatch.setenv("HTTP_PROXY", "gopher://x")
    assert "the environment's proxy cannot be used" in refusal(hook("http://127.0.0.1/", "CODE"))


def s3(endpoint: str, source: Any = "API", **fields: Any) -> Any:
    written = {"type": "s3", "bucket": "results", "endpoint": endpoint, "key": "k", **KEYS, **fields}
    return sink_for(S3Sink.model_validate(written), source)


def test_a_store_of_ones_own_is_judged_too(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "sink_private_addresses" in refusal(s3(store.url))
    monkeypatch.setenv("AIRFLOW_CONN_STORE", f'{{"conn_type": "aws", "extra": {{"endpoint_url": "{store.url}"}}}}')
    named = S3Sink(type="s3", bucket="results", conn_id="store")
    assert "sink_private_addresses" in refusal(sink_for(named, "API"))
    monkeypatch.setenv("AIRFLOW__JOBS__SINK_HOSTS", "*.example.com")
    assert "sink_hosts" in refusal(s3(store.url, "CODE"))
    assert "'s3.eu-west-1.amazonaws.com'" in refusal(
        sink_for(S3Sink(type="s3", bucket="a.b.c", region="eu-west-1", **_snake(KEYS)), "CODE")
    )
    monkeypatch.delenv("AIRFLOW__JOBS__SINK_HOSTS")
    assert store.bodies() == {}
    s3(store.url, "CODE").deliver(delivery())
    assert store.bodies() == {"k": BODY}


def test_the_host_of_a_bucket_is_judged_and_connected_to_as_judged(names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    real = socket.getaddrinfo
    # The store itself is public, and the name below it is not.
    answers = {"s3.test": "8.8.8.8", "results.s3.test": "10.0.0.1"}
    monkeypatch.setattr(socket, "getaddrinfo", lambda name, *a, **k: real(answers.get(name, name), *a, **k))
    assert "'results.s3.test'" in refusal(s3("http://s3.test", forcePathStyle=False))


def test_a_store_without_tls_is_connected_to_at_the_judged_address(names: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(destinations, "is_public", lambda address: address != "127.0.0.2")
    # Once before the client is made, once for the request; for connecting it would be another one.
    looked_up = names("s3.test", ["127.0.0.1"], ["127.0.0.1"], ["127.0.0.2"])
    with Answers(Reply(200, b"")) as server:
        host = f"s3.test:{server.port}"
        s3(f"http://{host}", forcePathStyle=True).deliver(delivery())
        (got,) = server.ledger.all()
    assert (got.raw, got.path, got.headers["host"]) == (BODY, "/results/k", host)
    assert looked_up == ["s3.test"] * 2


def _snake(keys: dict[str, str]) -> dict[str, str]:
    return {"access_key_id": keys["accessKeyId"], "secret_access_key": keys["secretAccessKey"]}


def test_the_name_that_is_looked_up_is_the_one_that_is_asked_for(
    receiver: WebhookReceiver, names: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_up = names("xn--fa-hia.example", ["8.8.8.8"])
    monkeypatch.setattr(destinations, "is_public", lambda address: True)
    url = f"http://faß.example:{receiver.port}/"
    assert Destinations("API").addresses(url) == ["8.8.8.8"]
    assert looked_up == ["xn--fa-hia.example"]
    assert httpx.URL(url).raw_host == b"xn--fa-hia.example"
