"""Asks Prometheus whether an expression holds."""

import json
import logging
import urllib.error
import urllib.parse
import urllib.request

from include.command import BadInput

log = logging.getLogger("attack")
ANSWER_SECONDS = 5.0
BAD_QUERY = 400


def holds(address: str, query: str) -> bool | None:
    """Whether the query gives at least one series; None when Prometheus does not answer.

    Raises BadInput for what is no PromQL.
    """
    url = f"{address.rstrip('/')}/api/v1/query?{urllib.parse.urlencode({'query': query})}"
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"MLOPS_PROMETHEUS_URL {address!r} is not an http address; write http://host:port")
    try:
        with urllib.request.urlopen(url, timeout=ANSWER_SECONDS) as answer:  # noqa: S310 (http and https only)
            return bool(json.load(answer)["data"]["result"])
    except urllib.error.HTTPError as error:
        if error.code == BAD_QUERY:
            raise BadInput(f"{query!r} is not PromQL: {error.read().decode(errors='replace')[:300]}") from error
        log.warning("Prometheus answers %s", error)
    except (OSError, ValueError, KeyError) as error:
        log.warning("Prometheus at %s does not answer: %s", address, error)
    return None
