from __future__ import annotations

import zlib

from hypothesis import given
from hypothesis import strategies as st

from features.partition import PARTITIONS, partition


def test_the_number_of_partitions_never_changes() -> None:
    assert PARTITIONS == 256


@given(st.text())
def test_a_customer_is_in_one_partition_by_the_crc32_of_the_id(customer: str) -> None:
    assert partition(customer) == zlib.crc32(customer.encode()) % 256


def test_the_published_check_value_of_crc32_stays_where_it_is() -> None:
    assert partition("123456789") == 0xCBF43926 % 256 == 0x26


def test_customers_spread_over_all_partitions() -> None:
    assert len({partition(f"customer-{n}") for n in range(5_000)}) == PARTITIONS
