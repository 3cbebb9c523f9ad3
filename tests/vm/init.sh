#!/bin/busybox sh
# Process 1 of a test VM. It makes the shared file tree of the host its root, under an overlay that
# keeps all writes in memory, runs the job there, and powers off. boot.py reads what the job wrote.

/bin/busybox --install -s /bin
for folder in proc sys dev below above root sbin lib; do mkdir -p /$folder; done
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in $(cat /order); do insmod "/load/$module"; done

fail() {
    echo "vm: $*"
    poweroff -f
}

release=$(uname -r)
mount -t virtiofs -o ro tree /below || fail "the host's files cannot be mounted"
mount -t tmpfs above /above
mkdir /above/upper /above/work
mount -t overlay -o lowerdir=/below,upperdir=/above/upper,workdir=/above/work root /root ||
    fail "no overlay"

cd /root || fail "no root"
mkdir -p dev proc sys run tmp
for folder in proc sys dev; do mount -o bind /$folder $folder; done
mkdir -p dev/pts dev/shm
mount -t devpts -o ptmxmode=666 pts dev/pts
mount -t tmpfs shm dev/shm
mount -t tmpfs run run
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin
ln -s /proc/self/fd/1 dev/stdout
ln -s /proc/self/fd/2 dev/stderr
mount -t bpf bpf sys/fs/bpf
mount -t cgroup2 cgroup sys/fs/cgroup
mount -t tracefs trace sys/kernel/tracing
mount -t debugfs debug sys/kernel/debug
mount -t securityfs security sys/kernel/security

# Modules: for commands in the tree, and for the kernel, which looks for modprobe in this root.
modules=usr/lib/modules
[ -L lib ] || modules=lib/modules
mkdir -p "$modules/$release"
mkdir run/kernel
mount -t virtiofs -o ro kernel run/kernel || fail "no modules"
mount -o bind "run/kernel/lib/modules/$release" "$modules/$release"
ln -s /bin/busybox /sbin/modprobe
ln -s "/root/$modules" /lib/modules

mkdir run/exchange
mount -t virtiofs exchange run/exchange || fail "no place for the output"
hostname vm
ip link set lo up
chroot /root /bin/bash /run/exchange/job < /dev/null > run/exchange/output 2>&1
echo $? > run/exchange/status
umount run/exchange
poweroff -f
