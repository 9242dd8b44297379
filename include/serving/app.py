"""The model API as an ASGI application.

`/predict` is answered here directly, everything else by Starlette: a framework's routing and validation would cost more
than the model.
"""

import time
from collections.abc import Awaitable, Callable
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from swagger_ui_bundle import swagger_ui_path

from include.code_version import code_version
from include.serving import metrics, predict
from include.serving.openapi import document
from include.serving.scoring import Scorer

PATHS = ("/", "/health", "/ready", "/docs", "/metrics", "/openapi.json", "/predict")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
OTHER = "other"
CLOSE = (b"connection", b"close")
Send = Callable[[Any], Awaitable[None]]

SWAGGER = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>model API</title>
<link rel="stylesheet" href="/docs/swagger-ui.css"></head><body><div id="page"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script>SwaggerUIBundle({url: "/openapi.json", dom_id: "#page"})</script></body></html>"""


class Api:
    """Set `draining` and clients are told to go elsewhere, while those who still come are served."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.draining = False
        self._pages = Starlette(routes=self._routes())
        manifest = scorer.model.manifest
        metrics.INFO.labels(manifest.name, manifest.version).set(1)
        self._document = document(manifest.name, manifest.version)

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        """Answer one request, and count it."""
        if scope["type"] != "http":
            return
        began = time.perf_counter()
        path = scope["path"]
        status = 500

        async def sending(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if self.draining:
                    message = {**message, "headers": [*message["headers"], CLOSE]}
            await send(message)

        metrics.IN_FLIGHT.inc()
        try:
            if path == "/predict" and scope["method"] == "POST":
                await self._predict(scope, receive, sending)
            else:
                await self._pages(scope, receive, sending)
        finally:
            metrics.IN_FLIGHT.dec()
            counted = path if path in PATHS else OTHER
            method = scope["method"] if scope["method"] in METHODS else OTHER
            metrics.REQUESTS.labels(method, counted, str(status)).inc()
            metrics.REQUEST_SECONDS.labels(counted).observe(time.perf_counter() - began)

    async def _predict(self, scope: Any, receive: Any, send: Send) -> None:
        status, headers, body = await predict.answer(self.scorer, scope, receive)
        if status == 413:  # the rest of the body is not read
            headers = [*headers, CLOSE]
        length = (b"content-length", str(len(body)).encode())
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})

    def _routes(self) -> list[Route | Mount]:
        return [
            Route("/", self._about),
            Route("/health", self._health),
            Route("/ready", self._ready),
            Route("/metrics", self._metrics),
            Route("/openapi.json", self._openapi),
            Route("/docs", self._docs),
            Route("/predict", self._post_only, methods=[method for method in METHODS if method != "POST"]),
            Mount("/docs", StaticFiles(directory=swagger_ui_path)),
        ]

    async def _about(self, request: Request) -> Response:
        manifest = self.scorer.model.manifest
        return JSONResponse(
            {"service": "model API", "model": manifest.name, "version": manifest.version, "commit": code_version()}
        )

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "alive"})

    async def _ready(self, request: Request) -> Response:
        state = {
            "status": "draining" if self.draining else "ready",
            "version": self.scorer.model.manifest.version,
            "features": "online" if self.scorer.store.reachable else "degraded",
        }
        return JSONResponse(state, status_code=503 if self.draining else 200)

    async def _metrics(self, request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    async def _openapi(self, request: Request) -> Response:
        return JSONResponse(self._document)

    async def _post_only(self, request: Request) -> Response:
        return Response("POST a transaction", status_code=405, headers={"allow": "POST"}, media_type="text/plain")

    async def _docs(self, request: Request) -> Response:
        return HTMLResponse(SWAGGER)
