"""Business rules in CEL: checked once, then run together.

    check       rules as written -> checked trees; the only one that needs cel-expr-python
    specialise  put in what is known before, such as the fields of one action
    Program     any number of trees -> compact instructions, run by one numba loop
    fuse        any number of trees -> one Python function: the program's oracle

``docs/decisions/0003-rules-in-cel.md`` says which part of CEL, and why this way.
"""

from service.rules.check import Source, check
from service.rules.environment import Environment, Kind, Value
from service.rules.fold import specialise
from service.rules.program import Answers, Program
from service.rules.translate import fuse
from service.rules.tree import Checked
from service.rules.values import Unknown

__all__ = [
    "Answers",
    "Checked",
    "Environment",
    "Kind",
    "Program",
    "Source",
    "Unknown",
    "Value",
    "check",
    "fuse",
    "specialise",
]
