"""The raw sender speaks with a real gRPC server, and hears every status."""

from __future__ import annotations

import random
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import grpc
import numpy as np
import pytest

from rapport.v1 import decision_pb2
from tests.bench import load, wire
from tests.bench.hpack import literal
from tests.bench.load import DECIDE, Job
from tests.bench.wire import Connection, Method, framed

Answer = Callable[[bytes, grpc.ServicerContext], bytes]


@contextmanager
def serving(answer: Answer, threads: int = 4) -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(threads))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "Decide": grpc.unary_unary_rpc_method_handler(answer)
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("rapport.v1.DecisionService", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


@contextmanager
def both_ends(folder: Path) -> Iterator[tuple[Connection, socket.socket]]:
    """A connection, and the socket of whoever it reached: a test answers itself."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(folder / "s"))
        listening.listen()
        connection = Connection(f"unix:{folder}/s", Method(DECIDE))
        receiver, _ = listening.accept()
        with receiver:
            yield connection, receiver
        connection.close()


def all_ended(connection: Connection) -> dict[int, wire.Answered]:
    ended: dict[int, wire.Answered] = {}
    while connection.open:
        connection.flush()
        ended |= {one.stream: one for one in connection.receive()}
    return ended


def test_statuses_and_bodies_of_many_calls_at_once() -> None:
    """Failures in between, each with trailers of its own that go through the table of headers."""

    def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
        number = int(asked.split()[0])
        context.set_trailing_metadata((("x-number", str(number)), (f"x-{number}", "y" * 300)))
        if number % 7 == 0:
            context.abort(grpc.StatusCode.INTERNAL, f"number {number} fails: ü")
        return asked[::-1]

    chance = random.Random(1)
    with serving(answer) as address:
        connection = Connection(address, Method(DECIDE))
        asked = {}
        for number in range(400):
            message = b"%d " % number + chance.randbytes(chance.choice((0, 10, 3_000, 40_000)))
            asked[connection.call(framed(message), keep=True)] = message
            if number % 20 == 0:
                connection.flush()
        ended = all_ended(connection)
        connection.close()
    assert set(ended) == set(asked)
    for stream, message in asked.items():
        failed = int(message.split()[0]) % 7 == 0
        assert ended[stream].status == ("13" if failed else "0")
        assert ended[stream].body == (b"" if failed else message[::-1])


def test_answers_larger_than_any_window() -> None:
    with serving(lambda asked, context: b"z" * 3_000_000) as address:
        assert wire.call(address, DECIDE, b"") == b"z" * 3_000_000


def test_a_body_that_nobody_wants_is_not_kept() -> None:
    with serving(lambda asked, context: b"something") as address:
        connection = Connection(address, Method(DECIDE))
        connection.call(framed(b""))
        assert [one.body for one in all_ended(connection).values()] == [b""]
        connection.close()


def test_no_more_is_sent_than_the_receiver_takes(tmp_path: Path) -> None:
    with both_ends(tmp_path) as (connection, receiver):
        for _ in range(10):
            connection.call(framed(b"x" * 9_995))
        connection.flush()
        receiver.settimeout(0.2)
        assert received(receiver).count(b"x" * 9_995) == 6, "65,535 bytes at first"
        receiver.sendall(bytes.fromhex("000004080000000000") + (30_000).to_bytes(4, "big"))
        assert connection.receive() == []
        assert received(receiver).count(b"x" * 9_995) == 3


def test_a_call_that_is_reset_after_its_end_ended_once(tmp_path: Path) -> None:
    with both_ends(tmp_path) as (connection, receiver):
        streams = [connection.call(framed(b"x")) for _ in range(2)]
        connection.flush()
        trailers = literal("grpc-status", "0")
        ended = len(trailers).to_bytes(3, "big") + b"\1\5" + streams[0].to_bytes(4, "big")
        reset = [b"\0\0\4\3\0" + one.to_bytes(4, "big") + bytes(4) for one in streams]
        receiver.sendall(ended + trailers + b"".join(reset))
        told = all_ended(connection)
        assert {one: told[one].status for one in streams} == {1: "0", 3: "reset 0"}


def received(receiver: socket.socket) -> bytes:
    """Everything that comes until nothing does."""
    parts = []
    with suppress(TimeoutError):
        while part := receiver.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


def test_a_single_call_that_fails_says_so() -> None:
    def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "nobody")

    with serving(answer) as address, pytest.raises(ConnectionError, match="grpc-status 5"):
        wire.call(address, DECIDE, b"")


def test_a_server_that_ends_is_an_error() -> None:
    with serving(lambda asked, context: b"") as address:
        connection = Connection(address, Method(DECIDE))
        connection.call(framed(b""))
        all_ended(connection)

    def listen() -> None:
        while True:
            connection.receive()

    with pytest.raises(ConnectionError, match="server"):
        listen()
    connection.close()


# The load


def decided(rung: decision_pb2.Rung.ValueType = decision_pb2.RUNG_FULL, actions: int = 3) -> bytes:
    shown = [
        decision_pb2.Recommendation(reasons=[decision_pb2.Reason(code="VALUE")])
        for _ in range(actions)
    ]
    slates = [decision_pb2.Slate(recommendations=shown)]
    return decision_pb2.DecideResponse(rung=rung, slates=slates).SerializeToString()


def job(kind: str, address: str, folder: Path, **more: object) -> Job:
    written = folder / "latencies.npy"
    return Job(kind, address, "", str(written), **more)  # type: ignore[arg-type]


def test_closed_loop_counts_what_it_called_and_how_long_it_took(tmp_path: Path) -> None:
    seen: list[bytes] = []

    def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
        seen.append(asked)
        time.sleep(0.002)
        return decided()

    messages = [framed(b"%d" % i) for i in range(50)]
    with serving(answer) as address:
        one = job("closed", address, tmp_path, in_flight=4, seconds=0.5)
        done = load.run(one, messages)
    took = np.load(tmp_path / "latencies.npy")
    assert done.calls == len(seen) == len(took)
    assert done.within <= done.calls <= done.within + 4
    assert done.per_second == pytest.approx(done.within / 0.5)
    assert took.min() >= 0.002
    assert len(set(seen)) == 50, "customers vary"
    assert (done.failed, done.wrong) == ({}, [])
    assert done.sampled > 0


def test_one_failure_among_thousands_is_told(tmp_path: Path) -> None:
    count = iter(range(10**6))

    def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
        if next(count) == 123:
            context.abort(grpc.StatusCode.INTERNAL, "once")
        return decided()

    with serving(answer) as address:
        done = load.run(job("closed", address, tmp_path, in_flight=8, most=500, seconds=20.0),
                        [framed(b"x")])  # fmt: skip
    assert (done.calls, done.failed) == (500, {"13": 1})


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (decided(decision_pb2.RUNG_WITHOUT_MODELS), "RUNG_WITHOUT_MODELS"),
        (decided(actions=2), "2 actions"),
        (decision_pb2.DecideResponse(rung=decision_pb2.RUNG_FULL).SerializeToString(), "0 slates"),
    ],
)
def test_an_answer_that_is_less_than_a_full_one_is_told(
    tmp_path: Path, answer: bytes, text: str
) -> None:
    with serving(lambda asked, context: answer) as address:
        done = load.run(job("closed", address, tmp_path, most=20, seconds=20.0), [framed(b"x")])
    assert done.wrong
    assert all(text in one for one in done.wrong)


@pytest.mark.parametrize(("kind", "felt"), [("open", 30), ("closed", 1)])
def test_only_open_loop_counts_a_stall_for_everybody_it_kept_waiting(
    tmp_path: Path, kind: str, felt: int
) -> None:
    count = iter(range(10**6))

    def answer(asked: bytes, context: grpc.ServicerContext) -> bytes:
        if next(count) == 40:
            time.sleep(0.4)
        return decided()

    with serving(answer, threads=1) as address:
        one = job(kind, address, tmp_path, rate=150.0, seconds=1.0, most=150, in_flight=1)
        done = load.run(one, [framed(b"x")])
    late = int((np.load(tmp_path / "latencies.npy") > 0.1).sum())
    assert done.calls <= 150
    assert late == 1 if felt == 1 else late >= felt


def test_a_sender_that_was_held_up_itself_owns_up_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count, flush = iter(range(10**6)), Connection.flush

    def held_up(connection: Connection) -> None:
        if next(count) == 100:
            time.sleep(0.4)
        flush(connection)

    monkeypatch.setattr(Connection, "flush", held_up)
    with serving(lambda asked, context: decided()) as address:
        one = job("open", address, tmp_path, rate=150.0, seconds=1.0)
        done = load.run(one, [framed(b"x")])
    assert (np.load(tmp_path / "latencies.npy") > 0.1).sum() >= 30
    assert done.behind_us > 100_000


def test_arrivals_keep_to_the_rate_whatever_the_server_does(tmp_path: Path) -> None:
    with serving(lambda asked, context: decided()) as address:
        done = load.run(job("open", address, tmp_path, rate=300.0, seconds=1.0), [framed(b"x")])
    assert done.calls == 300
    assert 0.8 < done.seconds < 1.4
