from __future__ import annotations

import os
import threading

import pytest

from service.threads import patient

pytestmark = pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="Linux has the policy")


def policy() -> int:
    return os.sched_getscheduler(0)


def told(inside: list[int]) -> threading.Thread:
    thread = threading.Thread(target=lambda: inside.append(policy()))
    thread.start()
    return thread


def test_threads_that_are_started_inside_wait_for_their_turn_and_the_starter_does_not() -> None:
    before, inside = policy(), list[int]()
    with patient():
        told(inside).join()
    told(inside).join()
    assert inside == [os.SCHED_BATCH, before]
    assert policy() == before


def test_the_starter_is_what_it_was_though_something_fails() -> None:
    before = policy()
    with pytest.raises(ZeroDivisionError), patient():
        raise ZeroDivisionError
    assert policy() == before


def test_where_it_is_not_allowed_nothing_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "sched_setscheduler", forbidden)
    before, inside = policy(), list[int]()
    with patient():
        told(inside).join()
    assert inside == [before]
