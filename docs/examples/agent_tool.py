"""An agent tool: one sharp hint, what the chain of events shows, and why not something else.

Run it against `make serve`: .venv/bin/python docs/examples/agent_tool.py
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
            customer=event_pb2.CustomerKey(
                identifier=event_pb2.Identifier(namespace="phone", value="0031612345678")
            ),
            channel="phone",
            placements=["agent_hint"],
            agent_id="agent-7",
            assurance=rapport.ASSURANCE_VERIFIED,
            max_actions=1,
        ),
        timeout=0.25,
    )
    for fact in answer.facts:
        print("!", fact.text)
    for hint in answer.slates[0].recommendations:  # none where nothing qualified, or by chance
        print(f"> {hint.title}: {hint.treatment.text}")
        for reason in hint.reasons:
            print("  because", reason.text)
    for advisory in answer.advisories:
        print("note:", advisory.message)

    why = service.Explain(
        rapport.ExplainRequest(decision_id=answer.decision_id, action="gold_credit_card")
    )
    for candidate in why.candidates:
        print(f"why not gold_credit_card: {candidate.reason.code}: {candidate.reason.text}")
