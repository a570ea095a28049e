"""Golden cases: what the models of a bundle said when it was built, and have to say here. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import msgspec
import numpy as np

from features import profile as profiles
from features.elementary import Floats
from features.plan import Context
from features.record import decode
from service.bundle import Golden
from service.errors import BundleRefused
from service.sight import Seen

if TYPE_CHECKING:
    from service.models import Models

_TOLERANCE: Final = 1e-12


def verify(models: Models, cases: Sequence[Golden]) -> None:
    """Compute golden cases and compare; this warms the kernels too.

    Raises:
        BundleRefused: One comes out differently, or cannot be computed.
    """
    for number, case in enumerate(cases):
        try:
            _reproduce(models, number, case)
        except (ValueError, msgspec.DecodeError) as error:
            raise BundleRefused(
                f"bundle {models.manifest.version} cannot compute golden case {number}: {error}"
            ) from error


def write(
    models: Models, cases: Sequence[tuple[bytes, profiles.Profile, Context, int]]
) -> list[Golden]:
    """Write golden cases for the models of an unpublished bundle."""
    written = []
    for stored, profile, context, now in cases:
        _, records = decode(stored)
        vector = models.customer(records, profile, context, now)
        row = models.row(models.seen(vector, records, now), 0)
        scored = models.scores_acceptance
        lifted = models.uplift_of(row, models.names[0], vector)
        written.append(
            Golden(
                stored,
                profiles.encode(profile),
                context.channel,
                context.direction,
                now,
                vector.tobytes(),
                models.intents(vector).tobytes(),
                row.tobytes() if scored or lifted is not None else b"",
                np.array([models.acceptance_of(row)]).tobytes() if scored else b"",
                models.names[0] if scored or lifted is not None else "",
                b"" if lifted is None else lifted.tobytes(),
            )
        )
    return written


def _reproduce(models: Models, number: int, case: Golden) -> None:
    _, records = decode(case.timeline)
    profile = msgspec.msgpack.decode(case.profile, type=profiles.Profile)
    vector = models.customer(records, profile, Context(case.channel, case.direction), case.now)
    found = [("vector", vector, case.vector, 0.0)]
    found += _alike(models, models.seen(vector, records, case.now))
    if models.scores_intents:
        found.append(("intents", models.intents(vector), case.intents, _TOLERANCE))
    if models.scores_acceptance and case.row:
        chance = np.array([models.acceptance_of(np.frombuffer(case.row))])
        found.append(("acceptance", chance, case.acceptance, _TOLERANCE))
    if models.scores_uplift and case.row:
        lifted = models.uplift_of(np.frombuffer(case.row), case.action, vector)
        assert lifted is not None  # noqa: S101  the bags are there
        found.append(("uplift", lifted, case.uplift, _TOLERANCE))
    for what, ours, written, tolerance in found:
        theirs = np.frombuffer(written)
        same = (
            ours.tobytes() == written
            if tolerance == 0.0
            else ours.shape == theirs.shape and np.allclose(ours, theirs, tolerance, tolerance)
        )
        if not same:
            raise BundleRefused(
                f"bundle {models.manifest.version} does not give its own answers here: "
                f"{what} of golden case {number} differs; train it with this version"
            )


def _alike(models: Models, seen: Seen) -> Iterable[tuple[str, Floats, bytes, float]]:
    """What the compiled forests say of the first action, and the same tree by tree."""
    row = models.row(seen, 0)
    if models.scores_acceptance:
        plain = np.array([models.acceptance_of(row)])
        yield "acceptance, compiled,", models.acceptance(seen)[:1], plain.tobytes(), 0.0
    lifted, one = models.uplift(seen), models.uplift_of(row, models.names[0], seen.vector)
    if lifted is not None and one is not None:
        # Scores are the same to the bit; a mean over bags of one action adds in another order.
        yield "uplift, compiled,", lifted[0], one.tobytes(), _TOLERANCE
