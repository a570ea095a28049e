"""What the store writes by hand is what its own names and redis-py would give."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from service import keys
from service.redis_line import Then, packed
from service.redis_store import RedisStore

NAMES = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)


class Heard:
    """Stands in for the line: notes what it is asked."""

    def __init__(self) -> None:
        self.commands: list[bytes] = []

    def ask(self, command: bytes, then: Then) -> None:
        self.commands.append(command)


@given(tenant=NAMES, customer=NAMES)
async def test_the_keys_of_a_customer_are_those_that_everybody_writes(
    tenant: str, customer: str
) -> None:
    store: Any = RedisStore("redis://127.0.0.1:1", tenant=tenant)
    store._line = heard = Heard()
    store.read(customer)
    named = [
        key(tenant, customer)
        for key in (keys.timeline, keys.ledger, keys.profile, keys.moved, keys.members)
    ]
    assert heard.commands == [packed("MGET", *named)]
    assert store._parts(customer) == ("MGET", *named)
