"""Business rules in CEL: checked once, then run as one Python function.

    check       rules as written -> checked trees; the only one that needs cel-expr-python
    specialise  put in what is known before, such as the fields of one action
    fuse        any number of trees -> one function

``docs/decisions/0003-rules-in-cel.md`` says which part of CEL, and why this way.
"""

from service.rules.check import Source, check
from service.rules.environment import Environment, Kind, Value
from service.rules.fold import specialise
from service.rules.translate import fuse
from service.rules.tree import Checked
from service.rules.values import Unknown

__all__ = [
    "Checked",
    "Environment",
    "Kind",
    "Source",
    "Unknown",
    "Value",
    "check",
    "fuse",
    "specialise",
]
