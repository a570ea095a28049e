from __future__ import annotations

import io
import json
import logging
import threading
import time
import warnings
from collections.abc import Iterator

import msgspec
import pytest
import structlog

from service import logs


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def test_a_line_is_json_with_level_and_time() -> None:
    output = io.StringIO()
    writer = logs.configure(output)
    structlog.get_logger().info("call", method="Decide", ms=1.5)
    structlog.get_logger().warning("odd")
    writer.close()
    first, second = map(json.loads, output.getvalue().splitlines())
    assert (first["event"], first["level"]) == ("call", "info")
    assert (first["method"], first["ms"]) == ("Decide", 1.5)
    assert first["timestamp"].endswith("Z")
    assert second["level"] == "warning"


def test_a_worker_of_several_tells_which_it_is() -> None:
    output = io.StringIO()
    writer = logs.configure(output, worker=0)
    structlog.get_logger().info("call", ms=1.5)
    writer.close()
    line = json.loads(output.getvalue())
    assert (line["worker"], line["event"], line["ms"]) == (0, "call", 1.5)


def test_a_person_reads_text() -> None:
    output = io.StringIO()
    writer = logs.configure(output, pretty=True)
    structlog.get_logger().info("serving", port=1)
    writer.close()
    assert "serving" in output.getvalue()
    assert not output.getvalue().startswith("{")


def test_an_error_is_written_with_its_trace_on_one_line() -> None:
    output = io.StringIO()
    writer = logs.configure(output)
    try:
        int("one")
    except ValueError:
        structlog.get_logger().error("unexpected", exc_info=True)
    writer.close()
    (line,) = output.getvalue().splitlines()
    assert "ValueError: invalid literal" in json.loads(line)["exception"]


class Blocked(io.StringIO):
    """An output that nobody reads."""

    def __init__(self) -> None:
        super().__init__()
        self.released = threading.Event()

    def write(self, text: str) -> int:
        self.released.wait(30)
        return super().write(text)


def test_a_blocked_output_stalls_nobody_and_what_is_dropped_is_counted() -> None:
    output = Blocked()
    writer = logs.Writer(output)
    start = time.perf_counter()
    for number in range(10_500):
        writer.msg(str(number))
    assert 498 <= writer.dropped <= 500
    writer.close(0.1)
    assert time.perf_counter() - start < 2
    output.released.set()


def test_when_somebody_reads_again_they_learn_how_much_is_missing() -> None:
    output = Blocked()
    writer = logs.Writer(output)
    for number in range(10_500):
        writer.msg(str(number))
    dropped = writer.dropped
    output.released.set()
    writer.close()
    last = json.loads(output.getvalue().splitlines()[-1])
    assert last == {"event": "lines dropped", "number": dropped, "level": "warning"}
    assert output.getvalue().count("dropped") == 1


def test_what_libraries_log_and_python_warns_of_goes_the_same_way() -> None:
    output = io.StringIO()
    before = logging.getLogger().handlers[:]
    writer = logs.configure(output)
    logging.getLogger("asyncio").error("task %s failed", "x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("a number overflows", RuntimeWarning, stacklevel=1)
    writer.close()
    first, second = map(json.loads, output.getvalue().splitlines())
    assert (first["event"], first["level"], first["logger"]) == (
        "task x failed",
        "error",
        "asyncio",
    )
    assert "a number overflows" in second["event"]
    assert logging.getLogger().handlers == before


def test_an_output_that_breaks_ends_nothing_else() -> None:
    class Broken(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    writer = logs.Writer(Broken())
    for number in range(10):
        writer.msg(str(number))
    start = time.perf_counter()
    writer.close(1.0)
    assert time.perf_counter() - start < 1
    assert writer.dropped == 10


def called(**noted: object) -> logs.Call:
    return logs.Call("Decide", "OK", 0.0123456, "ivr", "", noted, 1_800_000_000_123_456_789)


@pytest.mark.parametrize("pretty", [False, True])
def test_a_call_is_worded_by_the_thread_and_its_customer_is_a_hash(pretty: bool) -> None:
    output = io.StringIO()
    writer = logs.configure(output, pretty=pretty, worker=3)
    logs.line(called(customer=logs.Hidden("ann"), rung="FULL"))
    writer.close()
    assert logs.masked("ann") in output.getvalue()
    assert "ann" not in output.getvalue().replace(logs.masked("ann"), "")
    if not pretty:
        line = json.loads(output.getvalue())
        assert len(line.pop("request_id")) == 32
        assert line == {
            "worker": 3, "event": "call", "method": "Decide", "status": "OK", "ms": 12.346,
            "caller": "ivr", "customer": logs.masked("ann"), "rung": "FULL", "level": "info",
            "timestamp": "2027-01-15T08:00:00.123456Z",
        }  # fmt: skip


def test_a_call_that_has_an_id_keeps_it_and_every_other_gets_one_of_its_own() -> None:
    assert called().told()["request_id"] != called().told()["request_id"]
    own = msgspec.structs.replace(called(), request_id="abc")
    assert own.told()["request_id"] == "abc"


def test_a_mask_is_stable_and_tells_nothing() -> None:
    assert logs.masked("ann") == logs.masked("ann") != logs.masked("bob")
    assert len(logs.masked("ann")) == 16
    assert "ann" not in logs.masked("ann")


def test_what_is_noted_belongs_to_its_call() -> None:
    noted = logs.begin()
    logs.note(rung="FULL", events=3)
    logs.note(events=4)
    assert noted == {"rung": "FULL", "events": 4}
    assert logs.begin() == {}
    logs.note(other=1)
    assert "other" not in noted
