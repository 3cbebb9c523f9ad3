"""The kernel gives the number of a namespace that is gone to the next one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from droptape.analyze import open_recording
from lab.recorder import PROGRAMS

RECORD = str(PROGRAMS / "droptape-record")
# As many datagrams to a closed port as $1 says.
SEND = """
import socket, sys
sending = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(int(sys.argv[1])):
    sending.sendto(b"x", ("127.0.0.1", 9))
"""
SCRIPT = """
count=3
for name in droptape-blue droptape-red droptape-grey; do
    ip netns add $name && ip -n $name link set lo up
    ip netns exec $name "$0" -c "$1" $count
    sleep 2.5
    ip netns del $name
    count=$((count + 2))
    test $name = droptape-red || sleep 2.5
done
"""


def test_namespaces_one_after_the_other_keep_their_names(tmp_path: Path) -> None:
    command = [RECORD, "-o", str(tmp_path / "rec"), "--", "sh", "-c", SCRIPT, sys.executable, SEND]
    subprocess.run(command, check=True)
    with open_recording(tmp_path / "rec") as rec:
        query = "SELECT netns_name, count(*) FROM drops WHERE dport = 9 GROUP BY 1 ORDER BY 2"
        found = rec.sql(query).fetchall()
        query = "SELECT netns_name, sum(events) FROM totals WHERE cause = 'NO_SOCKET' GROUP BY 1"
        totals = dict(rec.sql(query).fetchall())
    expected = [("droptape-blue", 3), ("droptape-red", 5), ("droptape-grey", 7)]
    assert found == expected
    assert [(name, totals[name]) for name, _ in expected] == expected


# A namespace that for 3 s only a descriptor keeps.
HIDE = """
import ctypes, os, subprocess, time
kept = os.open("/run/netns/droptape-hidden", os.O_RDONLY)
time.sleep(2.5)
subprocess.run(["ip", "netns", "del", "droptape-hidden"], check=True)
time.sleep(3)
ctypes.CDLL(None).setns(kept, 0)
time.sleep(2.5)
"""


def test_a_namespace_that_is_found_again_has_no_drops_of_before(tmp_path: Path) -> None:
    name = "droptape-hidden"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        send = ["ip", "netns", "exec", name, sys.executable, "-c", SEND, "50"]
        subprocess.run(send, check=True)
        command = [RECORD, "-o", str(tmp_path / "rec"), "--", sys.executable, "-c", HIDE]
        subprocess.run(command, check=True)
    finally:
        subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)
    with open_recording(tmp_path / "rec") as rec:
        query = f"""
            SELECT max(value) - min(value) FROM counters
            WHERE name = 'Udp.NoPorts' AND netns IN
                (SELECT inum FROM netns WHERE name = '{name}')
            """
        assert rec.sql(query).fetchall() in ([(0,)], [(None,)])
