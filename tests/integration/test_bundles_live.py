"""Models change while a server serves; what does not verify changes nothing."""

from __future__ import annotations

import asyncio
import uuid
import zlib
from collections.abc import Callable

import grpc
import msgspec
import pytest
from redis.asyncio import Redis

from rapport.v1 import admin_pb2
from service import bundle as bundles
from service import keys, registry
from service.bundle import Bundle, Golden
from tests.integration.serving import Client, business, serving, somebody, until

pytestmark = pytest.mark.asyncio(loop_scope="module")

State = admin_pb2.ModelBundle


def resealed(of: Bundle, version: str, **changes: object) -> Bundle:
    """The bundle under another version, with other files or fields and sums that fit them."""
    manifest = of.manifest
    files = {name: data for name, data in of.files.items() if name != bundles.MANIFEST}
    files |= {name: data for name, data in changes.items() if isinstance(data, bytes)}
    return bundles.seal(
        files,
        version=version,
        built_at=manifest.built_at + 1_000,
        code=manifest.code,
        feature_digest=str(changes.get("feature_digest", manifest.feature_digest)),
        vocabulary_digest=manifest.vocabulary_digest,
        metrics=manifest.metrics,
        lineage=manifest.lineage,
    )


async def listed(client: Client) -> dict[str, State.State.ValueType]:
    answer = await client.admin.ListModels(admin_pb2.ListModelsRequest())
    return {one.version: one.state for one in answer.bundles}


async def activate(client: Client, version: str) -> admin_pb2.ModelBundle:
    request = admin_pb2.ActivateModelRequest(version=version)
    return (await client.admin.ActivateModel(request)).active


async def rollback(client: Client) -> admin_pb2.ModelBundle:
    request = admin_pb2.ActivateModelRequest(rollback=True)
    return (await client.admin.ActivateModel(request)).active


async def serves(client: Client) -> str:
    """The bundle behind an answer."""
    return (await client.decide(somebody())).versions.bundle


async def status(client: Client) -> admin_pb2.GetStatusResponse:
    return await client.admin.GetStatus(admin_pb2.GetStatusRequest())


async def test_a_published_bundle_is_a_candidate_until_it_is_put_in_charge(
    url: str, bundle: Bundle
) -> None:
    async with serving(url) as client:
        await registry.publish(client.store, bundle, business())
        version = bundle.manifest.version
        assert await listed(client) == {version: State.STATE_CANDIDATE}
        assert await serves(client) == ""
        active = await activate(client, version)
        assert active.version == version
        assert active.state == State.STATE_ACTIVE
        assert active.checksum == bundle.checksum
        assert active.feature_digest == bundle.manifest.feature_digest
        assert active.metrics["acceptance.auc"] == bundle.manifest.metrics["acceptance.auc"]
        assert await serves(client) == version
        assert (await status(client)).versions.bundle == version


async def test_a_rollback_puts_the_bundle_before_back_in_charge(url: str, bundle: Bundle) -> None:
    async with serving(url, bundle=bundle) as client:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rollback(client)
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        await registry.publish(client.store, resealed(bundle, "second"), business())
        await activate(client, "second")
        first = bundle.manifest.version
        assert await listed(client) == {first: State.STATE_PREVIOUS, "second": State.STATE_ACTIVE}
        assert (await rollback(client)).version == first
        assert await serves(client) == first
        assert await listed(client) == {first: State.STATE_ACTIVE, "second": State.STATE_PREVIOUS}
        assert (await rollback(client)).version == "second"


async def test_activating_what_is_active_keeps_what_was_before(url: str, bundle: Bundle) -> None:
    async with serving(url, bundle=bundle) as client:
        await registry.publish(client.store, resealed(bundle, "second"), business())
        await activate(client, "second")
        await activate(client, "second")
        assert (await rollback(client)).version == bundle.manifest.version


async def test_a_version_is_for_ever(url: str, bundle: Bundle) -> None:
    """Sending the same bytes again does no harm: a publisher may have died half-way."""
    async with serving(url, bundle=bundle) as client:
        await registry.publish(client.store, bundle, business())
        version = bundle.manifest.version
        assert not await client.store.publish(version, b"{}", b"other bytes")
        assert await client.store.bundle(version) == bundles.pack(bundle)


async def test_bundles_are_listed_newest_first(url: str, bundle: Bundle) -> None:
    async with serving(url, bundle=bundle) as client:
        await registry.publish(client.store, resealed(bundle, "later"), business())
        assert list(await listed(client)) == ["later", bundle.manifest.version]


def truncated(of: Bundle) -> bytes:
    return bundles.pack(of)[:-1_000]


def altered(of: Bundle) -> bytes:
    blob = bytearray(bundles.pack(of))
    blob[len(blob) // 2] ^= 0xFF
    return bytes(blob)


def replaced(of: Bundle) -> bytes:
    """A file changed and packed well, under the manifest of before."""
    files = {**of.files, bundles.ACCEPTANCE: of.files[bundles.ACCEPTANCE] + b"\n"}
    return bundles.pack(Bundle(of.manifest, of.checksum, files))


def without_a_file(of: Bundle) -> bytes:
    files = {name: data for name, data in of.files.items() if name != bundles.GOLDEN}
    return bundles.pack(Bundle(of.manifest, of.checksum, files))


def with_a_file_more(of: Bundle) -> bytes:
    return bundles.pack(Bundle(of.manifest, of.checksum, {**of.files, "more": b""}))


def other_digest(of: Bundle) -> bytes:
    return bundles.pack(resealed(of, "bad", feature_digest="0123456789abcdef"))


def other_definitions(of: Bundle) -> bytes:
    changed = of.files[bundles.DEFINITIONS].replace(b'"window":"24h"', b'"window":"25h"')
    assert changed != of.files[bundles.DEFINITIONS]
    return bundles.pack(resealed(of, "bad", **{bundles.DEFINITIONS: changed}))


def other_vocabulary(of: Bundle) -> bytes:
    vocabulary = msgspec.json.decode(of.files[bundles.VOCABULARY])
    vocabulary["channels"]["phone"] = 200
    return bundles.pack(
        resealed(of, "bad", **{bundles.VOCABULARY: msgspec.json.encode(vocabulary)})
    )


def _golden(of: Bundle, **changes: bytes) -> bytes:
    cases = msgspec.msgpack.decode(of.files[bundles.GOLDEN], type=list[Golden])
    cases[-1] = msgspec.structs.replace(cases[-1], **changes)
    return bundles.pack(resealed(of, "bad", **{bundles.GOLDEN: msgspec.msgpack.encode(cases)}))


def other_golden_vector(of: Bundle) -> bytes:
    cases = msgspec.msgpack.decode(of.files[bundles.GOLDEN], type=list[Golden])
    vector = bytearray(cases[-1].vector)
    vector[0] ^= 1  # the last bit of the first number
    return _golden(of, vector=bytes(vector))


def other_golden_answer(of: Bundle) -> bytes:
    return _golden(of, acceptance=(0.123).hex().encode()[:8])


def unreadable_golden_timeline(of: Bundle) -> bytes:
    return _golden(of, timeline=b"nonsense")


def unreadable_golden_profile(of: Bundle) -> bytes:
    return _golden(of, profile=b"\xc1")


def torn_golden_row(of: Bundle) -> bytes:
    return _golden(of, row=b"123")


def unreadable_definitions(of: Bundle) -> bytes:
    return bundles.pack(resealed(of, "bad", **{bundles.DEFINITIONS: b"{"}))


def unreadable_model(of: Bundle) -> bytes:
    return bundles.pack(resealed(of, "bad", **{bundles.ACCEPTANCE: b"tree\n"}))


def a_model_of_other_columns(of: Bundle) -> bytes:
    return bundles.pack(resealed(of, "bad", **{bundles.ACCEPTANCE: of.files[bundles.INTENT]}))


def of_another_version(of: Bundle) -> bytes:
    return bundles.pack(resealed(of, "worse"))


def no_bundle(of: Bundle) -> bytes:
    return zlib.compress(b"something else")


SPOILT: dict[Callable[[Bundle], bytes], str] = {
    truncated: "truncated",
    altered: "altered",
    replaced: "acceptance.txt",
    without_a_file: "golden.msgpack is missing",
    with_a_file_more: "more",
    other_digest: "0123456789abcdef",
    other_definitions: "other definitions",
    other_vocabulary: "another vocabulary",
    other_golden_vector: "vector of golden case",
    other_golden_answer: "acceptance of golden case",
    unreadable_golden_timeline: "no timeline",
    unreadable_golden_profile: "golden case",
    torn_golden_row: "golden case",
    unreadable_definitions: "cannot be loaded",
    unreadable_model: "bad",
    a_model_of_other_columns: "bad",
    of_another_version: "worse",
    no_bundle: "truncated",
}


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda one: one.__name__)
async def test_a_bundle_is_refused_with_its_reason_and_the_old_one_goes_on_serving(
    url: str, bundle: Bundle, spoil: Callable[[Bundle], bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "_POLL_SECONDS", 0.02)
    async with serving(url, bundle=bundle) as client:
        manifest = resealed(bundle, "bad").files[bundles.MANIFEST]
        await client.store.publish("bad", manifest, spoil(bundle))
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await activate(client, "bad")
        assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        assert SPOILT[spoil] in (caught.value.details() or "")
        assert await serves(client) == bundle.manifest.version
        assert (await listed(client))["bad"] == State.STATE_CANDIDATE

        # Another server, of another version perhaps, put it in charge.
        pointer, _ = await client.store.models()
        wrong = msgspec.json.encode(registry.Pointer("bad", bundle.manifest.version))
        assert await client.store.point(pointer, wrong)
        await refused(client, SPOILT[spoil])
        assert await serves(client) == bundle.manifest.version

        # And once a good one is in charge, all is well again.
        assert (await rollback(client)).version == bundle.manifest.version
        assert not (await status(client)).refused_bundle


async def refused(client: Client, reason: str) -> None:
    async def told_so() -> bool:
        return bool((await status(client)).refused_bundle)

    await until(told_so)
    told = (await status(client)).refused_bundle
    assert told.startswith("bad: ")
    assert reason in told


async def test_a_server_starts_without_models_where_the_active_bundle_is_refused(
    url: str, bundle: Bundle
) -> None:
    tenant = uuid.uuid4().hex
    async with serving(url, tenant=tenant, bundle=bundle):
        pass
    async with Redis.from_url(url) as redis:
        await redis.set(keys.bundle(tenant, bundle.manifest.version), truncated(bundle))
    async with serving(url, tenant=tenant) as client:
        assert await serves(client) == ""
        told = (await status(client)).refused_bundle
        assert told.startswith(bundle.manifest.version)
        assert "truncated" in told


async def test_a_bundle_that_nobody_published_is_not_found(client: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await activate(client, "never")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert "'never' is not published; see ListModels" in (caught.value.details() or "")


async def test_what_one_server_activates_another_serves_within_seconds(
    url: str, bundle: Bundle
) -> None:
    tenant = uuid.uuid4().hex
    async with serving(url, tenant=tenant) as one, serving(url, tenant=tenant) as other:
        await registry.publish(one.store, bundle, business())
        await activate(one, bundle.manifest.version)
        assert await serves(one) == bundle.manifest.version

        async def followed() -> bool:
            return await serves(other) == bundle.manifest.version

        await until(followed)


async def test_answers_go_on_while_bundles_change(url: str, bundle: Bundle) -> None:
    async with serving(url, bundle=bundle) as client:
        await registry.publish(client.store, resealed(bundle, "second"), business())
        swapping = asyncio.create_task(activate(client, "second"))
        versions = {await serves(client) for _ in range(20)}
        await swapping
        versions.add(await serves(client))
        assert versions == {bundle.manifest.version, "second"}
