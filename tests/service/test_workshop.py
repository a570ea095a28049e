"""The process beside the server: what it makes is what we would have made, and it may die."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from features import profile as profiles
from features.plan import Context
from features.record import EMPTY
from service import bundle as bundles
from service import registry, work
from service.bundle import Bundle
from service.business import load, published
from service.errors import BundleRefused, ConfigurationError, Unfinished
from service.models import Models
from service.pipeline import Pipeline
from service.registry import Pointer, Registry
from service.workshop import Workshop
from tests.integration.serving import CONFIG, business, sealed, until, workshop
from tests.integration.shelf import Shelf
from tests.integration.test_bundles_live import resealed


@pytest.fixture
def own() -> Iterator[Workshop]:
    """A workshop that may be harmed."""
    own = Workshop()
    yield own
    own.close()


def made(shop: Workshop, of: Bundle) -> Models:
    return Models.of_parts(shop.ask("models", bundles.pack(of), business().written()))


def killed(shop: Workshop) -> None:
    assert shop._process is not None
    os.kill(shop._process.pid, signal.SIGKILL)


def test_models_made_there_score_as_those_made_here_bit_by_bit() -> None:
    ours, theirs = Models(sealed(), business()), made(workshop(), sealed())
    assert vars(theirs).keys() == vars(ours).keys()
    assert theirs.manifest == ours.manifest
    now = 1_760_000_000_000
    for channel in range(1, 6):
        context = Context(channel, 1)
        vectors = [m.customer(EMPTY, profiles.EMPTY, context, now) for m in (ours, theirs)]
        assert vectors[0].tobytes() == vectors[1].tobytes()
        assert ours.intents(vectors[0]).tobytes() == theirs.intents(vectors[0]).tobytes()
        told = [m.seen(vectors[0], EMPTY, now) for m in (ours, theirs)]
        assert ours.row(told[0], 3).tobytes() == theirs.row(told[1], 3).tobytes()
        assert ours.acceptance(told[0]).tobytes() == theirs.acceptance(told[1]).tobytes()


def test_what_each_feature_added_is_told_by_whoever_knows_the_bundle(own: Workshop) -> None:
    models = Models(sealed(), business())
    vector = models.customer(EMPTY, profiles.EMPTY, Context(1, 1), 0)
    row = models.row(models.seen(vector, EMPTY, 0), 3)
    asked = ("contributions", models.checksum)
    rest = (business().written(), row.tobytes())
    assert next(own.ask(*asked, None, *rest)) is None, "it has not seen the bundle"
    told = next(own.ask(*asked, bundles.pack(sealed()), *rest))
    assert repr(told) == repr(models.contributions(row))
    assert repr(next(own.ask(*asked, None, *rest))) == repr(told), "now it has"


def test_a_configuration_read_there_is_the_one_read_here() -> None:
    digest, written = workshop().ask("configuration", CONFIG, "")
    here = load(CONFIG)
    assert digest == here.digest == published(written).digest
    assert published(written) == here
    assert list(workshop().ask("configuration", CONFIG, digest)) == []


def test_what_is_refused_there_is_refused_here_in_the_same_words(tmp_path: Path) -> None:
    bad = bundles.pack(resealed(sealed(), "bad", feature_digest="0" * 16))
    with pytest.raises(BundleRefused) as here:
        Models(bundles.unpack(bad), business())
    with pytest.raises(BundleRefused) as there:
        workshop().ask("models", bad, business().written())
    assert str(there.value) == str(here.value)
    with pytest.raises(ConfigurationError, match="no such folder"):
        workshop().ask("configuration", tmp_path / "nowhere", "")


def test_a_mistake_of_ours_is_told_as_one() -> None:
    with pytest.raises(RuntimeError, match=r"contributions: TypeError: .*missing"):
        workshop().ask("contributions")
    with pytest.raises(RuntimeError, match=r"nothing: KeyError"):
        workshop().ask("nothing")


def test_a_process_that_is_killed_at_its_work_is_told_and_the_next_task_has_another(
    own: Workshop,
) -> None:
    own.start()
    threading.Timer(0.05, killed, [own]).start()
    with pytest.raises(Unfinished, match="models was ended by signal 9, perhaps for want of mem"):
        made(own, sealed())
    assert made(own, sealed()).checksum == sealed().checksum


def test_a_process_that_died_idle_is_not_missed(own: Workshop) -> None:
    made(own, sealed())
    first = own._process
    killed(own)
    assert first is not None
    first.wait(5)
    assert made(own, sealed()).checksum == sealed().checksum
    assert own._process is not first


def test_a_process_that_cannot_start_says_why(
    own: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    with pytest.raises(Unfinished, match=r"ended with 1 \(.+\); try again"):
        made(own, sealed())


def test_who_waits_for_a_workshop_that_closes_is_told(own: Workshop) -> None:
    own.start()
    threading.Timer(0.05, own.close).start()
    with pytest.raises(Unfinished):
        made(own, sealed())
    with pytest.raises(Unfinished, match="the server is stopping"):
        made(own, sealed())


def test_it_ends_by_itself_without_work_and_starts_again_with_it(own: Workshop) -> None:
    made(own, sealed())
    first = own._process
    assert first is not None
    assert own._channel is not None
    own._channel.shutdown(socket.SHUT_WR)  # what it sees where its server died, too
    assert first.wait(10) == 0
    assert made(own, sealed()).checksum == sealed().checksum
    assert own._process is not first


def test_whoever_comes_just_as_it_goes_home_is_served_by_another(
    own: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(own, sealed())
    first = own._process
    assert first is not None
    assert own._channel is not None
    own._channel.shutdown(socket.SHUT_WR)
    assert first.wait(10) == 0
    monkeypatch.setattr(first, "poll", lambda: None)  # it was still there when we looked
    assert made(own, sealed()).checksum == sealed().checksum
    assert own._process is not first


def test_it_goes_home_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(work, "_IDLE_SECONDS", 0.05)
    monkeypatch.setattr(work, "_behave", lambda: None)
    monkeypatch.setattr(sys, "argv", ["work", str(theirs.detach())])
    with ours:
        start = time.monotonic()
        work.main()
        assert 0.05 <= time.monotonic() - start < 5


def test_it_steps_back_for_whoever_serves(own: Workshop) -> None:
    made(own, sealed())
    assert own._process is not None
    pid = own._process.pid
    assert os.getpriority(os.PRIO_PROCESS, pid) > os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getsid(pid) == pid, "Ctrl-C in a terminal would end it"


def test_threads_take_turns() -> None:
    found: list[Models] = []
    threads = [
        threading.Thread(target=lambda: found.append(made(workshop(), sealed()))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert [one.checksum for one in found] == [sealed().checksum] * 4


async def test_while_it_works_the_loop_goes_on(own: Workshop) -> None:
    own.start()
    beats = 0
    asking = asyncio.create_task(own.do("configuration", CONFIG, "", then=list))
    while not asking.done():
        await asyncio.sleep(0.001)
        beats += 1
    assert len(await asking) == 2
    assert beats > 20


async def test_models_stay_in_charge_where_the_process_dies_and_a_later_look_heals(
    own: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_POLL_SECONDS", 0.01)
    monkeypatch.setattr(registry, "_AGAIN_SECONDS", 0.01)
    shelf = Shelf()
    known = Registry(shelf, business(), own)
    await known.adopt(sealed())
    first = known.models
    await registry.publish(shelf, resealed(sealed(), "second"), business())

    monkeypatch.setattr(Workshop, "do", _dies)
    with pytest.raises(Unfinished):
        await known.activate("second")
    assert known.models is first
    assert msgspec.json.decode(shelf.pointer or b"", type=Pointer).active != "second"

    # Another server put it in charge; here it is looked at again and again.
    shelf.pointer = msgspec.json.encode(Pointer("second"))
    await known.start()
    assert known.refused.startswith("second: ")
    assert known.models is first
    monkeypatch.undo()
    monkeypatch.setattr(registry, "_POLL_SECONDS", 0.01)
    await until(lambda: known.models is not first, 20)
    assert not known.refused
    await known.close()


async def _dies(*_: object, **__: object) -> None:
    raise Unfinished("the process that works on models was ended by signal 9; try again")


async def test_models_that_were_replaced_go_without_the_collector() -> None:
    """What is frozen is never walked: a cycle would keep every bundle that ever served."""
    shelf = Shelf()
    known = Registry(shelf, business(), workshop())
    await known.adopt(sealed())
    await registry.publish(shelf, resealed(sealed(), "second"), business())
    old = weakref.ref(cast(Models, known.models))
    gc.disable()
    try:
        await known.activate("second")
        await asyncio.sleep(0)
        assert old() is None
    finally:
        gc.enable()


def test_a_configuration_that_was_replaced_goes_without_the_collector() -> None:
    gc.collect()
    gc.disable()
    try:
        pipeline = Pipeline(published(business().written()))
        fused: Any = pipeline.policies.conditions._load
        old = [weakref.ref(pipeline), weakref.ref(fused)]
        del pipeline, fused
        assert all(one() is None for one in old)
    finally:
        gc.enable()


def test_a_server_imports_nothing_of_the_compiler_of_rules() -> None:
    """It is the process beside it that reads folders."""
    code = "import sys, service.server; assert 'cel_expr_python' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_arrays_of_models_are_mapped() -> None:
    models = made(workshop(), sealed())
    mapped = [models.usual.rows, models.plan._of_customer.block]
    assert len(mapped) >= 2
    assert not any(one.flags.owndata for one in mapped)
