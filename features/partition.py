"""Which partition a customer belongs to. Pure, and constant for the life of an installation."""

from __future__ import annotations

import zlib
from typing import Final

PARTITIONS: Final = 256


def partition(customer_id: str) -> int:
    """Number of the customer's partition: crc32 of the id modulo :data:`PARTITIONS`."""
    return zlib.crc32(customer_id.encode()) % PARTITIONS
