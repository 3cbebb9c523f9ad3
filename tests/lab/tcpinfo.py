"""What the kernel tells a process about its own TCP connection: getsockopt(TCP_INFO)."""

from __future__ import annotations

import socket
import struct
from typing import NamedTuple

_WSCALE_OK = 4  # TCPI_OPT_WSCALE


class TcpInfo(NamedTuple):
    """Some members of struct tcp_info (include/uapi/linux/tcp.h), in its units."""

    ca_state: int
    window_scaling: bool
    snd_wscale: int
    rcv_wscale: int
    mss: int
    srtt_us: int
    cwnd: int
    total_retrans: int
    bytes_acked: int
    bytes_received: int
    segs_out: int
    segs_in: int
    min_rtt_us: int
    data_segs_in: int
    data_segs_out: int
    busy_us: int
    rwnd_limited_us: int
    sndbuf_limited_us: int
    bytes_sent: int
    bytes_retrans: int
    snd_wnd: int
    rcv_wnd: int


def tcp_info(connection: socket.socket) -> TcpInfo:
    """Read it (Linux 5.4 tells all but `rcv_wnd`, which came with 6.2)."""
    raw = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 240)

    def at(kind: str, offset: int) -> int:
        return int(struct.unpack_from(kind, raw, offset)[0])

    return TcpInfo(
        ca_state=raw[1],
        window_scaling=bool(raw[5] & _WSCALE_OK),
        snd_wscale=raw[6] & 0xF,
        rcv_wscale=raw[6] >> 4,
        mss=at("=I", 16),
        srtt_us=at("=I", 68),
        cwnd=at("=I", 80),
        total_retrans=at("=I", 100),
        bytes_acked=at("=Q", 120),
        bytes_received=at("=Q", 128),
        segs_out=at("=I", 136),
        segs_in=at("=I", 140),
        min_rtt_us=at("=I", 148),
        data_segs_in=at("=I", 152),
        data_segs_out=at("=I", 156),
        busy_us=at("=Q", 168),
        rwnd_limited_us=at("=Q", 176),
        sndbuf_limited_us=at("=Q", 184),
        bytes_sent=at("=Q", 200),
        bytes_retrans=at("=Q", 208),
        snd_wnd=at("=I", 228),
        rcv_wnd=at("=I", 232),
    )
