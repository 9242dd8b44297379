"""Runs in a pod: sends requests at a steady rate until SIGTERM, then prints what became of them as one line of JSON.

python client.py URL REQUESTS_PER_SECOND RETRIES ROWS, with transactions in /client/requests.json; ROWS in each request

A share of the requests goes over connections that stay open, the rest over new ones. A failure is any request without
the answer 200, after as many new tries on another connection as RETRIES says; what went wrong on the way is counted
as `resets` too.
"""

import asyncio
import json
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import httpx

NEW_CONNECTION_EVERY = 4


async def main(url: str, per_second: float, retries: int, bodies: list[bytes]) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    failures, resets, versions, seconds, degraded = Counter(), Counter(), Counter(), [], 0

    async def send(client: httpx.AsyncClient | None, body: bytes, due: float) -> None:
        nonlocal degraded
        for attempt in range(retries + 1):
            try:
                if client and not attempt:
                    answer = await client.post(f"{url}/predict", content=body)
                else:
                    async with httpx.AsyncClient(timeout=30) as fresh:
                        answer = await fresh.post(f"{url}/predict", content=body)
            except httpx.HTTPError as error:
                resets[type(error).__name__] += 1
                wrong = type(error).__name__
                continue
            if answer.status_code == 200:
                said = answer.json()
                versions[said[0]["model_version"]] += 1
                degraded += any(one["degraded"] for one in said)
                seconds.append(time.monotonic() - due)
                return
            wrong = f"status {answer.status_code}"
        failures[wrong] += 1

    began, sent, under_way = time.monotonic(), 0, set()
    async with httpx.AsyncClient(timeout=30, limits=httpx.Limits(max_keepalive_connections=16)) as kept:
        while not stop.is_set():
            due = began + sent / per_second
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            client = None if sent % NEW_CONNECTION_EVERY == 0 else kept
            task = asyncio.create_task(send(client, bodies[sent % len(bodies)], due))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            sent += 1
        await asyncio.gather(*under_way)
    seconds.sort()
    sys.stdout.write(json.dumps({
        "sent": sent, "failed": failures.total(), "failures": failures, "resets": resets, "versions": versions,
        "degraded": degraded, "p50": seconds[len(seconds) // 2] if seconds else None,
        "p99": seconds[int(len(seconds) * 0.99)] if seconds else None, "seconds": time.monotonic() - began,
    }) + "\n")  # fmt: skip


if __name__ == "__main__":
    asked = json.loads(Path("/client/requests.json").read_text())
    url, per_second, retries, rows = sys.argv[1], float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    lists = [json.dumps(asked[start : start + rows]).encode() for start in range(0, len(asked), rows)]
    asyncio.run(main(url, per_second, retries, lists))
