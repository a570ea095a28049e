"""Names of the keys in the store. Pure.

The hash tag ``{tenant:partition}`` puts a customer's keys and their partition's log in one slot.
"""

from __future__ import annotations

from functools import cache
from typing import Final

from features.partition import PARTITIONS, partition

LOG_FIELD: Final = "e"
"""Field of a log stream's entries that holds the LogEntry."""


@cache
def tags(tenant: str) -> tuple[str, ...]:
    """The hash tag of every partition."""
    return tuple(f"{{{tenant}:{number}}}" for number in range(PARTITIONS))


def tag(tenant: str, customer_id: str) -> str:
    """The hash tag of a customer."""
    return tags(tenant)[partition(customer_id)]


def timeline(tenant: str, customer_id: str) -> str:
    """Header and packed records."""
    return f"tl1:{tag(tenant, customer_id)}:{customer_id}"


def ledger(tenant: str, customer_id: str) -> str:
    """What contact limits count, in the timeline's layout."""
    return f"ct1:{tag(tenant, customer_id)}:{customer_id}"


def profile(tenant: str, customer_id: str) -> str:
    """Header and msgpack."""
    return f"pf1:{tag(tenant, customer_id)}:{customer_id}"


def tombstone(tenant: str, customer_id: str) -> str:
    """Moment up to which a forgotten customer's events are refused."""
    return f"ts1:{tag(tenant, customer_id)}:{customer_id}"


def moved(tenant: str, customer_id: str) -> str:
    """Whom a customer was merged into."""
    return f"mv1:{tag(tenant, customer_id)}:{customer_id}"


def members(tenant: str, customer_id: str) -> str:
    """Customers who were merged into this one, as a msgpack list."""
    return f"mb1:{tag(tenant, customer_id)}:{customer_id}"


def lock(tenant: str, customer_id: str) -> str:
    """Token of whoever merges or forgets a customer right now."""
    return f"lk1:{tag(tenant, customer_id)}:{customer_id}"


def log(tenant: str, number: int) -> str:
    """Stream of a partition's log entries."""
    return f"log1:{{{tenant}:{number}}}"


def log_of(tenant: str, customer_id: str) -> str:
    """Stream of the log entries of a customer's partition."""
    return log(tenant, partition(customer_id))


def logs(tenant: str) -> list[str]:
    """All log streams."""
    return [log(tenant, number) for number in range(PARTITIONS)]


def decision(tenant: str, decision_id: str) -> str:
    """Pointer to a decision's log entry; its id starts with its partition, in hexadecimal."""
    return f"dc1:{{{tenant}:{int(decision_id[:2], 16)}}}:{decision_id}"


def decision_log(tenant: str, decision_id: str) -> str:
    """Stream that holds a decision."""
    return log(tenant, int(decision_id[:2], 16))


def of_reserving(tenant: str, customer_id: str) -> tuple[str, str, str, str]:
    """What reserving touches: ledger, log, tombstone and moved of a customer."""
    slot = tag(tenant, customer_id)
    own = f"{slot}:{customer_id}"
    return f"ct1:{own}", f"log1:{slot}", f"ts1:{own}", f"mv1:{own}"


def of_recording(tenant: str, customer_id: str) -> tuple[str, str, str, str, str]:
    """What recording touches: timeline, ledger, log, tombstone and moved of a customer."""
    slot = tag(tenant, customer_id)
    own = f"{slot}:{customer_id}"
    return f"tl1:{own}", f"ct1:{own}", f"log1:{slot}", f"ts1:{own}", f"mv1:{own}"


def of_journal(tenant: str, decision_id: str, customer_id: str) -> tuple[str, str, str, str]:
    """What logging a decision touches: log, decision, and the customer's tombstone and index."""
    slot, own = tags(tenant)[int(decision_id[:2], 16)], f"{tag(tenant, customer_id)}:{customer_id}"
    return f"log1:{slot}", f"dc1:{slot}:{decision_id}", f"ts1:{own}", f"ix1:{own}"


def orphan(tenant: str, decision_id: str, hash: bytes) -> str:
    """Mark of an outcome of a decision that is not known, beside the log that holds it."""
    return f"or1:{{{tenant}:{int(decision_id[:2], 16)}}}:{hash.hex()}"


def index(tenant: str, customer_id: str) -> str:
    """What else leads to a customer: decisions until they expire, and identifiers."""
    return f"ix1:{tag(tenant, customer_id)}:{customer_id}"


def identity(tenant: str, namespace: str, value: str) -> str:
    """Customer that an identifier names."""
    name = f"{namespace}:{value}"
    return f"id1:{{{tenant}:{partition(name)}}}:{name}"


def models(tenant: str) -> str:
    """Pointer to the active bundle."""
    return f"model:{{{tenant}}}:active"


def manifests(tenant: str) -> str:
    """Hash of the manifests of all bundles by version."""
    return f"model:{{{tenant}}}:manifests"


def bundle(tenant: str, version: str) -> str:
    """Bytes of a bundle."""
    return f"model:{{{tenant}}}:bundle:{version}"


def vocabulary(tenant: str) -> str:
    """The claimed vocabulary."""
    return f"vocabulary:{{{tenant}}}"


def exported(tenant: str) -> str:
    """Hash of the last exported log id by partition."""
    return f"exported:{{{tenant}}}"


def ceiling(tenant: str, name: str, period: str) -> str:
    """Units of a ceiling that were taken in a period."""
    return f"cl1:{{{tenant}}}:{name}:{period}"


def prices(tenant: str) -> str:
    """Hash of the shadow prices by resource."""
    return f"sp1:{{{tenant}}}"


def configuration(tenant: str, digest: str) -> str:
    """A configuration, for ever."""
    return f"cf1:{{{tenant}}}:{digest}"
