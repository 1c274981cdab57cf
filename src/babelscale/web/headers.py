"""What every answer says to the browser, and what no other site's page may ask for."""

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
# What an answer may say otherwise: a report holds its scripts inside, and the files of the page do not change.
_USUAL: Mapping[str, str] = {
    "cache-control": "no-store",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
}


class SafeHeaders:
    """Adds the headers, and refuses what another site's page asks for."""

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...]) -> None:
        self._app = app
        self._hosts = hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_ALWAYS)
                for name, value in _USUAL.items():
                    headers.setdefault(name, value)
            await send(message)

        if (why := self._foreign(scope["method"], Headers(scope=scope))) is not None:
            refusal = JSONResponse({"error": why, "hint": "open the page itself"}, 403)
            await refusal(scope, receive, sending)
            return
        await self._app(scope, receive, sending)

    def _foreign(self, method: str, headers: Headers) -> str | None:
        """Why a request is another site's; None where it is not. Following a link here is fine."""
        reading = method in ("GET", "HEAD")
        link = reading and headers.get("sec-fetch-mode") == "navigate"
        if headers.get("sec-fetch-site") in ("cross-site", "same-site") and not link:
            return "the request comes from another site"
        origin = headers.get("origin")
        if origin is not None and not self._own(origin, headers.get("host", "")):
            return "the request comes from a page of another origin"
        return None

    def _own(self, origin: str, host: str) -> bool:
        """Whether a request's origin is the very server it was sent to."""
        try:
            parts = urlsplit(origin)
            return parts.netloc == host and parts.hostname in self._hosts
        except ValueError:
            return False
