"""A client that has nothing but the address: no stubs, no .proto."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from tests.integration.serving import Client, somebody

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_a_client_with_nothing_but_reflection_lists_the_services_and_calls_decide(
    client: Client,
) -> None:
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    asked = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol="rapport.v1.DecisionService"),
    ]
    listed, files = [answer async for answer in stub.ServerReflectionInfo(iter(asked))]
    names = {one.name for one in listed.list_services_response.service}
    assert names == {
        "rapport.v1.DecisionService",
        "rapport.v1.CustomerService",
        "rapport.v1.AdminService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }

    pool = descriptor_pool.DescriptorPool()
    waiting = {}
    for written in files.file_descriptor_response.file_descriptor_proto:
        file = descriptor_pb2.FileDescriptorProto.FromString(written)
        waiting[file.name] = file

    async def add(name: str) -> None:
        if name not in waiting:
            question = reflection_pb2.ServerReflectionRequest(file_by_filename=name)
            async for answer in stub.ServerReflectionInfo(iter([question])):
                for written in answer.file_descriptor_response.file_descriptor_proto:
                    file = descriptor_pb2.FileDescriptorProto.FromString(written)
                    waiting[file.name] = file
        file = waiting[name]
        for needed in file.dependency:
            await add(needed)
        pool.Add(file)

    await add("rapport/v1/decision.proto")
    service = pool.FindServiceByName("rapport.v1.DecisionService")
    method = service.methods_by_name["Decide"]
    request = json_format.ParseDict(
        {"customer": {"customerId": somebody()}, "channel": "ivr"},
        message_factory.GetMessageClass(method.input_type)(),
    )
    call: Any = client.channel.unary_unary(
        f"/{service.full_name}/{method.name}",
        request_serializer=lambda message: message.SerializeToString(),
        response_deserializer=message_factory.GetMessageClass(method.output_type).FromString,
    )
    answer = await call(request, timeout=5)
    told = json_format.MessageToDict(answer)
    assert told["slates"][0]["placement"] == "ivr_menu"
    assert told["slates"][0]["recommendations"][0]["treatment"]["text"]
    assert told["decisionId"]
