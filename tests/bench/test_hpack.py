"""Headers mean what RFC 7541 says; its own examples, and what a block may not say."""

from __future__ import annotations

import pytest

from tests.bench.hpack import Decoder, indexed, literal

SMALL_TABLE = "3fe101"  # 256 bytes, as the examples of C.5 assume


def blocks(*written: str) -> list[bytes]:
    return [bytes.fromhex(one.replace(" ", "")) for one in written]


def test_requests_of_appendix_c3() -> None:
    decode = Decoder()
    first, second, third = blocks(
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    )
    common = {":method": "GET", ":authority": "www.example.com"}
    plain = common | {":scheme": "http", ":path": "/"}
    assert decode(first) == plain
    assert decode(second) == plain | {"cache-control": "no-cache"}
    whole = common | {":scheme": "https", ":path": "/index.html", "custom-key": "custom-value"}
    assert decode(third) == whole


def test_responses_of_appendix_c5_evict_what_has_no_room() -> None:
    decode = Decoder()
    first, second, third = blocks(
        SMALL_TABLE + "4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230"
        "3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65"
        "2e63 6f6d",
        "4803 3330 37c1 c0bf",
        "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04"
        "677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49"
        "553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
    )
    told = decode(first)
    assert told[":status"] == "302"
    assert decode(second) == told | {":status": "307"}
    last = decode(third)
    assert last[":status"] == "200"
    assert last["content-encoding"] == "gzip"
    assert last["location"] == "https://www.example.com"
    assert last["set-cookie"] == "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1"
    assert decode(blocks("be bf c0")[0]) == {
        "set-cookie": last["set-cookie"],
        "content-encoding": "gzip",
        "date": "Mon, 21 Oct 2013 20:13:22 GMT",
    }
    with pytest.raises(ValueError, match="header 65 is not in the table"):
        decode(b"\xc1")


def test_the_same_block_means_another_thing_once_the_table_has_changed() -> None:
    decode = Decoder()
    decode(literal("grpc-status", "0"))
    newest = indexed(62)
    assert decode(newest) == {"grpc-status": "0"}
    assert decode(newest) == {"grpc-status": "0"}
    decode(literal("grpc-status", "13"))
    assert decode(newest) == {"grpc-status": "13"}


def test_a_huffman_coded_value_passes_for_no_plain_one() -> None:
    coded = b"\x40\x0bgrpc-status\x81" + b"0"
    assert Decoder()(coded)["grpc-status"] != "0"


@pytest.mark.parametrize("block", [b"\xbe", b"\x80", b"\x40\x05abc"])
def test_what_is_no_header_block_is_refused(block: bytes) -> None:
    with pytest.raises(ValueError, match=r"table|ends within"):
        Decoder()(block)
