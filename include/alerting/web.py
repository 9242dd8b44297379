"""How the drill asks its servers: no proxy, a short patience, an error that says what to do."""

from functools import cache
from typing import Any

import httpx

TIMEOUT_SECONDS = 5.0


class Away(ConnectionError):
    """A server does not answer, or not as itself; a retry may help."""


def ask(server: str, setting: str, method: str, url: str, **more: Any) -> httpx.Response:
    """The answer of `server`, whatever its status. Raises Away when there is none."""
    try:
        return httpx.request(method, url, timeout=TIMEOUT_SECONDS, trust_env=False, **more)
    except httpx.HTTPError as error:
        raise Away(
            f"{server} at {url.split('/api/')[0]} does not answer ({error}); start it or correct {setting}"
        ) from (error)


@cache
def _client() -> httpx.Client:
    return httpx.Client(timeout=TIMEOUT_SECONDS, trust_env=False)


def good(server: str, answer: httpx.Response) -> httpx.Response:
    """The answer, when it is 2xx. Raises Away otherwise."""
    if not answer.is_success:
        raise Away(f"{server} answered {answer.status_code} to {answer.request.url}: {answer.text[:300].strip()}")
    return answer
