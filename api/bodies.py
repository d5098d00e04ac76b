"""Request bodies: read within a limit, unpacked within the same limit, JSON with one line when it is not."""

from __future__ import annotations

import zlib
from typing import Any

import orjson
from starlette.requests import Request

from api.errors import ApiError

_GZIP_WINDOW = 31


async def read_body(request: Request, limit_bytes: int) -> bytes:
    """The body, unpacked.

    Raises:
        ApiError: 413 too large before or after unpacking, 415 unknown encoding, 400 broken gzip.
    """
    too_large = ApiError(413, "too_large", f"the body is larger than {limit_bytes} bytes: send it in parts")
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limit_bytes:
        raise too_large
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit_bytes:
            raise too_large
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding in ("", "identity"):
        return bytes(body)
    if encoding != "gzip":
        detail = f"content-encoding {encoding[:32]!r} is not known: send gzip or nothing"
        raise ApiError(415, "unknown_encoding", detail)
    unpacked = _gunzip(bytes(body), limit_bytes)
    if unpacked is None:
        raise too_large
    return unpacked


def _gunzip(packed: bytes, limit_bytes: int) -> bytes | None:
    """The members of a gzip file, one after the other; None when they are larger than the limit."""
    unpacked = b""
    while True:
        member = zlib.decompressobj(_GZIP_WINDOW)
        try:
            unpacked += member.decompress(packed, limit_bytes + 1 - len(unpacked))
        except zlib.error:
            raise ApiError(400, "broken_gzip", "the body is not gzip: correct content-encoding") from None
        if len(unpacked) > limit_bytes:
            return None
        if not member.eof:
            raise ApiError(400, "broken_gzip", "the gzip body is cut short: send it whole")
        packed = member.unused_data
        if not packed:
            return unpacked


def media_type(request: Request) -> str:
    """The content type without its parameters, in lower case."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def require_json(request: Request) -> None:
    """Raises ApiError 415 when the body is not declared as JSON."""
    if media_type(request) != "application/json":
        raise ApiError(415, "unknown_type", "send the header Content-Type: application/json")


async def json_object(request: Request, limit_bytes: int, optional: bool = False) -> dict[str, Any]:
    """The body as a JSON object; with ``optional`` an empty body is an empty object.

    Raises:
        ApiError: 400 or 413 or 415.
    """
    body = await read_body(request, limit_bytes)
    if optional and not body:
        return {}
    require_json(request)
    try:
        parsed = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise ApiError(400, "malformed", f"the body is not JSON: {error.msg}") from None
    if not isinstance(parsed, dict):
        raise ApiError(400, "malformed", "the body is not a JSON object")
    if b"\\u0000" in body:
        raise ApiError(400, "malformed", "the body holds the character U+0000, which cannot be stored")
    return parsed
