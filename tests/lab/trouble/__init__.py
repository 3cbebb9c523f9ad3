"""Real trouble, made on purpose. Each function returns the truth about what it did.

The truth comes from the programs and the wire, never from the counters that it
is compared with.
"""

from __future__ import annotations

from lab.trouble.conntrack import full_conntrack
from lab.trouble.crowd import Crowd, slow_server
from lab.trouble.devices import (
    Burst,
    damaged_segments,
    not_for_us,
    reverse_path,
    short_queue,
    silent_neighbour,
    socket_filter,
    stray_acks,
    too_large,
    unread_tun,
)
from lab.trouble.ending import (
    Ended,
    Ending,
    Last,
    Short,
    after_close,
    end_connection,
    never_accepted,
    no_port_left,
    short_connections,
)
from lab.trouble.firewall import Firewall, dropping, percent, the_first
from lab.trouble.listen import (
    Listener,
    Refused,
    connect,
    final_ack,
    flood_syns,
    refuse_final_acks,
    refuse_syns,
    send_syns,
    start_listener,
)
from lab.trouble.loss import (
    Blackhole,
    Loss,
    lossy_transfer,
    lost_in_burst,
    syn_blackhole,
    tail_loss,
)
from lab.trouble.ports import (
    ClosedPort,
    SlowReader,
    closed_tcp_port,
    closed_udp_port,
    late_answers,
    slow_udp_reader,
)
from lab.trouble.pressure import Crammed, busy_socket, small_receive_buffer
from lab.trouble.reset import Cause, Reset, reset_connection
from lab.trouble.silence import Silence, refused, unacknowledged, unanswered, unfinished
from lab.trouble.windows import Transfer, slow_tcp_reader, transfer, without_window_scaling
from lab.trouble.xdp import xdp_drop

__all__ = [
    "Blackhole",
    "Burst",
    "Cause",
    "ClosedPort",
    "Crammed",
    "Crowd",
    "Ended",
    "Ending",
    "Firewall",
    "Last",
    "Listener",
    "Loss",
    "Refused",
    "Reset",
    "Short",
    "Silence",
    "SlowReader",
    "Transfer",
    "after_close",
    "busy_socket",
    "closed_tcp_port",
    "closed_udp_port",
    "connect",
    "damaged_segments",
    "dropping",
    "end_connection",
    "final_ack",
    "flood_syns",
    "full_conntrack",
    "late_answers",
    "lossy_transfer",
    "lost_in_burst",
    "never_accepted",
    "no_port_left",
    "not_for_us",
    "percent",
    "refuse_final_acks",
    "refuse_syns",
    "refused",
    "reset_connection",
    "reverse_path",
    "send_syns",
    "short_connections",
    "short_queue",
    "silent_neighbour",
    "slow_server",
    "slow_tcp_reader",
    "slow_udp_reader",
    "small_receive_buffer",
    "socket_filter",
    "start_listener",
    "stray_acks",
    "syn_blackhole",
    "tail_loss",
    "the_first",
    "too_large",
    "transfer",
    "unacknowledged",
    "unanswered",
    "unfinished",
    "unread_tun",
    "without_window_scaling",
    "xdp_drop",
]
