"""Answers to requests that cannot be served: JSON, one line that says what to do, no traceback."""

from __future__ import annotations

from collections.abc import Mapping

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class ApiError(Exception):
    """Becomes ``{"error": code, "detail": line}`` with the status."""

    def __init__(self, status: int, code: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.headers = dict(headers or {})


def error_response(error: ApiError) -> Response:
    body = {"error": error.code, "detail": error.detail}
    return JSONResponse(body, error.status, headers=error.headers)


async def on_api_error(_: Request, error: Exception) -> Response:
    """For `ApiError`, wherever a handler raises it."""
    if not isinstance(error, ApiError):
        raise error
    return error_response(error)


async def on_http_exception(request: Request, error: Exception) -> Response:
    """For what the router itself raises."""
    if not isinstance(error, HTTPException):
        raise error
    known = {404: "not_found", 405: "method_not_allowed"}
    details = {
        404: f"there is no {request.url.path} here: see the HTTP section of the documentation",
        405: f"{request.url.path} does not take {request.method}",
    }
    code = known.get(error.status_code, "http_error")
    detail = details.get(error.status_code, error.detail)
    return error_response(ApiError(error.status_code, code, detail, error.headers))
