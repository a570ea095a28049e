"""Control groups: customers who are kept on a baseline, to compare the live policy with. Pure.

Membership depends on the customer and the salt alone, so it is the same on every channel and server
and survives a restart; another salt draws anew.
"""

from __future__ import annotations

import hashlib

from service.arbitration import HOLD_OUT, NO_MODEL, PROBABILITY_ONLY, RANDOM
from service.declared import ControlGroups
from service.situation import NOBODY


def group_of(customer_id: str, declared: ControlGroups) -> str:
    """Name of the control group that a customer belongs to; empty for none."""
    shares = declared.random, declared.probability_only, declared.no_model, declared.hold_out
    if shares == (0, 0, 0, 0):
        return NOBODY
    written = f"{declared.salt}\0{customer_id}".encode()
    place = int.from_bytes(hashlib.blake2b(written, digest_size=8).digest(), "little") / 2**64
    for name, share in zip((RANDOM, PROBABILITY_ONLY, NO_MODEL, HOLD_OUT), shares, strict=True):
        if place < share:
            return name
        place -= share
    return NOBODY
