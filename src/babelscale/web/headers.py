"""Security headers of every answer, and the refusal of requests from pages of other sites."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
# Defaults: a report contains its scripts, and the files of the page do not change, so their answers differ here.
_DEFAULT: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


class SafeHeaders:
    """Adds the headers, and refuses requests from pages of other sites."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                for name, value in _DEFAULT.items():
                    headers.setdefault(name, value)
            await send(message)

        if (reason := self._foreign(scope["method"], Headers(scope=scope))) is not None:
            refusal = JSONResponse({"error": reason, "hint": "open the page in the browser"}, 403)
            await refusal(scope, receive, send_with_headers)
            return
        await self._app(scope, receive, send_with_headers)

    def _foreign(self, method: str, headers: Headers) -> str | None:
        """Why a request belongs to another site, or None. Links from other sites to a page are accepted."""
        reading = method in ("GET", "HEAD")
        link = reading and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not link:
            return "the request comes from another site"
        origin = headers.get("origin")
        if origin is not None and not self._is_this_server(origin, headers.get("host", "")):
            return "the request comes from a page of another origin"
        return None

    def _is_this_server(self, origin: str, host: str) -> bool:
        """Whether the origin of a request is this server."""
        try:
            parts = urlsplit(origin)
            return parts.netloc == host and parts.hostname in self._hosts
        except ValueError:
            return False
