#!/bin/sh
# Makes the kernel change its code under a busy processor: it turns tracepoints on and off, 300 s or
# as many as $1 says, without anything of droptape. A kernel that crashes here does so by itself, or
# by what emulates its processors (docs/KERNELS.md).
set -eu

seconds=${1:-300}
tracing=/sys/kernel/tracing
[ -d $tracing/events ] || mount -t tracefs none $tracing
ip link set lo up

busy='
import os, socket, sys, time
end = time.monotonic() + float(sys.argv[1])
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
while time.monotonic() < end:
    for _ in range(50):
        try:
            datagrams.sendto(b"x", ("127.0.0.1", 9))
        except ConnectionRefusedError:
            pass
    child = os.fork()
    if not child:
        os._exit(0)
    os.waitpid(child, 0)
'
python3 -c "$busy" "$seconds" &
rounds=0
while kill -0 $! 2>/dev/null; do
    for group in sched timer irq skb net sock tcp udp kmem workqueue; do
        echo 1 >$tracing/events/$group/enable
        echo 0 >$tracing/events/$group/enable
    done
    rounds=$((rounds + 1))
done
echo "$(uname -r): no crash in $seconds s, $rounds rounds"
