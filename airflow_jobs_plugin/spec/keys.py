"""Keys of objects in a store: templates with placeholders, and how they are filled in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import quote

from airflow_jobs_plugin.spec.base import did_you_mean
from airflow_jobs_plugin.spec.faults import printable

#: What a key may say of a run, and what else of an item where each item is delivered by itself.
OF_RUN = ("jobId", "jobRunId", "date", "time", "type", "status")
OF_ITEM = ("index", "itemId", "api")
#: Of those, what tells one item of a run from another.
TELLS_ITEMS_APART = ("index", "itemId")
#: The longest key that S3 takes, in bytes of UTF-8.
MAX_KEY_BYTES = 1024

_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")


def check_key(template: str, *, of_item: bool) -> str:
    """Return the template if every key that it makes is one object below its literal beginning.

    :param of_item: whether each item has a key of its own, which then has to tell it from the others
    :raises ValueError: it could leave its place, or has placeholders that are not known
    """
    check_prefix(template, of_item=of_item)
    if template.endswith("/"):
        raise ValueError("ends with '/', which is a folder; a key names an object, such as results/{jobRunId}.json")
    if of_item and not any(f"{{{name}}}" in template for name in TELLS_ITEMS_APART):
        raise ValueError("needs {index} or {itemId}; without it the items of a run would overwrite each other")
    return template


def check_prefix(template: str, *, of_item: bool) -> str:
    """Return the template if keys can begin with it, with or without '/' at its end. Raises ``ValueError``."""
    # An item is delivered before it is known how its run ends.
    known = (*(name for name in OF_RUN if name != "status"), *OF_ITEM) if of_item else OF_RUN
    for name in _PLACEHOLDER.findall(template):
        if name not in known:
            raise ValueError(_unknown(name, known))
    if any(brace in _PLACEHOLDER.sub("", template) for brace in "{}"):
        raise ValueError(f"has a brace that belongs to no placeholder; known here: {_listed(known)}")
    if any(ord(c) < 32 or 127 <= ord(c) < 160 or c == "\\" for c in template):
        raise ValueError("has control characters or a backslash, which many tools cannot handle in a key")
    if template.startswith("/"):
        raise ValueError("begins with '/'; keys are relative to the bucket, such as results/{jobRunId}.json")
    segments = template.removesuffix("/").split("/") if template else []
    if any(segment in (".", "..") for segment in segments):
        raise ValueError("has '.' or '..' as a path segment")
    if "" in segments:
        raise ValueError("has '//', which stores and tools read differently; write one '/'")
    if len(template.encode()) > MAX_KEY_BYTES:
        raise ValueError(f"is longer than the {MAX_KEY_BYTES} bytes that a key may have")
    return template


def fill(template: str, names: Mapping[str, str]) -> str:
    """The key that a checked template makes.

    The values cannot leave their place in it: what is neither a letter, a digit nor one of ``_.-~`` is percent-encoded,
    and so are dots where a value is nothing but dots.

    :param names: values by name of placeholder
    :raises ValueError: the key would be longer than ``MAX_KEY_BYTES``, or a name has no value here
    """

    def value(found: re.Match[str]) -> str:
        if found[1] not in names:
            raise ValueError(f"the key needs a value for {found[0]}, and this delivery has none")
        return _safe(names[found[1]])

    key = _PLACEHOLDER.sub(value, template)
    if (size := len(key.encode())) > MAX_KEY_BYTES:
        raise ValueError(f"the key would have {size} bytes, and {MAX_KEY_BYTES} are the most: {key[:60]}…")
    return key


def _safe(value: str) -> str:
    quoted = quote(value, safe="", errors="replace")
    # Nothing at all would let its neighbours become '..' or '//'.
    return quoted.replace(".", "%2E") if not quoted.strip(".") and quoted else quoted or "_"


def _unknown(name: str, known: tuple[str, ...]) -> str:
    hint = did_you_mean(name, list(known))
    message = f"unknown placeholder {{{printable(name)}}}"
    if hint.startswith("; did you mean"):
        message += hint
    message += f"{';' if message.endswith('}') else ''} known here: {_listed(known)}"
    return message if name not in OF_ITEM else f"{message}; {{{name}}} is known with delivery: payload"


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"{{{name}}}" for name in names)
