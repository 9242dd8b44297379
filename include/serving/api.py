"""One replica of the model API: `python -m include.serving.api --model-dir build/model --port 8000`.

Serves the one version in the folder until SIGTERM. Then `/ready` says no, answers ask clients to close their
connections, and after MLOPS_DRAIN_SECONDS it stops accepting, finishes what is in flight and ends.
Exit codes: 0 stopped as asked, 1 cannot listen, 2 the folder has no usable model.
"""

import argparse
import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import uvicorn
import uvloop

from include.command import BAD_INPUT, DONE, FAILED, BadInput
from include.serving.app import Api
from include.serving.feature_store import FeatureStore
from include.serving.model import Model
from include.serving.scoring import Scorer
from include.serving.snapshot import Snapshot
from include.settings import settings

log = logging.getLogger(__name__)

KEEP_ALIVE_SECONDS = 75  # longer than clients keep idle connections, so that they are the ones who close
LAST_LOOK_SECONDS = 0.5  # after accepting has ended: for requests on connections accepted just before
FINISH_SECONDS = 8  # for requests in flight, after the drain
BACKLOG = 2048


class Server(uvicorn.Server):
    """Leaves signals to us: uvicorn's own handling closes connections at once."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def main() -> int:
    """Exit code of the process."""
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    asked = _arguments()
    try:
        model = Model(asked.model_dir)
        model.warm_up()
        sockets = [_shared(asked.fd) if asked.fd is not None else _bound(asked.host, asked.port)]
        if asked.probe_port:
            sockets.append(_bound("127.0.0.1", asked.probe_port))
    except BadInput as error:
        log.error("%s", error)
        return BAD_INPUT
    except OSError as error:
        log.error("cannot listen: %s", error)
        return FAILED
    uvloop.run(serve(model, sockets))
    return DONE


async def serve(model: Model, sockets: list[socket.socket]) -> None:
    """Serve on the sockets, which listen already or are bound, until SIGTERM or SIGINT."""
    store = FeatureStore(settings().redis_url, os.environ.get("MLOPS_REDIS_PASSWORD"), Snapshot(model.snapshot))
    await store.start()
    scorer = Scorer(model, store)
    scorer.start()
    api = Api(scorer)
    server = Server(
        uvicorn.Config(
            api,
            http="httptools",
            ws="none",
            lifespan="off",
            access_log=False,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            backlog=BACKLOG,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=FINISH_SECONDS,
        )
    )
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    draining = asyncio.create_task(_drain(api, server, stop))
    manifest = model.manifest
    log.info("serving %s version %s", manifest.name, manifest.version)
    await server.serve(sockets)
    draining.cancel()
    await scorer.stop()
    log.info("stopped")


async def _drain(api: Api, server: Server, stop: asyncio.Event) -> None:
    await stop.wait()
    api.draining = True
    log.info("draining for %.1f s", settings().drain_seconds)
    await asyncio.sleep(settings().drain_seconds)
    for listener in server.servers:
        listener.close()
    await asyncio.sleep(LAST_LOOK_SECONDS)
    server.should_exit = True


def _shared(fd: int) -> socket.socket:
    return socket.socket(fileno=fd)


def _bound(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    return listener


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model-dir", type=Path, required=True, help="package of the version to serve")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--fd", type=int, help="serve this inherited listening socket instead of host and port")
    parser.add_argument("--probe-port", type=int, help="serve on this port of 127.0.0.1 too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
