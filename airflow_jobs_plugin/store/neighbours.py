"""DAG ids that Python files in the same folder define, so that a job does not fight one of them for its id.

Airflow notices an id that is used twice only within one file; over two files the DAG flips from parse to parse.
Python is read and not run: what computes its id escapes.
"""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

from airflow_jobs_plugin.store.reading import read_regular, shown

_LARGEST = 1024 * 1024


def python_dag_ids(folder: Path, wanted: Collection[str], without: Path | None = None) -> dict[str, str]:
    """Those of the ``wanted`` ids that Python files below ``folder`` give a DAG, each with the path of its file."""
    found: dict[str, str] = {}
    names_of_ids = [(dag_id, dag_id.encode()) for dag_id in wanted]
    for root, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        for name in sorted(names):
            path = os.path.join(root, name)
            if not name.endswith(".py") or (without is not None and Path(path) == without):
                continue
            try:
                text = read_regular(path, _LARGEST)
            except OSError:
                continue
            # Parsing is for the few files that speak of DAGs and name one of the ids.
            if b"dag" in text.lower() and any(needle in text for _, needle in names_of_ids):
                for dag_id in _ids_in(text):
                    if dag_id in wanted:
                        found.setdefault(dag_id, shown(path))
    return found


def _ids_in(text: bytes) -> Iterator[str]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _name(node.func) in ("DAG", "dag"):
            given = [k.value for k in node.keywords if k.arg == "dag_id"] or node.args[:1]
            if given and isinstance(given[0], ast.Constant) and isinstance(given[0].value, str):
                yield given[0].value
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for decorator in node.decorator_list:
                call = decorator if isinstance(decorator, ast.Call) else None
                named = call is not None and (call.args or any(k.arg == "dag_id" for k in call.keywords))
                if _name(call.func if call else decorator) == "dag" and not named:
                    yield node.name


def _name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
