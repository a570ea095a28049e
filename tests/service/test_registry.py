from __future__ import annotations

import asyncio

import msgspec
import pytest

from service import bundle as bundles
from service import registry
from service.bundle import Bundle
from service.errors import BundleRefused, Conflict, NotFound, Precondition, StoreUnavailable
from service.registry import Pointer, Registry
from tests.integration.serving import business, sealed, until, workshop
from tests.integration.shelf import Shelf
from tests.integration.test_bundles_live import resealed


@pytest.fixture
def shelf() -> Shelf:
    return Shelf()


async def put(shelf: Shelf, *some: Bundle) -> None:
    for one in some:
        await registry.publish(shelf, one, business())


async def test_there_are_no_models_before_the_first_bundle(shelf: Shelf) -> None:
    known = Registry(shelf, business(), workshop())
    await known.start()
    assert known.models is None
    assert await known.listed() == (None, [])
    await known.close()


async def test_what_is_active_is_loaded_at_the_start(shelf: Shelf) -> None:
    await put(shelf, sealed())
    await Registry(shelf, business(), workshop()).activate(sealed().manifest.version)
    known = Registry(shelf, business(), workshop())
    await known.start()
    assert known.models is not None
    assert known.models.manifest == sealed().manifest
    await known.close()


async def test_an_activation_points_to_the_new_one_and_remembers_the_old(shelf: Shelf) -> None:
    known = Registry(shelf, business(), workshop())
    await put(shelf, sealed(), resealed(sealed(), "second"))
    first = sealed().manifest.version
    await known.activate(first)
    assert msgspec.json.decode(shelf.pointer or b"", type=Pointer) == Pointer(first, "")
    await known.activate("second")
    assert msgspec.json.decode(shelf.pointer or b"", type=Pointer) == Pointer("second", first)
    assert known.models is not None
    assert known.models.manifest.version == "second"
    assert (await known.rollback()).manifest.version == first


async def test_two_who_activate_at_once_do_not_overwrite_each_other(shelf: Shelf) -> None:
    await put(shelf, sealed(), resealed(sealed(), "second"))
    one, other = Registry(shelf, business(), workshop()), Registry(shelf, business(), workshop())
    done = await asyncio.gather(
        one.activate(sealed().manifest.version), other.activate("second"), return_exceptions=True
    )
    assert sum(isinstance(result, Conflict) for result in done) == 1


async def test_what_is_not_there_is_not_found_and_nothing_changes(shelf: Shelf) -> None:
    known = Registry(shelf, business(), workshop())
    with pytest.raises(NotFound, match="'never' is not published"):
        await known.activate("never")
    with pytest.raises(Precondition, match="name a version"):
        await known.rollback()
    assert shelf.pointer is None


async def test_a_refused_bundle_leaves_pointer_and_models(shelf: Shelf) -> None:
    known = Registry(shelf, business(), workshop())
    await known.adopt(sealed())
    before = known.models
    await shelf.publish("bad", b"{}", bundles.pack(sealed())[:-99])
    with pytest.raises(BundleRefused):
        await known.activate("bad")
    assert known.models is before
    assert msgspec.json.decode(shelf.pointer or b"", type=Pointer).active != "bad"


async def test_adopting_twice_publishes_once(shelf: Shelf) -> None:
    known = Registry(shelf, business(), workshop())
    await known.adopt(sealed())
    await known.adopt(sealed())
    assert list(shelf.blobs) == [sealed().manifest.version]


async def test_a_version_cannot_be_published_twice(shelf: Shelf) -> None:
    await put(shelf, sealed())
    with pytest.raises(Conflict, match="versions are for ever"):
        await put(shelf, sealed())


async def test_a_bundle_that_does_not_verify_is_not_published(shelf: Shelf) -> None:
    with pytest.raises(BundleRefused, match="other definitions"):
        await put(shelf, resealed(sealed(), "bad", feature_digest="0" * 16))
    assert not shelf.blobs


async def test_a_pointer_that_moves_is_followed_and_a_refusal_is_told_once(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_POLL_SECONDS", 0.01)
    await put(shelf, sealed())
    await shelf.publish("bad", b"{}", b"nonsense")
    known = Registry(shelf, business(), workshop())
    await known.start()
    shelf.pointer = msgspec.json.encode(Pointer("bad"))
    await until(lambda: known.refused.startswith("bad: "))
    assert known.models is None
    shelf.pointer = msgspec.json.encode(Pointer(sealed().manifest.version))
    await until(lambda: known.models is not None)
    assert not known.refused
    shelf.pointer = msgspec.json.encode(Pointer("never"))
    await until(lambda: known.refused.startswith("never: "))
    assert known.models is not None
    await known.close()


async def test_following_outlives_a_store_that_is_away(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_POLL_SECONDS", 0.01)
    await put(shelf, sealed())
    known = Registry(shelf, business(), workshop())
    await known.start()
    shelf.away = True
    shelf.pointer = msgspec.json.encode(Pointer(sealed().manifest.version))
    await asyncio.sleep(0.05)
    assert known.models is None
    shelf.away = False
    await until(lambda: known.models is not None)
    await known.close()


async def test_a_server_does_not_start_while_the_store_is_away(shelf: Shelf) -> None:
    shelf.away = True
    with pytest.raises(StoreUnavailable):
        await Registry(shelf, business(), workshop()).start()
