"""A chat bot: asks what to reply, says the best reply, and reports what the customer did with it.

Run it against `make serve`: .venv/bin/python docs/examples/chat_bot.py
"""

import sys

import grpc

from rapport.v1 import decision_pb2 as rapport
from rapport.v1 import decision_pb2_grpc, event_pb2

address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:50051"

with grpc.insecure_channel(address) as channel:
    service = decision_pb2_grpc.DecisionServiceStub(channel)
    answer = service.Decide(
        rapport.DecideRequest(
            customer=event_pb2.CustomerKey(customer_id="customer-42"),
            channel="chat",
            placements=["chat_reply"],
            interaction_id="chat-9",
            utterance="My card does not work any more",
            assurance=rapport.ASSURANCE_VERIFIED,
        ),
        timeout=0.25,
    )
    best = answer.slates[0].recommendations[0]
    print("bot says:", best.treatment.text)

    for outcome in (event_pb2.OUTCOME_PRESENTED, event_pb2.OUTCOME_REJECTED):
        recorded = service.RecordOutcome(
            rapport.RecordOutcomeRequest(
                decision_id=answer.decision_id, action=best.action, outcome=outcome
            )
        )
        print(event_pb2.Outcome.Name(outcome), rapport.EventResult.Status.Name(recorded.status))
