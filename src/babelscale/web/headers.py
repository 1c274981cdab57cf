"""What every answer says to the browser: load nothing, guess nothing, stand in no frame, tell no one."""

from collections.abc import Mapping

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_ALWAYS: Mapping[str, str] = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class SafeHeaders:
    """Adds the headers, and refuses what another site's page asks for in the background."""

    def __init__(self, app: ASGIApp, policy: str) -> None:
        self._app = app
        self._headers = {**_ALWAYS, "content-security-policy": f"{policy}; frame-ancestors 'none'"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._headers)
            await send(message)

        asked = Headers(scope=scope)
        foreign = asked.get("sec-fetch-site") in ("cross-site", "same-site")
        # Following a link here is fine; being fetched by another page is not.
        if foreign and asked.get("sec-fetch-mode") != "navigate":
            refusal = JSONResponse({"error": "asked for by another site", "hint": "open the page itself"}, 403)
            await refusal(scope, receive, sending)
            return
        await self._app(scope, receive, sending)
