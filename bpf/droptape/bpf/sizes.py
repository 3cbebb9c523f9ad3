"""How much the maps hold."""

TOTALS_ENTRIES, OWNER_ENTRIES, PORT_ENTRIES, LISTENER_ENTRIES = 16384, 65536, 65536, 16384
HOLDER_ENTRIES, FLOW_BITS, CONNECTION_ENTRIES = 65536, 17, 131072

LISTENER_SLOTS = 32
"""How many listening sockets of a port are known. The verifier follows every one of them."""


def refusal_entries(cpus: int) -> int:
    """Return the entries of `refusals`: some for each namespace on each processor."""
    return max(8192, 1024 * cpus)
