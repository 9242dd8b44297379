"""The peers of `bench.serving`: the same model served as people do, ours without features, and a server of nothing."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import joblib
import numpy as np
import pandas as pd
import uvloop
from numpy.typing import NDArray
from pydantic import create_model

from include.fraud.online import FEATURES, KINDS, NO_EVENTS, Transaction
from include.serving import api
from include.serving.feature_store import FeatureStore, Histories

MODEL_FILE = "BENCH_MODEL"  # environment variable: the pickled pipeline
Row = create_model("Row", **dict.fromkeys(FEATURES, (float, ...)))  # type: ignore[call-overload]


def as_array(frame: pd.DataFrame) -> NDArray[np.float32]:
    """The first step of the peers' pipeline, which receives a frame; ours is trained on arrays."""
    return np.ascontiguousarray(frame, dtype=np.float32)


def fastapi_app() -> Any:
    """One row's fifteen inputs to a frame to `predict_proba`, in a plain handler."""
    from fastapi import FastAPI

    app = FastAPI()
    model = joblib.load(os.environ[MODEL_FILE])

    @app.post("/predict")
    def predict(row: Row) -> dict[str, float]:  # type: ignore[valid-type]
        frame = pd.DataFrame([row.model_dump()])[list(FEATURES)]  # type: ignore[attr-defined]
        return {"probability": float(model.predict_proba(frame)[0, 1])}

    return app


class NobodyKnown(FeatureStore):
    """Asks nobody and keeps nothing: everyone is new."""

    async def histories(self, transactions: Sequence[Transaction]) -> Histories:
        """None of anybody."""
        return Histories({kind: {one.entity(kind): NO_EVENTS for one in transactions} for kind in KINDS}, {})

    async def add(self, transactions: Sequence[Transaction], histories: Histories) -> None:
        """Forget them."""


def ours_without_features() -> int:
    """The model API as it is, but for its store."""
    api.FeatureStore = NobodyKnown  # type: ignore[misc]
    return api.main()


class Nothing(asyncio.Protocol):
    """Answers as many times as there were requests in what it read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to answer."""
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        """Say nothing, with success."""
        self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}" * data.count(b" HTTP/1.1\r\n"))


def nothing() -> None:
    """What the load generator can reach at most: a server that does no work."""

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(Nothing, "127.0.0.1", int(sys.argv[-1]))
        await server.serve_forever()

    uvloop.run(serve())
