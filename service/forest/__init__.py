"""LightGBM models scored for a whole catalogue at once, exactly, without LightGBM.

    parse       the text of a model -> trees
    together    several models over the same columns -> trees of all their classes
    compile     trees and a catalogue -> one block of bytes, to be written and mapped
    Forest      a block, ready: a customer's values -> a score for every row
    row         any one whole row, the plain way

``docs/decisions/0007-a-forest-for-one-catalogue.md`` says how, why this way, and what it costs.
"""

from service.forest.compile import compile  # noqa: A004
from service.forest.model import parse
from service.forest.scorer import Forest
from service.forest.shape import ACTION, CUSTOMER, PAIR
from service.forest.trees import ModelRefused, Trees, together
from service.forest.walk import row

__all__ = [
    "ACTION",
    "CUSTOMER",
    "PAIR",
    "Forest",
    "ModelRefused",
    "Trees",
    "compile",
    "parse",
    "row",
    "together",
]
