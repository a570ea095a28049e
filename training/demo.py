"""The first five minutes: simulate a bank, learn from it, serve, and let customers call in.

Everything is real: a server process, its store, gRPC calls, models trained a moment ago.
"""

from __future__ import annotations

import datetime
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.struct_pb2 import Value
from grpc_health.v1 import health_pb2, health_pb2_grpc
from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from features.duration import spoken
from rapport.v1 import (
    customer_pb2,
    customer_pb2_grpc,
    decision_pb2,
    decision_pb2_grpc,
    event_pb2,
)
from service.answers import milliseconds, timestamp
from service.business import Business, load
from service.errors import StoreUnavailable
from training import publish, simulate, workflow
from training.progress import Bars
from training.stories import STORIES, Story

_CUSTOMERS: Final = 1_500
_DAYS: Final = 180
_START_SECONDS: Final = 60.0


def run(config: Path, work: Path, console: Console) -> None:
    """Run the whole demo.

    Args:
        config: The sample business.
        work: Folder for what it makes; what an earlier demo made there is replaced.
        console: Where to show it.
    """
    start = time.perf_counter()
    business = load(config)
    shutil.rmtree(work, ignore_errors=True)
    with Bars(console) as bars:
        made = simulate.simulate(
            business,
            work / "archive",
            customers=_CUSTOMERS,
            days=_DAYS,
            seed=7,
            end=simulate.last_hour(datetime.datetime.now(datetime.UTC)),
            progress=lambda done, of: bars("simulate customers", done, of),
        )
        sealed = workflow.fit(work / "archive", business, workflow.targets(config), bars)
        bundle = publish.save(sealed, work / "bundles")
        bars("start the server", 0, 1)
        server, address = _serve(config, bundle, work)
        bars("start the server", 1, 1)
    try:
        numbers = sealed.manifest.metrics
        console.print(
            f"\n{made.events:,} events of {made.customers:,} customers; the intent model is right "
            f"{numbers['intent.accuracy']:.0%} of the time (always saying what usually follows: "
            f"{numbers['intent.bigram_accuracy']:.0%}), acceptance AUC "
            f"{numbers['acceptance.auc']:.2f}. Serving on {address}.\n"
        )
        with grpc.insecure_channel(address) as channel:
            view = _View(business, channel, console)
            for story in STORIES:
                view.play(story)
            view.timings()
    finally:
        server.terminate()
        server.wait(30)
    console.print(
        f"Done in {time.perf_counter() - start:.0f} s. "
        "Next: [bold]make train serve[/], then call it as README.md shows."
    )


def _serve(config: Path, bundle: Path, work: Path) -> tuple[subprocess.Popen[bytes], str]:
    """Start a server of our own and wait until it is healthy."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    log = work / "serve.log"
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URL"}
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-m", "service.cli", "serve", "--config", str(config), "--listen",
             address, "--bundle", str(bundle), "--archive", str(work / "live"), "--greedy"],
            stdout=output,
            stderr=output,
            env=environment,
        )  # fmt: skip
    wait_until_serving(address, server, log)
    return server, address


def wait_until_serving(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a server's health service says SERVING.

    Raises:
        StoreUnavailable: It ended or did not start in time; the message ends with its log.
    """
    deadline = time.monotonic() + _START_SECONDS
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline and server.poll() is None:
            try:
                answer = health.Check(health_pb2.HealthCheckRequest(), timeout=1)
                if answer.status == health_pb2.HealthCheckResponse.SERVING:
                    return
            except grpc.RpcError:
                pass
            time.sleep(0.05)
    server.kill()
    raise StoreUnavailable(f"the server did not start; it said:\n{log.read_text()[-2000:]}")


class _View:
    """Plays stories against a server and shows what it answers."""

    def __init__(self, business: Business, channel: grpc.Channel, console: Console) -> None:
        self._business = business
        self._console = console
        self._decisions = decision_pb2_grpc.DecisionServiceStub(channel)
        self._customers = customer_pb2_grpc.CustomerServiceStub(channel)
        self._took: list[float] = []

    def play(self, story: Story) -> None:
        """Record what happened before, ask, answer back, and ask again."""
        key = event_pb2.CustomerKey(customer_id=story.customer)
        now = time.time_ns() // 1_000_000
        self._prepare(story, key, now)
        answer = self._decide(story, key)
        self._show(story, key, answer, now)
        if story.said is None:
            return
        best = answer.slates[0].recommendations[0]
        for outcome in (event_pb2.OUTCOME_PRESENTED, story.said):
            self._decisions.RecordOutcome(
                decision_pb2.RecordOutcomeRequest(
                    decision_id=answer.decision_id, action=best.action, outcome=outcome
                )
            )
        word = event_pb2.Outcome.Name(story.said).removeprefix("OUTCOME_").lower()
        self._console.print(f"   {best.title}: presented, [bold]{word}[/].  {story.then}\n")
        again = self._decide(story, key)
        self._console.print(self._answered(again, "The next answer"))
        self._why_not(again, best.action, best.title)
        self._console.print()

    def _prepare(self, story: Story, key: event_pb2.CustomerKey, now: int) -> None:
        if story.profile:
            request = customer_pb2.UpdateProfileRequest(customer=key)
            for name, value in story.profile.items():
                request.attributes[name].CopyFrom(_value(value))
            request.consents.add(purpose="marketing", granted=story.marketing)
            self._customers.UpdateProfile(request)
        events = []
        for number, one in enumerate(story.before):
            event = event_pb2.Event(
                event_id=f"{story.customer}-{now}-{number}",
                source="demo",
                customer=key,
                occurred_at=timestamp(now - one.ago),
                type=one.type,
                channel=one.channel,
                direction=one.direction,
                intent=one.intent,
                interaction_id=one.interaction,
            )
            if one.sentiment is not None:
                event.sentiment.CopyFrom(_mood(one.sentiment))
            if one.value is not None:
                event.value = one.value
            events.append(event)
        if events:
            self._decisions.RecordEvents(decision_pb2.RecordEventsRequest(events=events))

    def _decide(self, story: Story, key: event_pb2.CustomerKey) -> decision_pb2.DecideResponse:
        request = decision_pb2.DecideRequest(
            customer=key,
            channel=story.channel,
            placements=[story.placement],
            assurance=story.assurance,
            # Why somebody is here depends on the hour, too: what they answer does not.
            allow_actions=[one.name for one in self._business.actions if one.issue == story.about],
            include_trace=True,
        )
        start = time.perf_counter()
        answer: decision_pb2.DecideResponse = self._decisions.Decide(request, timeout=2)
        self._took.append(1e3 * (time.perf_counter() - start))
        return answer

    def _show(
        self,
        story: Story,
        key: event_pb2.CustomerKey,
        answer: decision_pb2.DecideResponse,
        now: int,
    ) -> None:
        page = self._customers.GetTimeline(customer_pb2.GetTimelineRequest(customer=key))
        timeline = Table(box=None, padding=(0, 2), show_header=False)
        for event in reversed(page.events):
            ago = now - milliseconds(event.occurred_at)
            timeline.add_row(
                Text(f"{spoken(ago)} ago" if ago > 1_000 else "now", style="dim"),
                Text(event.channel, style="cyan"),
                event.type.replace("_", " "),
                Text(event.intent.replace("_", " "), style="dim"),
            )
        if not page.events:
            timeline.add_row(Text("no events", style="dim"))
        parts: list[Any] = [timeline]
        for fact in answer.facts:
            parts.append(Text.assemble(("  ! ", "yellow bold"), fact.text))
        for advisory in answer.advisories:
            parts.append(Text.assemble(("  i ", "blue bold"), advisory.message))
        self._console.print(Panel(Group(*parts), title=story.title, title_align="left"))
        self._console.print(self._answered(answer, "The answer"))

    def _answered(self, answer: decision_pb2.DecideResponse, title: str) -> Group:
        intents = Text("   Why they are here:  ", style="bold")
        for one in answer.intents[:3]:
            name = self._business.vocabulary.intents[one.intent].title
            intents.append(f"{name} {one.probability:.0%}   ", style="")
        table = Table(title=f"   {title}", title_justify="left", title_style="bold", box=None)
        for name, justify in (("", "right"), ("action", "left"), ("accept", "right"),
                              ("value", "right"), ("context", "right"), ("lever", "right"),
                              ("priority", "right"), ("because", "left")):  # fmt: skip
            table.add_column(name, justify=justify, style="dim" if name == "lever" else "")  # type: ignore[arg-type]
        said = answer.slates[0].recommendations
        for best in said:
            numbers = best.factors
            table.add_row(
                f"{best.rank}.",
                Text(best.title, style="green bold" if best.rank == 1 else "green"),
                f"{numbers.acceptance_probability:.0%}",
                f"{numbers.value:.0f}",
                f"x{numbers.context_weight:.2f}",
                f"x{numbers.lever:.2f}",
                f"{numbers.priority:.1f}",
                best.reasons[0].text if best.reasons else "",
            )
        spoken_text = Text(f'   "{said[0].treatment.text}"' if said else "", style="italic")
        return Group(intents if answer.intents else Text(""), table, spoken_text, Text(""))

    def _why_not(self, answer: decision_pb2.DecideResponse, action: str, title: str) -> None:
        for one in answer.trace:
            if one.action == action and one.dropped_by:
                stage = decision_pb2.Stage.Name(one.dropped_by).removeprefix("STAGE_").lower()
                self._console.print(
                    f"   Why not {title!r}?  {one.reason.code} ({stage.replace('_', ' ')}): "
                    f"{one.reason.text}",
                    highlight=False,
                )

    def timings(self) -> None:
        """Say how long the answers took, seen from here."""
        took = sorted(self._took)
        self._console.print(
            f"{len(took)} decisions over gRPC, each about {len(self._business.actions)} actions: "
            f"median {took[len(took) // 2]:.1f} ms, slowest {took[-1]:.1f} ms (the client's view)."
        )


def _mood(score: float) -> event_pb2.Sentiment:
    return event_pb2.Sentiment(
        score=score,
        subject=event_pb2.Sentiment.SUBJECT_CUSTOMER,
        modality=event_pb2.Sentiment.MODALITY_TEXT,
        source="demo",
        basis=event_pb2.Sentiment.BASIS_CONSENT,
    )


def _value(value: float | bool | str) -> Value:
    if isinstance(value, bool):
        return Value(bool_value=value)
    return Value(string_value=value) if isinstance(value, str) else Value(number_value=value)
