"""Of which slot a command is, by the specification of Redis Cluster."""

from __future__ import annotations

from typing import Any

import pytest
from redis.exceptions import DataError

from service.redis_command import Command, slot


@pytest.mark.parametrize(
    ("key", "hashed"),
    [
        ("123456789", "123456789"),
        ("{user1000}.following", "user1000"),
        ("foo{}{bar}", "foo{}{bar}"),
        ("foo{{bar}}zap", "{bar"),
        ("foo{bar}{zap}", "bar"),
        ("}{a}", "a"),
        ("{a", "{a"),
        ("a}", "a}"),
        ("{}", "{}"),
        ("", ""),
    ],
)
def test_the_slot_is_that_of_the_hash_tag(key: str, hashed: str) -> None:
    assert slot(key) == slot(hashed) == slot(key.encode())
    assert slot("123456789") == 0x31C3, "the check value of CRC16/XMODEM"


def test_the_key_of_a_script_comes_after_the_number_of_keys() -> None:
    assert Command(("EVALSHA", "sha", 1, "key", "argument"), {}).slot == slot("key")
    assert Command(("MGET", "{tag}a", "{tag}b"), {}).slot == slot("tag")


@pytest.mark.parametrize("arguments", [("EVALSHA", "sha", 0), ("PING",), ("SCAN", 0), ("GET",)])
def test_a_command_whose_key_is_not_known_is_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(DataError, match=str(arguments[0])):
        _ = Command(arguments, {}).slot
