"""DAG ids that Python files in the same folder define, so that a job does not fight one of them for its id.

Airflow notices an id that is used twice only within one file; over two files the DAG flips from parse to parse.
Python is searched as text: what computes its id escapes, what merely mentions one is not reported.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_DEFINES = re.compile(rb"""(?:\bdag_id\s*=\s*|\bDAG\(\s*|@dag\(\s*)["']([a-zA-Z0-9_-]{1,200})["']""")
_DECORATED = re.compile(rb"""@dag(?:\([^@]*?\))?\s+def\s+([A-Za-z_]\w*)""")
_NAMED = re.compile(rb"""@dag\(\s*(?:dag_id\s*=\s*)?["']""")
_LARGEST = 1024 * 1024


def python_dag_ids(folder: Path, without: Path | None = None) -> dict[str, str]:
    """DAG ids that the Python files below ``folder`` define by name, each with the path of its file."""
    found: dict[str, str] = {}
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in sorted(names):
            path = os.path.join(root, name)
            if not name.endswith(".py") or (without is not None and Path(path) == without):
                continue
            for dag_id in _ids_in(path):
                found.setdefault(dag_id, path)
    return found


def _ids_in(path: str) -> set[str]:
    try:
        if os.path.getsize(path) > _LARGEST:
            return set()
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return set()
    if b"dag" not in text.lower():
        return set()
    ids = set(_DEFINES.findall(text))
    ids |= {match[1] for match in _DECORATED.finditer(text) if not _NAMED.match(match[0])}
    return {dag_id.decode() for dag_id in ids}
