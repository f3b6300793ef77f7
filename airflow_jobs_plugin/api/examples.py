"""What the documentation shows beside the schemas: examples of bodies, and the headers of answers."""

from __future__ import annotations

from typing import Any

from fastapi.openapi.models import Example

EXAMPLE: dict[str, Any] = {
    "id": "nightly-prices",
    "payload": [{"apiName": "list-products", "parameters": {"page": 1}}],
    "configuration": {"retry": {"maximumAttempts": 5, "initialInterval": "1s"}, "maxConcurrentRequests": 5},
    "schedule": {"calendars": [{"hour": 2}], "timezone": "Europe/Berlin"},
    "sink": {"type": "webhook", "url": "https://example.com/hook"},
}

EXAMPLES: dict[str, Example] = {
    "nightly": {"summary": "Every night, to a webhook", "value": EXAMPLE},
    "on trigger": {
        "summary": "On triggers only, without a sink",
        "value": {
            "id": "close-accounts",
            "payload": [
                {"apiName": "close-account", "parameters": {"account": 17}, "requestTimeout": 60},
                {"apiName": "close-account", "parameters": {"account": 18}, "retry": {"maximumAttempts": 1}},
            ],
            "configuration": {"maxConcurrentRequests": 2, "toleratedFailurePercentage": 50},
        },
    },
    "calendars": {
        "summary": "Working hours, and every 55 minutes",
        "value": {
            "id": "watch-prices",
            "payload": [{"apiName": "list-products", "parameters": {"page": 1}}],
            "schedule": {
                "intervals": [{"every": "55m", "offset": "5m"}],
                "calendars": [
                    {"dayOfWeek": {"start": "MONDAY", "end": "FRIDAY"}, "hour": {"start": 9, "end": 17, "step": 2}},
                    {"month": ["MARCH", "SEPTEMBER"], "dayOfMonth": 1, "comment": "twice a year"},
                ],
                "skip": [{"month": "DECEMBER", "dayOfMonth": [24, 25, 26], "hour": "*"}],
                "timezone": "Europe/Berlin",
                "jitter": "30s",
            },
        },
    },
}
CHANGES: dict[str, Example] = {
    "nightly": {"summary": "Another webhook", "value": {name: EXAMPLE[name] for name in EXAMPLE if name != "id"}}
}

PREVIEWS: dict[str, Example] = {
    "berlin": {
        "summary": "The next five nights",
        "value": {"schedule": EXAMPLE["schedule"], "after": "2026-11-24T00:00:00Z", "count": 5},
    }
}

TRIGGERS: dict[str, Example] = {
    "own": {"summary": "The job's own payload", "value": {}},
    "override": {
        "summary": "Another payload, for this run only",
        "value": {"payload": [{"apiName": "list-products", "parameters": {"page": 2}}], "note": "page 2 was missing"},
    },
}

APPENDS: dict[str, Example] = {
    "details": {
        "summary": "Two items that the first one led to",
        "value": {"payload": [{"apiName": "product-details", "parameters": {"id": n}} for n in (7, 8)], "parent": 0},
    }
}

TERMINATIONS: dict[str, Example] = {"reason": {"summary": "With a reason", "value": {"reason": "wrong prices"}}}

LINE = (
    '{"apiInfo": {"name": "list-products", "parameters": {"page": 1}, "runId": "5c1f…", '
    '"result": {"status": "completed", "result": {"products": []}, "statusCode": 200}}, "workspaceId": "airflow", '
    '"project": {"id": "default", "name": "default"}, "projectJob": {"id": "nightly-prices"}, '
    '"projectJobRun": {"id": "manual__2026-11-24…"}}\n'
)
ROWS = (
    "index,api,parameters,status,attempts,statusCode,result,error,message\r\n"
    '0,list-products,"{""page"": 1}",completed,1,200,"{""products"": []}",,\r\n'
)


def header(name: str, description: str, kind: str = "string", **schema: Any) -> dict[str, Any]:
    """A header that an answer always has, for its documentation."""
    return {name: {"description": description, "required": True, "schema": {"type": kind, **schema}}}


ETAG = header("ETag", "Of the definition, for If-Match.")
LOCATION = header("Location", "The job's path, relative to this one.", format="uri-reference")
TOTAL = header("X-Total-Count", "How many there are, on all pages.", "integer", minimum=0)
DELETED = header("X-Deleted-Runs", "How many runs went with it.", "integer", minimum=0)
FILE = header("Content-Disposition", "Names a file.")
