"""Which way imports may point; a name more in one of these lists is a decision."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

GRPC = {
    "service.server",  # runs it
    "service.interceptors",  # translates errors, reads metadata
    "service.errors",  # each error carries its status code
    "training.demo",  # a client of the API, as any other
    "training.sender",  # a client of the API, as any other
}
GRPC_PREFIXES = ("service.rpc_",)

REDIS = {
    "service.redis_client",
    "service.redis_cluster",
    "service.redis_command",
    "service.redis_line",
    "service.redis_nodes",
    "service.redis_pipeline",
    "service.redis_sentinel",
}

TRAINING_MAY_USE = {
    "service": "the version that a bundle is stamped with",
    "service.bundle": "what training writes and the service reads",
    "service.arbitration": "scores, which are part of a decision's inputs",
    "service.business": "reads and checks a configuration",
    "service.callers": "who may ask what, for reading a logged request again",
    "service.catalogue": "actions, treatments and placements",
    "service.causes": "what speaks against actions",
    "service.declared": "what is declared about many actions",
    "service.config": "reads YAML the same way",
    "service.errors": "one tree of errors",
    "service.exploration": "what became of a candidate",
    "service.reasons": "reasons, which are part of a decision's inputs",
    "service.rules": "what conditions say, without one of them",
    "service.layout": "where a sight holds what",
    "service.sight": "what models see and say, without one feature",
    "service.situation": "whether a context weight holds",
    "service.weighed": "what was decided, up to what the store says",
    "service.answers": "writes an answer as the log has it",
    "service.entries": "writes a decision as the log has it",
    "service.inputs": "what a logged decision was made of",
    "service.pipeline": "decides again what was decided",
    "service.questions": "reads a logged request again",
    "service.reading": "the timeline of customers who are one",
    "service.variables": "what conditions may read",
    "service.models": "scores golden cases as the service will",
    "service.policies": "what is dropped, without one cause",
    "service.circumstances": "what the filter stages look at, without one cause",
    "service.limits": "which outcomes go to the ledger",
    "service.stages": "names of the stages that have rules",
    "service.goldens": "writes the cases that a server must reproduce",
    "service.uplift": "rows as the uplift model sees them",
    "service.usual": "what the catalogue says of actions, as numbers",
    "service.redis_store": "the exporter reads the log",
    "service.registry": "publishing goes through the same door as activation",
    "service.workshop": "what is activated is verified where a server verifies it",
}


@cache
def modules(package: str) -> list[str]:
    """Names of all modules of a package."""
    found = sorted((ROOT / package).rglob("*.py"))
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in found
    ]


def imported(module: str) -> Iterator[str]:
    """Every module that a module may import, also inside functions and from a package."""
    path = ROOT.joinpath(*module.split("."))
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    ours = set(modules("features") + modules("service") + modules("training"))
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively; write the whole name"
            assert node.module is not None
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inside & ours or {node.module}
            if any(f"{node.module}.{alias.name}" not in ours for alias in node.names):
                yield node.module


def roots(module: str) -> set[str]:
    return {name.split(".")[0] for name in imported(module)}


def test_there_is_something_to_look_at() -> None:
    assert "features.kernels" in modules("features")
    assert "features.record" in set(imported("service.redis_store"))
    assert "rapport.v1" in set(imported("service.answers"))
    assert "service.bundle" in set(imported("service.models")), "also through `from service import`"


@pytest.mark.parametrize("module", modules("features"))
def test_features_are_pure(module: str) -> None:
    stay_out = {"service", "training", "rapport", "google", "redis", "grpc", "duckdb", "lightgbm",
                "yaml", "structlog", "typer", "socket", "asyncio", "time", "random",
                "os"}  # fmt: skip
    assert not roots(module) & stay_out


@pytest.mark.parametrize("module", modules("service"))
def test_the_service_never_imports_training(module: str) -> None:
    assert not roots(module) & {"training", "duckdb", "tests"}


@pytest.mark.parametrize("module", modules("features") + modules("service") + modules("training"))
def test_redis_appears_in_the_store_module_alone(module: str) -> None:
    assert module in REDIS or not roots(module) & {"redis", "valkey", "hiredis"}


@pytest.mark.parametrize("module", modules("features") + modules("service") + modules("training"))
def test_grpc_appears_only_at_the_edge(module: str) -> None:
    edge = module in GRPC or module.startswith(GRPC_PREFIXES)
    assert edge or not roots(module) & {"grpc", "grpc_health", "grpc_reflection", "grpc_status"}


@pytest.mark.parametrize(
    "module",
    ["service.decide", "service.policies", "service.arbitration", "service.facts", "service.budget",
     "service.catalogue", "service.journal", "service.explain"],
)  # fmt: skip
def test_the_pipeline_knows_a_store_and_never_which(module: str) -> None:
    reached, waiting = set[str](), [module]
    ours = set(modules("service"))
    while waiting:
        name = waiting.pop()
        if name in ours and name not in reached:
            reached.add(name)
            waiting += imported(name)
    assert not reached & {"service.redis_store", "service.server", "service.embedded"}


@pytest.mark.parametrize("module", modules("training"))
def test_training_uses_only_what_is_listed_of_the_service(module: str) -> None:
    used = {name for name in imported(module) if name.split(".")[0] == "service"}
    assert used <= set(TRAINING_MAY_USE)


def test_nothing_is_listed_that_nobody_uses() -> None:
    used = {name for module in modules("training") for name in imported(module)}
    assert set(TRAINING_MAY_USE) <= used
    using_grpc = {
        module
        for package in ("service", "training")
        for module in modules(package)
        if "grpc" in roots(module)
    }
    assert using_grpc >= GRPC
