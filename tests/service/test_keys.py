from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from features.partition import partition
from service import identity, keys

TENANT = "main"


def slot(key: str) -> int:
    """The hash slot of a key, after the Redis Cluster specification."""
    start = key.find("{")
    end = key.find("}", start + 1)
    hashed = key[start + 1 : end] if start >= 0 and end > start + 1 else key
    crc = 0
    for byte in hashed.encode():
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1) ^ 0x1021 if crc & 0x8000 else crc << 1
            crc &= 0xFFFF
    return crc % 16384


def test_slots_are_counted_as_redis_counts_them() -> None:
    assert slot("123456789") == 0x31C3 % 16384
    assert slot("a{user1000}.x") == slot("{user1000}.y")


@given(st.one_of(st.text(min_size=1), st.sampled_from(["{x}", "}{", "a}b", "{}", "{"])))
def test_everything_of_a_customer_is_in_one_slot_whatever_the_id(customer: str) -> None:
    decision = f"{partition(customer):02x}0123456789"
    of_customer = [
        keys.timeline(TENANT, customer),
        keys.ledger(TENANT, customer),
        keys.profile(TENANT, customer),
        keys.tombstone(TENANT, customer),
        keys.log_of(TENANT, customer),
        keys.decision(TENANT, decision),
        keys.decision_log(TENANT, decision),
        keys.moved(TENANT, customer),
        keys.members(TENANT, customer),
        keys.lock(TENANT, customer),
        keys.index(TENANT, customer),
        keys.orphan(TENANT, decision, b"12345678"),
    ]
    assert len({slot(key) for key in of_customer}) == 1
    assert len(set(of_customer)) == 11, "and only the log has two names"


@given(st.text(), st.text())
def test_two_customers_have_no_key_in_common(one: str, other: str) -> None:
    for key in (keys.timeline, keys.ledger, keys.profile, keys.tombstone, keys.moved,
                keys.members, keys.lock):  # fmt: skip
        assert (key(TENANT, one) == key(TENANT, other)) == (one == other)
        assert key(TENANT, one) != key("other", one)


def test_every_partition_has_a_log_and_every_customer_one_of_them() -> None:
    logs = keys.logs(TENANT)
    assert len(set(logs)) == 256
    assert keys.log_of(TENANT, "ann") == logs[partition("ann")] == "log1:{main:115}"


def test_the_models_of_a_tenant_and_its_vocabulary_are_apart_from_customers() -> None:
    names = {keys.models(TENANT), keys.manifests(TENANT), keys.bundle(TENANT, "v1"),
             keys.vocabulary(TENANT), keys.exported(TENANT), keys.prices(TENANT),
             keys.configuration(TENANT, "d"), keys.ceiling(TENANT, "a", "b")}  # fmt: skip
    assert len(names) == 8
    assert len({slot(keys.models(TENANT)), slot(keys.bundle(TENANT, "v1"))}) == 1


def test_an_identifier_has_a_key_of_its_own() -> None:
    assert keys.identity(TENANT, "email", "a@b.c") != keys.identity(TENANT, "phone", "a@b.c")
    assert keys.identity(TENANT, "email", "a@b.c").endswith("}:email:a@b.c")
    assert identity.newcomer("email", "a@b.c") != identity.newcomer("email", "a@b.d")


@given(customer=st.text(min_size=1), number=st.integers(0, 255), rest=st.text("0123456789abcdef"))
def test_keys_that_are_named_together_are_those_that_are_named_one_by_one(
    customer: str, number: int, rest: str
) -> None:
    of_customer = [
        keys.ledger(TENANT, customer),
        keys.log_of(TENANT, customer),
        keys.tombstone(TENANT, customer),
        keys.moved(TENANT, customer),
    ]
    assert list(keys.of_reserving(TENANT, customer)) == of_customer
    recording = [keys.timeline(TENANT, customer), *of_customer]
    assert list(keys.of_recording(TENANT, customer)) == recording
    decision_id = f"{number:02x}{rest}"
    assert keys.of_journal(TENANT, decision_id, customer) == (
        keys.decision_log(TENANT, decision_id),
        keys.decision(TENANT, decision_id),
        keys.tombstone(TENANT, customer),
        keys.index(TENANT, customer),
    )
