"""An IVR flow: the caller is known by their number only, and the menu has 100 ms to adapt.

Run it against `make serve`: .venv/bin/python docs/examples/ivr_flow.py
"""

import sys
import uuid

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from rapport.v1 import decision_pb2 as rapport
from rapport.v1 import decision_pb2_grpc, event_pb2

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"
caller = event_pb2.CustomerKey(
    identifier=event_pb2.Identifier(namespace="phone", value="+31 6 1234 5678")
)

with grpc.insecure_channel(address) as channel:
    service = decision_pb2_grpc.DecisionServiceStub(channel)

    try:
        answer = service.Decide(
            rapport.DecideRequest(
                customer=caller,
                channel="ivr",
                placements=["ivr_menu"],
                interaction_id="call-4711",
                assurance=rapport.ASSURANCE_ANI,
            ),
            timeout=0.1,
        )
        prompts = [one.treatment.text for one in answer.slates[0].recommendations]
    except grpc.RpcError as error:  # the flow never waits for us: it has a menu of its own
        print(f"static menu ({error.code().name})")
        prompts = ["Say in a few words what you are calling about."]
    for prompt in prompts:
        print("IVR says:", prompt)

    # Tell us what happened, so that the next channel knows.
    failed = event_pb2.Event(
        event_id=str(uuid.uuid4()),  # unique for its source; sending it again is harmless
        customer=caller,
        type="self_service_failed",
        channel="ivr",
        direction=event_pb2.DIRECTION_INBOUND,
        intent="login_trouble",
        interaction_id="call-4711",
        occurred_at=Timestamp(),
    )
    failed.occurred_at.GetCurrentTime()
    stored = service.RecordEvents(rapport.RecordEventsRequest(events=[failed]))
    print("recorded:", rapport.EventResult.Status.Name(stored.results[0].status))
