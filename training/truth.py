"""Write what no real log can say: the true acceptance probabilities, intents and traits.

====================  ============================================================================
decisions.parquet     one row a decision: slate, selection and true acceptance probabilities
acceptance.npz        ``probability`` float32 and ``eligible`` bool [decisions x actions], in the
                      order of ``decision_id``, with ``action`` [actions]: the value of any policy
uplift.npz            what presenting adds at once, in the same order: ``converted`` float32
                      [decisions x actions] sales, ``repeat_contact`` float32 [decisions x actions]
                      customers sent back to us
contacts.parquet      the true intent of every contact
customers.parquet     latent traits
====================  ============================================================================

An acceptance probability is that of the action if presented at that very moment, given all that had
happened; what another choice would have changed later on is not in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from training.life import Contact
from training.person import Decision
from training.world import SEGMENTS, TEMPERS, Customer, World


def write(
    folder: Path,
    world: World,
    decisions: list[Decision],
    contacts: Sequence[Contact],
    people: list[Customer],
) -> None:
    """Write the truth of a simulation.

    Args:
        folder: Created where absent.
        world: Whose axes the tables have.
        decisions: Sorted here by id.
        contacts: In any order.
        people: The customers.
    """
    folder.mkdir(parents=True, exist_ok=True)
    decisions.sort(key=lambda decision: decision.decision_id)
    np.savez(
        folder / "acceptance.npz",
        probability=np.array([one.acceptance for one in decisions], np.float32),
        eligible=np.array([one.eligible for one in decisions]),
        decision_id=np.array([one.decision_id for one in decisions]),
        action=np.array(world.actions),
    )
    np.savez(
        folder / "uplift.npz",
        converted=np.array([one.acceptance * world.worth for one in decisions], np.float32),
        repeat_contact=np.array([one.harm for one in decisions], np.float32),
        decision_id=np.array([one.decision_id for one in decisions]),
        action=np.array(world.actions),
    )
    slots = [
        (one.decision_id, slot, world.actions[action], one.selection[slot],
         float(one.acceptance[action]), one.presented[slot], one.accepted[slot])
        for one in decisions for slot, action in enumerate(one.slate)
    ]  # fmt: skip
    heads = [(*one[:6], one.held_back) for one in decisions]
    drop = {"taste", "needs", "segment", "temper"}
    fields = [field.name for field in dataclasses.fields(Customer) if field.name not in drop]
    latents = [
        (*(getattr(one, name) for name in fields), SEGMENTS[one.segment], TEMPERS[one.temper],
         world.intents[int(one.needs.argmax())])
        for one in people
    ]  # fmt: skip
    with duckdb.connect() as db:
        _register(
            db, "heads", "decision_id customer_id ms placement channel intent held_back", heads
        )
        _register(
            db, "slots", "decision_id slot action selection acceptance presented accepted", slots
        )
        _register(
            db, "contacts", "interaction_id customer_id ms channel intent resolved again", contacts
        )
        _register(db, "customers", " ".join([*fields, "segment temper main_need"]), latents)
        _copy(
            db,
            "SELECT heads.*, coalesce(actions, []) AS actions, "
            "coalesce(selection_probabilities, []) AS selection_probabilities, "
            "coalesce(acceptance_probabilities, []) AS acceptance_probabilities, "
            "coalesce(presented, []) AS presented, coalesce(accepted, []) AS accepted "
            "FROM heads LEFT JOIN (SELECT decision_id, "
            "list(action ORDER BY slot) AS actions, "
            "list(selection ORDER BY slot) AS selection_probabilities, "
            "list(acceptance ORDER BY slot) AS acceptance_probabilities, "
            "list(presented ORDER BY slot) AS presented, "
            "list(accepted ORDER BY slot) AS accepted FROM slots GROUP BY decision_id) AS slate "
            "USING (decision_id) ORDER BY decision_id",
            folder / "decisions.parquet",
        )
        _copy(db, "FROM contacts ORDER BY customer_id, ms", folder / "contacts.parquet")
        _copy(db, "FROM customers ORDER BY customer_id", folder / "customers.parquet")


def _register(db: Any, name: str, fields: str, rows: Sequence[tuple[Any, ...]]) -> None:
    columns = zip(*rows, strict=True) if rows else [()] * len(fields.split())
    db.register(
        name,
        {
            field: np.array(column, object if column and isinstance(column[0], str) else None)
            for field, column in zip(fields.split(), columns, strict=True)
        },
    )


def _copy(db: Any, query: str, path: Path) -> None:
    db.execute(f"COPY ({query}) TO '{path}' (FORMAT parquet, COMPRESSION zstd)")
