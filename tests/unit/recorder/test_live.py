"""Lines of --live."""

from __future__ import annotations

import io
import re
from ipaddress import ip_address

import numpy as np

from droptape.bpf.kinds import all_kinds
from droptape.format.decode import Records
from droptape.format.schema import Table
from droptape.recorder import live
from droptape.recorder.live import LivePrinter, event_line

ENUMS = {"skb_drop_reason": {3: "NO_SOCKET"}, "sk_rst_reason": {1: "NO_SOCKET"}}
DROPS = all_kinds()["drops"].table.with_enums(ENUMS)
RESETS = all_kinds()["resets"].table.with_enums(ENUMS)


def mapped(text: str) -> np.void:
    address = ip_address(text)
    raw = address.packed if address.version == 6 else b"\0" * 10 + b"\xff\xff" + address.packed
    return np.void(raw)


def row(table: Table = DROPS, **values: object) -> Records:
    records = np.zeros(1, table.dtype)
    filled = {"saddr": mapped("10.0.0.7"), "daddr": mapped("10.0.0.2"), "sport": 51034} | values
    for name, value in ({"dport": 8080, "ip_version": 4, "weight": 1} | filled).items():
        records[name] = value
    return records


def symbolize(address: int) -> str:
    return f"f+{address:#x}"


def line(records: Records, table: Table = DROPS) -> str:
    text = event_line(table, records[0], 0, symbolize)
    assert re.match(r"\[\d\d:\d\d:\d\d\.\d\d\d\] ", text)
    return text.split("] ", 1)[1]


def test_a_drop_with_its_owner() -> None:
    records = row(reason=3, location=0x8C, owner_pid=1234, owner_comm=b"auction-server")
    assert line(records) == (
        "drop NO_SOCKET f+0x8c 10.0.0.7:51034 > 10.0.0.2:8080 owner auction-server[1234]"
    )


def test_what_is_unknown_is_said() -> None:
    records = row(reason=0xFFFFFFFF, ip_version=0, location=1)
    assert line(records) == "drop unknown f+0x1 owner unknown"
    assert line(row(reason=77)) == "drop 77 10.0.0.7:51034 > 10.0.0.2:8080 owner unknown"


def test_ipv6_and_portless_and_weight() -> None:
    records = row(
        saddr=mapped("fd77::1"), daddr=mapped("fd77::2"), ip_version=6, sport=0, dport=0, weight=5
    )
    records["reason"] = 3
    assert line(records) == "drop NO_SOCKET fd77::1 > fd77::2 x5 owner unknown"
    records["sport"], records["dport"] = 1, 2
    assert "[fd77::1]:1 > [fd77::2]:2" in line(records)


def test_a_name_that_is_no_text_does_not_break_the_terminal() -> None:
    assert "owner \\xff\\xfe[7]" in line(row(reason=3, owner_pid=7, owner_comm=b"\xff\xfe"))
    assert "owner \\x1b[2Jx[7]" in line(row(reason=3, owner_pid=7, owner_comm=b"\x1b[2Jx"))


def test_lines_of_all_kinds_come_in_the_order_of_time() -> None:
    out = io.StringIO()
    printer = LivePrinter(out, symbolize)
    printer.watch(DROPS, row(reason=3, mono_ns=2_000_000), 0)
    printer.watch(RESETS, row(RESETS, reason=1, mono_ns=1_000_000), 0)
    printer.flush()
    assert [text.split()[1] for text in out.getvalue().splitlines()] == ["reset", "drop"]


def test_what_is_too_much_is_counted() -> None:
    out = io.StringIO()
    printer = LivePrinter(out, symbolize)
    many = np.repeat(row(reason=3), live.LINES_PER_SECOND + 50)
    printer.watch(DROPS, many, 0)
    printer.watch(DROPS, many[:7], 0)
    printer.flush(end=True)
    lines = out.getvalue().splitlines()
    assert len(lines) == live.LINES_PER_SECOND + 1
    assert lines[-1] == "... 57 more events recorded, not shown"


class Standing(io.StringIO):
    """Takes a number of texts, then no more, or raises."""

    def __init__(self, texts: int, error: bool = False) -> None:
        super().__init__()
        self.texts = texts
        self.error = error

    def write(self, text: str, /) -> int:
        self.texts -= 1
        if self.texts >= 0:
            return super().write(text)
        if self.error:
            raise BrokenPipeError
        return 0


def test_what_a_reader_does_not_take_is_counted() -> None:
    out = Standing(1)
    printer = LivePrinter(out, symbolize)
    for _ in range(3):
        printer.watch(DROPS, row(reason=3), 0)
        printer.flush()
    out.texts = 1
    printer.flush(end=True)
    assert out.getvalue().splitlines()[1:] == ["... 2 more events recorded, not shown"]
    assert not printer.gone


def test_a_reader_that_is_gone_is_noticed() -> None:
    printer = LivePrinter(Standing(0, error=True), symbolize)
    printer.watch(DROPS, row(reason=3), 0)
    printer.flush()
    assert printer.gone
    printer.flush(end=True)
