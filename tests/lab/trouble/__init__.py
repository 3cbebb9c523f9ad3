"""Real trouble, made on purpose. Each function returns the truth about what it did.

The truth comes from the programs and the wire, never from the counters that it
is compared with.
"""

from __future__ import annotations

from lab.trouble.crowd import Crowd, slow_server
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
    slow_udp_reader,
)
from lab.trouble.reset import Cause, Reset, reset_connection

__all__ = [
    "Blackhole",
    "Cause",
    "ClosedPort",
    "Crowd",
    "Firewall",
    "Listener",
    "Loss",
    "Refused",
    "Reset",
    "SlowReader",
    "closed_tcp_port",
    "closed_udp_port",
    "connect",
    "dropping",
    "final_ack",
    "flood_syns",
    "lossy_transfer",
    "lost_in_burst",
    "percent",
    "refuse_final_acks",
    "refuse_syns",
    "reset_connection",
    "send_syns",
    "slow_server",
    "slow_udp_reader",
    "start_listener",
    "syn_blackhole",
    "tail_loss",
    "the_first",
]
