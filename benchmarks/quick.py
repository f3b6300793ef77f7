"""An API that answers after a while and counts, in a process of its own.  Run: python benchmarks/quick.py PORT

``POST /{api}`` with ``{"seconds": s, "bytes": b, "grow": n}``; ``GET /stats`` says what was called how often.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections import Counter

from aiohttp import web

#: Text that compresses about as well as JSON does.
NOISE = "".join(f"{random.Random(n).getrandbits(40):010x} some text, " for n in range(20_000))

calls: Counter[str] = Counter()
now = 0
most = 0
first = last = 0.0


async def call(request: web.Request) -> web.Response:
    """Any API."""
    global now, most, first, last
    parameters = await request.json()
    # The peer of a benchmark sends none.
    calls[request.headers.get("Idempotency-Key", "")] += 1
    now += 1
    most = max(most, now)
    first = first or time.time()
    try:
        if seconds := parameters.get("seconds"):
            await asyncio.sleep(seconds)
        return web.json_response({"n": parameters.get("n"), "text": NOISE[: parameters.get("bytes", 0)]})
    finally:
        now -= 1
        last = time.time()


async def stats(request: web.Request) -> web.Response:
    """What has happened, and with ``?forget`` nothing any more."""
    global most, first, last
    found = {
        "calls": calls.total(),
        "items": len(calls),
        "repeated": sum(n > 1 for n in calls.values()),
        "most_at_once": most,
        "first": first,
        "last": last,
    }
    if "forget" in request.query:
        calls.clear()
        most, first, last = 0, 0.0, 0.0
    return web.json_response(found)


def main() -> None:
    """Serve until killed."""
    app = web.Application()
    app.router.add_get("/stats", stats)
    app.router.add_post("/{api}", call)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
