"""What one of several servers was told to change, and how the others hear of it."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest

from rapport.v1 import admin_pb2
from service import capacity, configuration, registry
from service.bundle import Bundle
from service.pages import fetch
from tests.integration.processes import copied
from tests.integration.serving import Client, serving, shown, somebody, until


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return copied(tmp_path)


@asynccontextmanager
async def pair(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Client, Client, list[str]]]:
    """Two servers of one store that hear of nothing by themselves; the first counts changes."""
    for module in (capacity, configuration, registry):
        monkeypatch.setattr(module, "_POLL_SECONDS", 3_600.0)
    tenant, told = uuid.uuid4().hex, list[str]()
    note: Callable[[], None] = lambda: told.append("changed")  # noqa: E731
    async with (
        serving(url, tenant=tenant, configuration=config, changed=note) as first,
        serving(url, tenant=tenant, configuration=config) as second,
    ):
        yield first, second, told


async def test_prices_reach_another_server_when_it_looks(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(url, config, monkeypatch) as (first, second, told):
        await first.admin.SetShadowPrices(admin_pb2.SetShadowPricesRequest(prices={}))
        assert told == [], "nothing was set"
        wanted = admin_pb2.SetShadowPricesRequest(prices={"back_office": 7.5})
        await first.admin.SetShadowPrices(wanted)
        assert told == ["changed"]
        await asyncio.sleep(0.1)
        assert second.server.prices.current["back_office"] != 7.5
        second.server.look()
        await until(lambda: second.server.prices.current["back_office"] == 7.5)


async def test_a_bundle_reaches_another_server_when_it_looks(
    url: str, config: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(url, config, monkeypatch) as (first, second, told):
        await registry.publish(first.store, bundle, first.server.configuration.current.business)
        version = bundle.manifest.version
        await first.admin.ActivateModel(admin_pb2.ActivateModelRequest(version=version))
        assert told == ["changed"]
        await asyncio.sleep(0.1)
        assert second.server.registry.models is None
        second.server.look()
        await until(lambda: second.server.registry.models is not None, 30)
        with pytest.raises(grpc.aio.AioRpcError):
            await first.admin.ActivateModel(admin_pb2.ActivateModelRequest(version="none"))
        assert told == ["changed"], "nothing was activated"


async def test_a_configuration_reaches_another_server_when_it_looks(
    url: str, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with pair(url, config, monkeypatch) as (first, second, told):
        path = config / "release.yaml"
        path.write_text(re.sub(r"(?m)^name: .*", "name: 'another'", path.read_text()))
        answer = await first.admin.ReloadConfiguration(admin_pb2.ReloadConfigurationRequest())
        assert answer.changed
        assert told == ["changed"]
        await asyncio.sleep(0.1)
        assert second.server.configuration.current.business.release.name != "another"
        second.server.look()
        await until(lambda: second.server.configuration.current.business.release.name == "another")


async def test_one_server_alone_has_pages_too(url: str, tmp_path: Path) -> None:
    at = f"unix:{tmp_path / 'pages'}"
    async with serving(url, metrics=at) as client:
        await client.decide(somebody())
        page = await fetch("/metrics", at)
        assert 'rapport_calls_total{worker="0",method="Decide",status="OK"} 1\n' in page
        assert 'rapport_decisions_total{worker="0",rung="RUNG_WITHOUT_MODELS"} 1\n' in page
        assert 'rapport_journal_lost_total{worker="0"} 0\n' in page
        assert await fetch("/ready", at) == "ready\n"
        assert await fetch("/live", at) == "live\n"
        stopping = asyncio.ensure_future(client.server.stop())
        await asyncio.sleep(0)
        with pytest.raises(OSError, match="503"):
            await fetch("/ready", at)
        await stopping


async def test_a_connection_that_is_old_is_given_up_and_no_call_fails(url: str) -> None:
    async with serving(url, connection_age=0.3) as client:
        await client.decide(somebody())
        async with asyncio.timeout(10):
            await client.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)
        given_up, end = 0, asyncio.get_running_loop().time() + 20
        while given_up < 3 and asyncio.get_running_loop().time() < end:
            assert shown(await client.decide(somebody()))
            given_up += client.channel.get_state() is not grpc.ChannelConnectivity.READY
        assert given_up == 3


async def test_a_connection_lasts_where_no_age_is_set(url: str) -> None:
    async with serving(url) as client:
        await client.decide(somebody())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.7):
                await client.channel.wait_for_state_change(grpc.ChannelConnectivity.READY)


async def test_an_address_of_its_own_is_listened_on_too(url: str, tmp_path: Path) -> None:
    own = f"unix:{tmp_path / 'own'}"
    async with serving(url, own=own, worker="beef") as client:
        here = await client.decide(somebody())
        assert here.decision_id[13:17] == "beef"
        there = Client(client.server, client.store, url, own)
        assert (await there.decide(somebody())).decision_id[13:17] == "beef"
        await there.channel.close()
