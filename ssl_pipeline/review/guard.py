"""Guard of the review page's server: token, Host and Origin of every request, and the headers of every answer."""

import hmac
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1 << 20
"""Bytes of a request: 1 MB."""

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Let requests through that carry the token and come from the page itself.

    The address that the command prints carries the token once; from then on a cookie does, which scripts cannot read and
    other sites cannot send. A name that resolves to this machine (DNS rebinding) fails by its Host.
    """

    def __init__(self, app: ASGIApp, *, token: str, hosts: Collection[str], cookie: str) -> None:
        """Guard an application.

        Args:
            app: the application.
            token: the secret.
            hosts: accepted Host headers, with port.
            cookie: the cookie's name; cookies do not tell ports apart, so the name should.
        """
        self._app, self._token, self._hosts, self._cookie = app, token, frozenset(hosts), cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return  # no websockets
        request = Request(scope)
        has_token = self._is_token(request.query_params.get("token", "")) and scope["path"] == "/"
        refusal = self._refusal(request, has_token=has_token)
        app = self._app if refusal is None else refusal

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                headers.setdefault("Cache-Control", "no-store")
                if has_token:
                    cookie = f"{self._cookie}={self._token}; Path=/; HttpOnly; SameSite=Strict"
                    headers.append("Set-Cookie", cookie)
            await send(message)

        await app(scope, receive, send_guarded)

    def _refusal(self, request: Request, *, has_token: bool) -> PlainTextResponse | None:
        headers: Headers = request.headers
        if headers.get("host", "").lower() not in self._hosts:
            return PlainTextResponse("This address is not the page's.", 421)
        origin = headers.get("origin")
        if origin is not None and origin.lower().removeprefix("http://") not in self._hosts:
            return PlainTextResponse("Other sites may not ask.", 403)
        if not has_token and not self._is_token(request.cookies.get(self._cookie, "")):
            return PlainTextResponse("Open the address that `ssl-pipeline review` printed.", 401)
        if request.method not in ("GET", "HEAD"):
            if headers.get("content-type", "").partition(";")[0] != "application/json":
                return PlainTextResponse("Send JSON.", 415)
            length = headers.get("content-length", "")
            if not length.isdigit() or int(length) > MAX_BODY:
                return PlainTextResponse(f"Send at most {MAX_BODY:,} bytes.", 413)
        return None

    def _is_token(self, text: str) -> bool:
        return hmac.compare_digest(text.encode(), self._token.encode())
