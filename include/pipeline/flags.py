"""A step's flags as a DAG gives them, and the argument list that its process gets."""

import json
from collections.abc import Mapping
from typing import Any


def argv(module: str, flags: Mapping[str, Any]) -> list[str]:
    """``-m include.fraud.train --as-of 2025-06-29 …``; None is left out, what is no string becomes JSON.

    The outputs of a mapped task are a lazy sequence: a list in JSON.
    """
    words = ["-m", module]
    for name, value in flags.items():
        if value is not None:
            words += [
                f"--{name.replace('_', '-')}",
                value if isinstance(value, str) else json.dumps(value, default=list),
            ]
    return words
