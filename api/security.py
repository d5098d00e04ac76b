"""Who may change state: the bearer token, and when telemetry needs none (decision 002)."""

from __future__ import annotations

import hmac
import ipaddress
from dataclasses import dataclass

from starlette.requests import Request

from api.errors import ApiError


@dataclass(frozen=True, slots=True)
class Access:
    """The token, and whether the listener is on loopback only."""

    token: str
    loopback_only: bool

    def __post_init__(self) -> None:
        if not self.token:
            raise ValueError(
                "the HTTP token is empty: set WATCHKEEPER_HTTP__TOKEN or remove it to have one made"
            )

    def require_token(self, request: Request) -> None:
        """For whatever acts on agents and incidents.

        Raises:
            ApiError: 401 without a token, 403 with a wrong one.
        """
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not given.strip():
            detail = "this changes state: send the header Authorization: Bearer <the token of the engine>"
            raise ApiError(401, "token_missing", detail, {"WWW-Authenticate": "Bearer"})
        if not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            raise ApiError(
                403, "token_wrong", "the token is not the engine's: see http.token or the data directory"
            )

    def require_ingest(self, request: Request) -> None:
        """For telemetry: free on loopback, else as everything that changes state.

        A page in a browser must not be a producer: its requests carry another host name when it got here by
        DNS rebinding, and the content types that are taken need a preflight which nothing here answers.
        """
        if not (self.loopback_only and is_loopback(_host_name(request))):
            self.require_token(request)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a listener on this host, or means it by this name.

    >>> is_loopback("127.0.0.1"), is_loopback("localhost"), is_loopback("::1"), is_loopback("0.0.0.0")
    (True, True, True, False)
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_name(request: Request) -> str:
    host = request.headers.get("host", "")
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]
