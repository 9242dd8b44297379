"""What happened to the processes of one state folder: one line of JSON an event, in events.jsonl."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from include.local.state import State


def note(state: State, name: str, event: str, detail: str) -> None:
    """Append an event."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    print(f"{name} {event}: {detail}", flush=True)
    with events_file(state).open("a") as file:
        file.write(json.dumps({"at": at, "name": name, "event": event, "detail": detail}) + "\n")


def events(state: State) -> list[dict[str, Any]]:
    """All of them, oldest first: `at` (ISO, UTC), `name` of the process, `event`, `detail`."""
    try:
        return [json.loads(line) for line in events_file(state).read_text().splitlines()]
    except FileNotFoundError:
        return []


def events_file(state: State) -> Path:
    """Where they stand; missing while nothing has happened."""
    return state.root / "events.jsonl"
