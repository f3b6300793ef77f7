"""What inputs are made from: valid definitions with every field there is, and values that have broken programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from airflow_jobs_plugin.store.documents import parse_yaml

ROOT = Path(__file__).parents[2]
#: Stands in every field that holds a secret; no message, name or answer may repeat it.
SECRET = "hunter2hunter2"

WRITTEN: list[dict[str, Any]] = [
    {
        "id": "nightly-prices",
        "payload": [
            {"api": "list-products", "parameters": {"page": 1, "q": "a b", "all": True, "tags": ["x", 1.5, None]}},
            {
                "apiName": "v2/close account",
                "parameters": {"id": 7, "deep": {"list": [[1], {"k": "v"}]}},
                "retry": {"maximumAttempts": 5, "initialInterval": "2s", "maximumInterval": "1m"},
                "requestTimeout": 60.5,
            },
        ],
        "configuration": {
            "retry": {
                "maximumAttempts": 3,
                "initialInterval": "1s",
                "maximumInterval": "1h",
                "backoffCoefficient": 2.5,
            },
            "maxConcurrentRequests": 5,
            "requestTimeout": 600,
            "itemsPerTask": 10,
            "maxRuns": 100,
            "toleratedFailurePercentage": 12.5,
            "proxy": f"http://user:{SECRET}@proxy.example:3128",
        },
        "schedule": {
            "intervals": [{"every": "7d", "offset": "3h"}, {"every": 3_300_000}],
            "calendars": [
                {"dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"}, "hour": {"start": 9, "end": 17}, "minute": "0"},
                {"year": "*", "month": ["JAN", 6, {"start": 7, "end": 12, "step": 2}], "dayOfMonth": 30, "second": 59},
            ],
            "skip": [{"month": "DECEMBER", "dayOfMonth": 25, "hour": "*", "minute": "*", "comment": "holidays"}],
            "timezone": "Europe/Berlin",
            "jitter": "30s",
            "startAt": "2026-03-01T00:00:00Z",
            "endAt": "2099-01-01",
        },
        "target": {
            "type": "http",
            "connId": "prices_api",
            "method": "POST",
            "path": "/v2/{api}/run?key=" + SECRET,
            "parametersAs": "json",
            "headers": {"X-Team": "ours", "Authorization": f"Bearer {SECRET}"},
            "sendRunToken": True,
        },
        "sink": {
            "type": "webhook",
            "url": f"https://user:{SECRET}@example.com:8443/hook?token={SECRET}",
            "headers": {"Authorization": f"Bearer {SECRET}"},
            "secret": "aHVudGVyMmh1bnRlcjI=",
            "skipOnFail": True,
            "apisToSend": ["list-products"],
            "delivery": "payload",
        },
        "proxy": {"version": "v1", "url": f"http://user:{SECRET}@proxy.example:3128"},
        "auth_session": {"id": "shop", "checkAttempts": 3, "password": SECRET},
        "notifications": [
            {"type": "webhook", "url": "https://example.com/n", "headers": {"X-Key": SECRET}},
        ],
    },
    {
        "id": "to-s3",
        "payload": [{"api_name": "a:b", "parameters": {}}, {"api": "/x//y", "parameters": {"f": 1e300}}],
        "schedule": {
            "calendars": [{"day_of_month": 31, "hour": "*"}],
            "skip": [{"day_of_week": "sun"}],
            "timezone": "America/New_York",
        },
        "sink": {
            "type": "s3",
            "bucket": "results.example",
            "region": "eu-central-1",
            "accessKeyId": SECRET,
            "secretAccessKey": SECRET,
            "key": "runs/{date}/{jobId}/{jobRunId}/{index}-{api}.json",
            "endpoint": "https://s3.example.com",
            "forcePathStyle": True,
            "format": "jsonl",
            "delivery": "payload",
        },
        "target": {"type": "http", "method": "GET", "path": "/{api}?fixed=1", "parametersAs": "query"},
    },
    {
        "id": "prefixed",
        "payload": [{"api": "x", "parameters": {"a": "ä€😀"}}],
        "schedule": {"intervals": [{"every": "1s"}], "skip": [{"hour": "*", "minute": {"start": 0, "end": 58}}]},
        "sink": {"type": "s3", "bucket": "abc", "connId": "store", "prefix": "in/{jobId}", "delivery": "run"},
        "target": {
            "type": "run-api",
            "connId": "runs",
            "startPath": "/run/start",
            "resultPath": "/run/{runId}/result",
            "cancelPath": "/run/{runId}/{api}",
            "pollInterval": "500ms",
            "maxPollInterval": "10s",
            "headers": {"X-Key": SECRET},
            "sendRunToken": False,
        },
        "proxy": f"user:{SECRET}@proxy.example",
    },
    {
        "id": "python",
        "payload": [{"api": "pkg.mod:function", "parameters": {"n": 1}}, {"api": "plain"}],
        "target": {"type": "python", "module": "pkg.mod"},
        "schedule": {"calendars": [{"hour": {"start": 0, "end": 23, "step": 5}, "minute": [0, 15, "30", 45]}]},
        "configuration": {"request_timeout": 1, "maximum_concurrent_requests": 10_000},
    },
    {"id": "least", "payload": [{"api": "a"}]},
]

#: What parameters get, names, and everything else where nothing more fitting is drawn.
VALUES: list[Any] = [
    None, True, False, 0, -1, 1, 2, 0.0, -0.0, 0.5, 1e-320, 1e308, float("nan"), float("inf"), float("-inf"),
    2**31, 2**53, 2**63, 2**64, -(2**63) - 1, 10**18, 10**19, 10**300, 10**4000, -(10**4000),
    "", " ", "\0", "a\0b", "\r\n", "a\r\nX-Evil: 1", "\n", "\x1b[31mred", "\x7f", "\x85", "\u2028", "\u202eevil", "\ufeff",
    "\ud800", "\udfff", "a\ud800b", "\ud83d\ude00", "\uffff", "é", "e\u0301", "ﬁ", "İ", "٣", "１", "²", "𝟙", "😀",
    ".", "..", "../..", "../../etc/passwd", "/etc/passwd", "..\\..", "%2e%2e/", "%00", "%0d%0aX: 1", "~", "C:\\x", "//evil.example",
    "*", "**", "***", "***1", "{api}", "{runId}", "{jobId}", "{}", "{", "}", "{{7*7}}", "{0.__class__}", "${jndi:x}", "%s%n",
    "<script>alert(1)</script>", "' OR 1=1 --", "nan", "NaN", "Infinity", "-inf", ".nan", "1e999", "0x10", "1_000", "null", "true",
    "__proto__", "__class__", "__type", "__var", "<<", "=", "a" * 250, "a" * 1025, "x" * 9000, "é" * 300, "9" * 5000, "\u0000" * 3,
    [], {}, [[]], [{}], {"": ""}, {"a": None}, [None] * 20, {"type": "http"}, {"start": 1}, "2026-11-26", "1s", "-1s", "100y",
]  # fmt: skip
KEYS = [
    "", " ", "\0", "a\0", "\r\n", "X\r\nY", "\ud800", "__proto__", "<<", "type", "id", "*", "api", "apiName", "payload",
    "headers", "password", "parameters", "k" * 300, "\u202ek", "payloads", "sinks", "a.b", "a[0]", "é", "start", "True", "1",
    "null", "~", "?", "=", "0", "key with space", "'", '"', "secret", "Authorization",
]  # fmt: skip

#: By name of field. A value for each that is nearly right, or right and far out.
BY_NAME: dict[str, list[Any]] = {
    "id": ["../x", "a/b", "a\n", "a.job", "x" * 200, "x" * 201, "-", "--help", "ａ", "a\0", ".", "CON"],
    "api": [
        "../admin", "a/../b", "a/./b", "/a", "a/", "//evil.example/a", "http://evil.example", "a?b=c#d", "a\r\nX: y", "a%2e%2e/b", "%2e%2e",
        "a\\b", "a;b", "@evil", "a:b", ":b", "a:", "pkg.__x__:y", "\u2024\u2024/x", "．．/x", "a\u2028b", "a" * 200, "{api}", "{runId}", "é/😀",
        "...", "a//b", "/", "/.", "./",
    ],
    "every": ["0", 0, 1, 999, 1000, "1s", "0.9995s", 1e308, 2**53, "36525d", "36526d", "1ms", "-1s", "1e3", ".5s", "5.s", "1 s", "1\ns"],
    "offset": ["0", -1, 999, 1000, "7d", "1y", 2**53, 1.5],
    "timezone": [
        "Europe/Berlin", "../../etc/passwd", "/etc/localtime", "America", "America/", "europe/berlin", "UTC\0", "Africa/Monrovia",
        "Pacific/Apia", "Australia/Lord_Howe", "Antarctica/Troll", "Factory", "posixrules", "right/UTC", "Etc/GMT+12", "x" * 5000, "GMT0", "a/" * 2000,
    ],
    "startAt": [
        "0001-01-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59.999999-14:00", "9998-12-31", "2026-02-30", "1900-01-01", "20260101",
        "2026-W01-1", "2026-01-01T24:00", "2026-01-01T00:00:00+23:59:59.999999", "2100-12-31T23:59:59", "1969-12-31T23:59:59.999", 0, 1e12,
    ],
    "jitter": ["0", "1ms", "100y", 2**53 - 1, "1d"],
    "year": [1999, 2000, 2100, 2101, "*", {"start": 2000, "end": 2100, "step": 100}, [2026] * 50],
    "month": ["FEB", "ju", "jun", "MAYBE", 0, 13, {"start": "DEC", "end": "JAN"}, {"start": 1, "end": 12, "step": 11}, " mar "],
    "dayOfMonth": [30, 31, 32, 0, "*", "031", {"start": 29, "end": 31}],
    "dayOfWeek": ["SUN", 7, "s", "Saturday", {"start": "SUNDAY", "end": "SATURDAY", "step": 6}],
    "hour": [24, "*", "23", {"start": 0, "end": 23}, {"start": "0", "end": "23", "step": "1"}, {"start": 0, "step": 2}, {"end": 3}],
    "minute": [60, "*", {"start": 0, "end": 59, "step": 59}, {"start": 0, "end": 10**30}, {"start": 1, "end": "9" * 5000}, {"start": 0, "end": 5, "step": 10**4000}],
    "headers": [
        {"X": "a\r\nY: b"}, {"X\r\nY": "1"}, {"": "x"}, {"X": ""}, {"X": " x"}, {"X": "\u00ff"}, {"X": "\u0100"}, {"X:": "1"}, {"Host": "evil"},
        {"content-length": "0"}, {"Transfer-Encoding": "chunked"}, {"X": "\0"}, {"x": "1", "X": "2"}, {"Idempotency-Key": "mine"}, {"X": "a\tb"}, {"X": "\ud800"},
    ],
    "url": [
        "http://example.com", "HTTP://EXAMPLE.COM", "https://example.com\\@evil.example/", "https://example.com@evil.example/", "https://[::1]/", "https://[::1%25eth0]/",
        "https://[v1.x]/", "http://0x7f.1/", "http://2130706433/", "http://faß.de/", "http://exam\u3002ple.com/", "http://ex\u200bample.com", "http://a..b/", "http://a.b./",
        "http://" + "a" * 64 + ".de", "http://example.com:0", "http://example.com:65536", "http://example.com:", "http://example.com:٣", "http:///x", "http:example.com",
        "//example.com", "ftp://example.com", "javascript:alert(1)", "http://example.com/\r\nX: y", "http://exa mple.com", "http://example.com/é", "http://example.com/?" + "?" * 3000 + "=",
        "http://[", "http://]", "http://[]/", "http://%65xample.com/", "http://ex%00ample.com/", "http://\ud800/", "http://xn--a/", "http://-a.com/", "http://_x.example/", "http://a_b/",
        "http://user:p@ss@host/", "http://u:p@[::ffff:127.0.0.1]:80/", "http://example.com#@evil.example/", "http://example.com?@evil.example/", "http://١٢٧.٠.٠.١/", "http://①②⑦.0.0.1/",
        "http://example.com/" + "a" * 4070, "http://ℯxample.com/", "http://a" + ".a" * 130 + "/", "http://1.2.3.4.5/", "http://example.com:80:80/", "http://@/", "http://:80/", "http://\u0130.com/",
    ],
    "proxy": ["http://", "socks5://x", "://", "a b", "http://p:0", "http://u:p@h\r\nX: y", "http://\ud800", "http://[::1", "p" * 2001, {"url": 1}, {"url": "\0"}, {}, {"url": "http://h:99999"}],
    "bucket": ["..", "a..b", "192.168.0.1", "xn--a", "Abc", "a/b", "abc\n", "a-", "a" * 63, "a" * 64],
    "region": ["eu-central-1", "x/../y", "evil.example/#", "a\n", "é"],
    "key": [
        "/abs", "../x", "a/../b", "a/./b", "a//b", "a/", "{api}/../x", "{api}", "{index}{api}", ".{api}/{index}", "{api}.{api}/{index}", "{date}/{time}{index}", "{jobId", "{ jobId}",
        "{jobId!r}", "{jobId.__class__}", "{itemId}\n", "{itemId}\\x", "é{index}", "{index}" * 140, "{api}" * 200 + "{index}", "a" * 1024, "\ud800{index}", "{index}\u202e", ".{index}", "{index}.",
    ],
    "endpoint": ["https://s3.example.com/path", "https://u:p@s3.example.com", "https://s3.example.com/?x", "https://s3.example.com#", "http://169.254.169.254/"],
    "connId": ["../variables/x", "a/b", "a\n", "\0", "a b", "é", "x" * 250, "a?b", "a#b", "..", ".", "a/../b", "%2e%2e", "{api}"],
    "path": [
        "/", "//evil.example/{api}", "/../{api}", "/.{api}", "/{api}.", "/..{api}/x", "/{api}/..", "/%2e%2e/{api}", "/%2E./{api}", "/{api}\r\nX: y", "/{api}#f", "/{api}?a=b", "/{runId}", "/{api}{api}", "/a b",
        "/é", "/@evil", "/;{api}", "/\\{api}", "/" + "a" * 1000, "/{api}?" + "?" * 900 + "=", "{api}", "http://evil.example/{api}", "/{{api}}", "/?{api}", "/?/../{api}", "/x#/../{api}", "/#", "/%", "/%zz",
    ],
    "module": ["os", "os.path", "a..b", "__x__", "a\n", "é", "a" * 301, "1a", "𝐨𝐬"],
    "secret": ["whsec_", "whsec_!!!!", "YQ", "YQ==", "é", "a" * 501, "***", "\0"],
    "maximumAttempts": [0, 1, 1000, 1001, 5.0, "3", True],
    "backoffCoefficient": [0.99, 1, 1e308, 1e400, "2", 10**309, 10**4000],
    "initialInterval": [0, "0", 2**53 - 1, "285000y", "300000y", 1e15, "1" * 100, "." + "9" * 98, "9" * 99 + "y"],
    "requestTimeout": [0, 1e-320, 604800, 604801, 1e308, "60"],
    "toleratedFailurePercentage": [-0.0, 100, 100.1, 1e-320, 33],
    "maxRuns": [0, 1, 10**18, 10**4000, 1.0, 1e300],
    "itemsPerTask": [0, 1, 100_000, 100_001, 2.0],
    "maxConcurrentRequests": [0, 10_000, 10_001, True],
    "type": ["http", "run-api", "python", "webhook", "s3", "HTTP", "http\0", "x" * 9000, ["http"], {"a": 1}, "airflow"],
    "comment": ["c" * 200, "c" * 201, "\0", "\ud800", "\x1b[2J", "\n"],
}  # fmt: skip
for _name, _like in {
    "apiName": "api", "endAt": "startAt", "second": "minute", "prefix": "key", "startPath": "path", "resultPath": "path", "cancelPath": "path",
    "maximumInterval": "initialInterval", "pollInterval": "initialInterval", "maxPollInterval": "initialInterval", "accessKeyId": "connId",
    "secretAccessKey": "secret",
}.items():  # fmt: skip
    BY_NAME[_name] = BY_NAME[_like]
#: Names of fields in any of their spellings, to be put where they do not belong.
NAMES = sorted(BY_NAME)


def definitions() -> list[dict[str, Any]]:
    """Valid definitions: every field, the examples that the plugin comes with, and the vectors of schedules."""
    found = [json.loads(json.dumps(definition)) for definition in WRITTEN]
    for folder in ("airflow_jobs_plugin/demo/jobs", "dags/jobs"):
        for path in sorted((ROOT / folder).glob("*.job.yaml")):
            found.append({"id": path.name.partition(".")[0], **parse_yaml(path.read_text("utf-8"))})
    return found
