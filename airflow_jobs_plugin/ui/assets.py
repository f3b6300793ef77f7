"""Style sheet, scripts and icons: public, and kept by browsers for as long as this version of them is served."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

from fastapi import APIRouter, HTTPException
from fastapi.responses import Response

FOLDER: Final = Path(__file__).parent / "static"
#: Where they are below the app. Nobody has to say who they are to get them: also a page that asks for that needs them.
PREFIX = "/static/"
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}

router = APIRouter()


@cache
def _files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(FOLDER.iterdir()) if path.suffix in _KINDS}


@cache
def version() -> str:
    """Changes with the content of any of the files; a part of their URLs."""
    digest = hashlib.sha256()
    for name, content in _files().items():
        digest.update(f"{name} {len(content)}\n".encode())
        digest.update(content)
    return digest.hexdigest()[:12]


@router.get(PREFIX + "{of}/{name}")
def asset(of: str, name: str) -> Response:
    """One of the files."""
    content = _files().get(name)
    if content is None:
        raise HTTPException(404, f"there is no file {name!r} here")
    # A page of an older server may ask this one, while a cluster is brought up to date.
    kept = "public, max-age=31536000, immutable" if of == version() else "no-cache"
    return Response(content, media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": kept})
