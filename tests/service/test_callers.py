from __future__ import annotations

from pathlib import Path

import pytest

from service.callers import EVERYBODY, SCOPES, Caller, Callers
from service.errors import ConfigurationError, Denied, Unauthenticated
from tests.integration.serving import callers_file


def test_without_a_file_everybody_may_do_everything() -> None:
    known = Callers(None)
    assert known.open
    assert known.identify("") is EVERYBODY
    assert EVERYBODY.scopes == SCOPES


def test_a_caller_is_found_by_the_token(tmp_path: Path) -> None:
    known = Callers(callers_file(tmp_path, {"ivr": ["decide"], "crm": ["profile", "record"]}))
    assert not known.open
    ivr = Caller("ivr", frozenset({"decide"}), frozenset({"test"}))
    assert known.identify("Bearer ivr-token") == ivr
    assert known.identify("bearer  crm-token ").name == "crm"


def test_who_is_known_once_lets_nobody_else_in(tmp_path: Path) -> None:
    known = Callers(callers_file(tmp_path, {"ivr": ["decide"], "crm": ["record"]}))
    for padded in range(1_100):
        assert known.identify(f"Bearer{' ' * (padded + 1)}ivr-token").name == "ivr"
    assert len(known._known) <= 1_000
    for _ in range(2):
        assert known.identify("Bearer ivr-token").name == "ivr"
        assert known.identify("Bearer crm-token").name == "crm"
        for header in ("Bearer ivr-token2", "Basic ivr-token", "Bearer "):
            with pytest.raises(Unauthenticated):
                known.identify(header)


@pytest.mark.parametrize(
    "header", ["", "Bearer", "Bearer ", "Bearer other", "Basic ivr-token", "ivr-token"]
)
def test_anybody_else_is_nobody(tmp_path: Path, header: str) -> None:
    known = Callers(callers_file(tmp_path, {"ivr": ["decide"]}))
    with pytest.raises(Unauthenticated, match="authorization: Bearer TOKEN"):
        known.identify(header)


def test_a_file_without_callers_lets_nobody_in(tmp_path: Path) -> None:
    known = Callers(callers_file(tmp_path, {}))
    assert not known.open
    with pytest.raises(Unauthenticated):
        known.identify("Bearer ")


def test_a_missing_scope_is_named_with_those_there_are() -> None:
    caller = Caller("ivr", frozenset({"record", "decide"}))
    caller.need("decide")
    with pytest.raises(Denied, match="'ivr' lacks scope 'admin'; it has: decide, record"):
        caller.need("admin")
    with pytest.raises(Denied, match="it has: none"):
        Caller("ivr", frozenset()).need("admin")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("callers: {ivr: {token_sha256: short, scopes: []}}", "64 hexadecimal digits"),
        (f"callers: {{ivr: {{token_sha256: {'g' * 64}, scopes: []}}}}", "64 hexadecimal digits"),
        (f"callers: {{ivr: {{token_sha256: '{'0' * 64}', scopes: [all]}}}}", "scopes"),
        (f"callers: {{ivr: {{token_sha256: '{'0' * 64}'}}}}", "scopes"),
        ("caller: {}", "caller"),
    ],
)
def test_a_wrong_file_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "callers.yaml"
    path.write_text(text)
    with pytest.raises(ConfigurationError, match=r"callers\.yaml:1") as caught:
        Callers(path)
    assert told in str(caught.value)


def test_two_callers_cannot_share_a_token(tmp_path: Path) -> None:
    path = tmp_path / "callers.yaml"
    one = f"{{token_sha256: '{'a' * 64}', scopes: [decide]}}"
    path.write_text(f"callers:\n  ivr: {one}\n  crm: {one}\n")
    with pytest.raises(ConfigurationError, match="same token"):
        Callers(path)
