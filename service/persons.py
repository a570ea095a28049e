"""Profiles changed and customers made one, however many writers do so at once.

A write holds only where nobody wrote since it was read; where somebody did, it is read and tried
again. The store knows what two customers who are one share; what each of them was told is ours.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Final

from features.profile import EMPTY, Profile, decode, encode
from features.record import LogId
from service import identity, profiles
from service.callers import Caller
from service.errors import Conflict, Precondition
from service.identity import News
from service.profiles import Kept
from service.reading import needed
from service.store import Store

_TRIES: Final = 64  # of several writers at once, one gets through in every round


class Persons:
    """Customers of a store, of whom some are one person."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def change(
        self, customer: str, said: Callable[[LogId, Profile], News | None], caller: Caller
    ) -> Kept:
        """Change a profile by what is said in view of it, however many change it at once.

        Of a customer who was merged into another, also meanwhile, it is the root's profile.

        Raises:
            Conflict: Others were faster every time.
            Unreadable: What is stored is no profile.
        """
        for _ in range(_TRIES):
            stored = await self._store.read(customer)
            root = stored.customer_id or customer
            id, profile = needed(decode, stored.profile)
            news = said(id, profile)
            if news is None:
                return Kept(root, id, profile)
            changed = profile.changed(news.attributes, news.consents, news.moment)
            entry = profiles.entry(root, news, caller)
            written = await self._store.write_profile(root, id, encode(changed), entry, news.moment)
            if written is not None:
                return Kept(root, written, changed)
        raise Conflict(f"the profile changed {_TRIES} times meanwhile; try again")

    async def merge_newcomer(self, who: tuple[str, str], root: str, caller: Caller) -> str | None:
        """Merge the newcomer that an identifier named before it was linked, if one is known.

        What became of decisions that were taken by the identifier is kept under that newcomer.

        Returns:
            The root, or None where there is nothing to merge.
        """
        newcomer = identity.newcomer(*who)
        left = await self._store.read(newcomer)
        apart = newcomer != root and left.customer_id in ("", newcomer)
        if apart and (left.timeline or left.ledger or left.profile):
            return await self.merge(newcomer, root, caller)
        return None

    async def merge(self, customer: str, into: str, caller: Caller) -> str:
        """Make two customers one person; give the root.

        The profile goes over first, until it no longer changes: once they are merged nobody reads
        that of a member, and a merge that failed is asked for again.

        Raises:
            Conflict: The profile changed every time.
            Unreadable: What is stored is no profile.
        """
        copied = None
        for _ in range(_TRIES):
            stored = await self._store.read(customer)
            if stored.profile == copied:
                break
            copied = stored.profile
            await self._fold(needed(decode, copied)[1], into, caller)
        else:
            raise Conflict(f"the profile changed {_TRIES} times meanwhile; try again")
        await self._store.merge(customer, into, caller.name)
        return await self._store.root(into)

    async def _fold(self, told: Profile, into: str, caller: Caller) -> None:
        """Tell a root what a member was told, each thing at its own moment, oldest first."""
        for moment in [one.moment for one in identity.news(told, EMPTY)]:

            def said(_: LogId, known: Profile, moment: int = moment) -> News | None:
                return next((n for n in identity.news(told, known) if n.moment == moment), None)

            # What was told before they were forgotten stays forgotten.
            with suppress(Precondition):
                await self.change(into, said, caller)
