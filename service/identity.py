"""Who a caller means: identifiers, evened out and resolved to a customer."""

from __future__ import annotations

import hashlib
from typing import Final

from features.vocabulary import Vocabulary
from service.errors import Violation

MAX_CUSTOMER_ID: Final = 128
MAX_IDENTIFIER: Final = 256


def normalise(vocabulary: Vocabulary, namespace: str, value: str) -> str | Violation:
    """Even out case and spacing as the namespace declares.

    Returns:
        The value as it is stored, or what is wrong with it.
    """
    declared = vocabulary.namespaces.get(namespace)
    if declared is None:
        known = ", ".join(vocabulary.namespaces) or "none is declared"
        return Violation("namespace", f"{namespace[:64]!r} is not declared; use one of: {known}")
    if not value.strip() or len(value) > MAX_IDENTIFIER:
        return Violation("value", f"{len(value)} characters; send 1 to {MAX_IDENTIFIER}")
    if declared.normalise in ("digits", "phone"):
        digits = "".join(str(int(one)) for one in value if one.isdecimal())
        if declared.normalise == "phone":
            digits = digits.removeprefix("00")
        return digits or Violation("value", f"{value!r} holds no digit; send a number")
    stripped = " ".join(value.split())
    return stripped.casefold() if declared.normalise == "lower" else stripped


def newcomer(namespace: str, value: str) -> str:
    """The customer that an identifier names while it is linked to nobody, always the same one."""
    digest = hashlib.blake2b(f"{namespace}\0{value}".encode(), digest_size=12).hexdigest()
    return f"{namespace}-{digest}"
