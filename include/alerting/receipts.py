"""What the inbox says has arrived."""

from include.alerting.message import Message
from include.alerting.web import ask, good


def messages(url: str, since: float) -> list[Message]:
    """All that arrived at `since` (unix seconds) or later. Raises Away when the inbox does not answer."""
    address = f"{url.rstrip('/')}/messages"
    answer = good("the inbox", ask("the inbox", "MLOPS_INBOX_URL", "GET", address, params={"since": f"{since:.3f}"}))
    return [Message.model_validate(one) for one in answer.json()]
