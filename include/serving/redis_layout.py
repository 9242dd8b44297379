"""How histories lie in Redis: one string of packed events per customer and terminal, and one mark.

`<kind>:<id>` holds events as `include.fraud.online` packs them. Scoring appends; the nightly load rewrites all that the
lake knows and leaves what came after it. The mark says what the load wrote; without it nothing else can be relied on.
"""

import msgspec
from redis.exceptions import RedisError

MARK = b"features:loaded"
KEEP_SECONDS = 60 * 24 * 3600  # longer than a history reaches: who was silent for so long has none to lose
CONNECT_SECONDS = 0.5
ANSWER_SECONDS = 0.5  # Redis answers in less than a millisecond, or something is wrong with it
UNREACHABLE = (RedisError, OSError, TimeoutError)

# KEYS[1]: a history. ARGV[1]: its events up to the load's last day. ARGV[2]: that day's end, ms. ARGV[3]: lifetime, s.
# What was scored after that day stays; what was scored before is in ARGV[1] if it is real.
MERGE = """
local later = {}
local held = redis.call('GET', KEYS[1])
if held then
    local until_ms = tonumber(ARGV[2])
    for at = 1, #held - 23, 24 do
        if struct.unpack('<i8', held, at) >= until_ms then later[#later + 1] = held:sub(at, at + 23) end
    end
end
redis.call('SET', KEYS[1], ARGV[1] .. table.concat(later), 'EX', ARGV[3])
return #later
"""


class Mark(msgspec.Struct, frozen=True):
    """What the last load wrote."""

    last: str
    entities: int
    events: int


def key(kind: str, entity: int) -> bytes:
    """Of one history."""
    return b"%s:%d" % (kind.encode(), entity)
