"""The few kernel headers that bcc's tcpretrans asks for, made from the running kernel's types.

Most production hosts have no kernel headers, and bcc's tools do not run there. With droptape's own
and two more this one does.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from droptape.bpf.btf import Btf
from droptape.bpf.source import ROOT

_MEMBERS = {
    "skc_family": "unsigned short",
    "skc_num": "unsigned short",
    "skc_dport": "unsigned short",
    "skc_state": "unsigned char",
    "skc_rcv_saddr": "unsigned int",
    "skc_daddr": "unsigned int",
    "skc_v6_rcv_saddr": "struct in6_addr",
    "skc_v6_daddr": "struct in6_addr",
}
_IN6 = (
    "#define AF_INET 2\n#define AF_INET6 10\n"
    "struct in6_addr { union { unsigned int u6_addr32[4]; } in6_u; };\n"
)


def write(folder: Path) -> Path:
    """Write the headers below `folder`; return what BCC_KERNEL_SOURCE has to be."""
    target = folder / "headers"
    shutil.copytree(ROOT / "headers", target)
    net = target / "include" / "net"
    net.mkdir()
    (net / "sock.h").write_text(_IN6 + _sock(Btf.load()))
    # Only the tool's other way, without the tracepoint, uses these; but they have to compile.
    (net / "tcp.h").write_text(
        "struct sk_buff { char cb[48]; };\nstruct tcp_skb_cb { unsigned int seq; };\n"
    )
    return target


def _sock(btf: Btf) -> str:
    members = []
    for name, kind in _MEMBERS.items():
        member = btf.member("sock_common", name)
        if member is None:
            raise LookupError(f"this kernel has no sock_common.{name}")
        at = member.bit_offset // 8
        gap = f"char gap_{name}[{at}]; " if at else ""
        members.append(f"        struct {{ {gap}{kind} {name}; }} __attribute__((packed));")
    body = "\n".join(members)
    return f"struct sock {{\n    struct {{ union {{\n{body}\n    }}; }} __sk_common;\n}};\n"
