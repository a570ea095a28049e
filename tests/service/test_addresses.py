from __future__ import annotations

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.addresses import Held, Place, own_machine, place
from service.errors import ConfigurationError


def test_an_address_is_a_host_with_a_port_or_a_path() -> None:
    assert place("127.0.0.1:50051") == Place("127.0.0.1", 50051)
    assert place("[::1]:0") == Place("[::1]", 0)
    assert place("unix:/run/rapport") == Place("", 0, "/run/rapport")
    for written in ("127.0.0.1:50051", "[::1]:0", "unix:/run/rapport", "localhost:1"):
        assert str(place(written)) == written


@pytest.mark.parametrize(
    "written", ["", "here", ":1", "a:", "a:x", "a:70000", "a:-1", "unix:", "a:\u0661", "a:123456"]
)
def test_anything_else_is_refused_by_name(written: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        place(written, "--somewhere")
    assert str(caught.value).startswith(f"--somewhere {written}: write HOST:PORT")


@given(st.text(max_size=30))
def test_no_text_breaks_the_reader(written: str) -> None:
    try:
        found = place(written)
    except ConfigurationError:
        return
    assert found.path or (found.host and 0 <= found.port <= 65_535)


@pytest.mark.parametrize(
    ("written", "own"),
    [
        ("unix:/x", True),
        ("127.0.0.1:1", True),
        ("127.3.2.1:1", True),
        ("[::1]:1", True),
        ("localhost:1", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
        ("example.org:1", False),
    ],
)
def test_only_loopback_and_paths_are_this_machine_s_own(written: str, own: bool) -> None:
    assert own_machine(place(written)) is own


def free_run(length: int) -> int:
    """The first of some ports in a row that nobody has."""
    for first in range(20_000 + hash(socket.gethostname()) % 5_000, 60_000, 50):
        try:
            with Held(f"127.0.0.1:{first}", length - 1):
                return first
        except ConfigurationError:
            continue
    raise AssertionError("no port is free")


def bindable(port: int, *, shared: bool) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, int(shared))
        try:
            one.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def test_each_worker_has_the_port_after_the_shared_one() -> None:
    first = free_run(4)
    with Held(f"127.0.0.1:{first}", 3) as held:
        assert held.shared == f"127.0.0.1:{first}"
        assert held.own == tuple(f"127.0.0.1:{first + i}" for i in (1, 2, 3))
        for port in range(first, first + 4):
            assert bindable(port, shared=True), "a worker could not listen"
            assert not bindable(port, shared=False), "anybody could take it"
    assert all(bindable(port, shared=False) for port in range(first, first + 4))


def test_nothing_is_sent_to_whoever_holds_the_ports() -> None:
    with Held("127.0.0.1:0", 2) as held:
        for at in (held.shared, *held.own):
            with socket.socket() as one, pytest.raises(ConnectionRefusedError):
                one.connect(("127.0.0.1", int(at.rpartition(":")[2])))


def test_where_any_port_will_do_all_are_different() -> None:
    with Held("localhost:0", 4) as held:
        ports = [at.rpartition(":")[2] for at in (held.shared, *held.own)]
        assert len(set(ports)) == 5
        assert "0" not in ports


def test_ports_can_be_elsewhere() -> None:
    first = free_run(3)
    with Held("127.0.0.1:0", 2, first) as held:
        assert held.own == (f"127.0.0.1:{first}", f"127.0.0.1:{first + 1}")


def test_a_taken_port_is_told_and_nothing_is_kept() -> None:
    first = free_run(3)
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", first + 2))
        somebody.listen()
        with pytest.raises(ConfigurationError, match=f"--worker-ports 127.0.0.1:{first + 2}: is"):
            Held(f"127.0.0.1:{first}", 2)
    assert bindable(first, shared=False)


def test_a_second_holder_is_refused_although_both_would_share() -> None:
    with (
        Held("127.0.0.1:0", 1) as held,
        pytest.raises(ConfigurationError, match=f"--listen {held.shared}: is taken"),
    ):
        Held(held.shared, 1)


@pytest.mark.parametrize(
    ("listen", "workers", "first", "told"),
    [
        ("127.0.0.1:65534", 2, None, "ports 65535 to 65536 .*--worker-ports FIRST"),
        ("127.0.0.1:7000", 3, 6998, "port 7000 is the one they share"),
        ("203.0.113.1:0", 2, None, "no address of this machine"),
    ],
)
def test_impossible_ports_are_refused(
    listen: str, workers: int, first: int | None, told: str
) -> None:
    with pytest.raises(ConfigurationError, match=told):
        Held(listen, workers, first)


def test_connections_that_linger_from_a_server_before_keep_nobody_out() -> None:
    first = free_run(2)
    with socket.socket() as before:
        before.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        before.bind(("127.0.0.1", first))
        before.listen()
        with socket.create_connection(("127.0.0.1", first)) as caller:
            before.accept()[0].close()  # who closes first lingers
            assert caller.recv(1) == b""
    with Held(f"127.0.0.1:{first}", 1) as held:
        assert not bindable(first, shared=False)
        with pytest.raises(ConfigurationError, match="is taken"):
            Held(held.shared, 1)


def test_of_a_unix_socket_there_is_none_to_share() -> None:
    with Held("unix:/run/rapport", 2) as held:
        assert held.shared == ""
        assert held.own == ("unix:/run/rapport.0", "unix:/run/rapport.1")
