"""Who may call what."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from features.duration import DAY, HOUR
from rapport.v1 import admin_pb2, customer_pb2, decision_pb2, event_pb2
from service.callers import SCOPES
from service.errors import ConfigurationError
from service.job import Settings
from service.redis_store import RedisStore
from service.server import Server
from tests.integration.serving import (
    Client,
    Status,
    business,
    callers_file,
    event,
    key,
    now,
    serving,
    somebody,
    stamp,
    token,
    value,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def guarded(url: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Client]:
    """A server that knows a caller for each scope, one for all but each, and one for all."""
    scopes = {scope.replace("import", "importer"): [scope] for scope in SCOPES}
    scopes |= {f"no-{scope}": sorted(SCOPES - {scope}) for scope in SCOPES}
    scopes |= {"all": sorted(SCOPES), "none": []}
    path = callers_file(tmp_path_factory.mktemp("callers"), scopes)
    async with serving(url, callers=path) as client:
        yield client


CALLS: dict[str, tuple[str, Any]] = {
    "Decide": ("decide", decision_pb2.DecideRequest(customer=key("a"), channel="phone")),
    "Explain": ("decide", decision_pb2.ExplainRequest(decision_id="0" * 25)),
    "RecordEvents": ("record", decision_pb2.RecordEventsRequest(events=[event("a")])),
    "RecordOutcome": (
        "record",
        decision_pb2.RecordOutcomeRequest(decision_id="0" * 25, outcome=event_pb2.OUTCOME_ACCEPTED),
    ),
    "GetTimeline": ("profile", customer_pb2.GetTimelineRequest(customer=key("a"))),
    "GetProfile": ("profile", customer_pb2.GetProfileRequest(customer=key("a"))),
    "UpdateProfile": (
        "profile",
        customer_pb2.UpdateProfileRequest(customer=key("a"), attributes={"age": value(50.0)}),
    ),
    "LinkIdentity": (
        "profile",
        customer_pb2.LinkIdentityRequest(
            identifier=event_pb2.Identifier(namespace="account", value="a"), customer_id="a"
        ),
    ),
    "ForgetCustomer": ("profile", customer_pb2.ForgetCustomerRequest(customer_id="b")),
    "ListModels": ("admin", admin_pb2.ListModelsRequest()),
    "ActivateModel": ("admin", admin_pb2.ActivateModelRequest(version="none")),
    "SetShadowPrices": ("admin", admin_pb2.SetShadowPricesRequest()),
    "ReloadConfiguration": ("admin", admin_pb2.ReloadConfigurationRequest()),
    "GetStatus": ("admin", admin_pb2.GetStatusRequest()),
}


async def code_of(client: Client, method: str, request: Any, **options: Any) -> grpc.StatusCode:
    stubs = (client.decisions, client.customers, client.admin)
    stub = next(getattr(one, method) for one in stubs if hasattr(one, method))
    try:
        await stub(request, **options)
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def test_every_call_of_the_api_is_tried_here() -> None:
    files = (decision_pb2, customer_pb2, admin_pb2)
    methods = {
        method.name
        for file in files
        for service in file.DESCRIPTOR.services_by_name.values()
        for method in service.methods
    }
    assert methods == set(CALLS)


@pytest.mark.parametrize("method", CALLS)
async def test_only_a_caller_with_its_scope_may(guarded: Client, method: str) -> None:
    scope, request = CALLS[method]
    without = await code_of(guarded, method, request, metadata=token(f"no-{scope}"))
    assert without == grpc.StatusCode.PERMISSION_DENIED
    name = scope.replace("import", "importer")
    code = await code_of(guarded, method, request, metadata=token(name))
    assert code in (grpc.StatusCode.OK, grpc.StatusCode.NOT_FOUND)


@pytest.mark.parametrize("method", CALLS)
async def test_a_caller_without_a_scope_is_not_told_what_else_is_wrong(
    guarded: Client, method: str
) -> None:
    empty = type(CALLS[method][1])()
    code = await code_of(guarded, method, empty, metadata=token("none"))
    assert code == grpc.StatusCode.PERMISSION_DENIED


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("authorization", ""),),
        (("authorization", "Bearer nobody-token"),),
        (("authorization", "Basic all-token"),),
        (("authorization", "all-token"),),
        (("authorization", "Bearer"),),
    ],
)
async def test_nobody_may_do_anything_without_a_known_token(
    guarded: Client, metadata: tuple[tuple[str, str], ...]
) -> None:
    for method, (_, request) in CALLS.items():
        code = await code_of(guarded, method, request, metadata=metadata)
        assert code == grpc.StatusCode.UNAUTHENTICATED, method


async def test_a_refusal_names_caller_and_scope_and_never_the_token(guarded: Client) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await guarded.admin.GetStatus(admin_pb2.GetStatusRequest(), metadata=token("decide"))
    told = caught.value.details() or ""
    assert "'decide' lacks scope 'admin'" in told
    assert "decide-token" not in told


async def test_health_and_reflection_are_open_to_everybody(guarded: Client) -> None:
    health = health_pb2_grpc.HealthStub(guarded.channel)
    for service in ("", "rapport.v1.DecisionService"):
        answer = await health.Check(health_pb2.HealthCheckRequest(service=service))
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(guarded.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    answers = [answer async for answer in reflection.ServerReflectionInfo(iter(asked))]
    assert answers[0].list_services_response.service


@pytest.mark.parametrize(
    ("caller", "status"),
    [("record", Status.STATUS_INVALID), ("no-profile", Status.STATUS_STORED)],
)
async def test_only_an_importer_may_date_events_in_the_far_past(
    guarded: Client, caller: str, status: int
) -> None:
    old = event(somebody(), occurred_at=stamp(now() - 31 * DAY))
    answer = await guarded.decisions.RecordEvents(
        decision_pb2.RecordEventsRequest(events=[old]), metadata=token(caller)
    )
    (result,) = answer.results
    assert result.status == status
    if status == Status.STATUS_INVALID:
        assert result.violation.field == "events[0].occurred_at"
        assert "scope 'import'" in result.violation.description


async def test_only_an_importer_may_say_when_events_were_received(guarded: Client) -> None:
    one = event(somebody(), received_at=stamp(now() - HOUR))
    batch = decision_pb2.RecordEventsRequest(events=[one])
    refused = await guarded.decisions.RecordEvents(batch, metadata=token("record"))
    assert refused.results[0].violation.field == "events[0].received_at"
    done = await guarded.decisions.RecordEvents(batch, metadata=token("no-replay"))
    assert done.results[0].status == Status.STATUS_STORED


async def test_only_an_importer_may_say_when_attributes_were_told(guarded: Client) -> None:
    request = customer_pb2.UpdateProfileRequest(
        customer=key(somebody()), attributes={"age": value(50.0)}, updated_at=stamp(now() - DAY)
    )
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert await code_of(guarded, "UpdateProfile", request, metadata=token("profile")) == denied
    done = await code_of(guarded, "UpdateProfile", request, metadata=token("no-admin"))
    assert done == grpc.StatusCode.OK


async def test_only_a_replayer_may_decide_as_of_another_moment(guarded: Client) -> None:
    request = decision_pb2.DecideRequest(
        customer=key("a"), channel="phone", as_of=stamp(now() - DAY)
    )
    denied = grpc.StatusCode.PERMISSION_DENIED
    assert await code_of(guarded, "Decide", request, metadata=token("no-replay")) == denied
    assert await code_of(guarded, "Decide", request, metadata=token("all")) == grpc.StatusCode.OK


async def test_deciding_as_of_a_moment_sees_what_had_occurred_and_records_nothing(
    client: Client,
) -> None:
    customer, noon = somebody(), now() - DAY
    ages = (3 * HOUR, HOUR, 0, -1, -HOUR)
    await client.record(*(event(customer, occurred_at=stamp(noon - age)) for age in ages))
    await client.consent(customer)
    before = await client.log(customer)
    answer = await client.decide(customer, as_of=stamp(noon), include_features=True)
    assert not answer.decision_id
    assert answer.decided_at == stamp(noon)
    assert answer.read.events == 3
    seen = dict(zip(answer.features.names, answer.features.values, strict=True))
    assert (seen["events_24h"], seen["since_last_event"]) == (3, 0)
    consents = {one.reason.code for one in answer.trace}
    assert "NO_CONSENT" in consents  # it was given later
    assert client.server.journal.pending == 0
    assert await client.log(customer) == before
    assert (await client.decide(customer)).read.events == 5


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0"])
async def test_a_server_without_callers_refuses_to_listen_to_other_machines(
    url: str, listen: str
) -> None:
    store = RedisStore(url)
    with pytest.raises(ConfigurationError, match="--callers FILE"):
        Server(business(), store, Settings(listen=listen))
    await store.close()


async def test_a_server_with_callers_may_listen_to_other_machines(
    url: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = callers_file(tmp_path_factory.mktemp("callers"), {"all": sorted(SCOPES)})
    async with serving(url, callers=path, listen="0.0.0.0:0") as client:
        code = await code_of(client, "GetStatus", admin_pb2.GetStatusRequest())
        assert code == grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("half", ["tls_certificate", "tls_key"])
async def test_half_a_pair_of_tls_files_is_refused_and_nothing_is_served_in_the_clear(
    url: str, half: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("tls") / "half.pem"
    path.write_text("not read")
    settings: dict[str, Any] = {half: path}
    with pytest.raises(ConfigurationError, match="--tls-certificate and --tls-key"):
        async with serving(url, **settings):
            pass
