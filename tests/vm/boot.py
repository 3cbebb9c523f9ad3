"""Run one command as root in a virtual machine, on the files of this machine.

QEMU boots the kernel; virtiofsd shares three folders with it: the tree that becomes its root
(read-only, also on this side), the kernel's modules, and a folder for the job and its output.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO

from vm import initramfs
from vm.fetch import Kernel

EXCHANGE = "/run/exchange"
"""Where the virtual machine sees the folder given as `exchange`."""

# An emulated clock is not steady enough for the kernel's watchdog of clocks. The kernel's tests of
# its ciphers take long, and were seen not to end.
_KERNEL_OPTIONS = "quiet panic=-1 oops=panic tsc=reliable mitigations=off cryptomgr.notests"
_POLL_S = 0.1
_BOOTS, _BOOT_S = 3, 240.0
"""An emulated machine sometimes stands still before it has booted: then there is another try."""
# In a mount namespace where the folder cannot be written: whatever the guest does, and whatever the
# daemon lets it do, this machine's files stay as they are.
_READ_ONLY = """
[ "$0" = / ] || mount --bind "$0" "$0"
mount -o remount,bind,ro "$0" && exec "$@"
"""
# The C program of QEMU up to 7, and the Rust program that took its place.
_VIRTIOFSD = ("/usr/lib/qemu/virtiofsd", "/usr/libexec/virtiofsd", "/usr/lib/virtiofsd")
_MACHINES = {
    "x86_64": ("qemu-system-x86_64", "q35", "ttyS0"),
    "aarch64": ("qemu-system-aarch64", "virt,gic-version=3", "ttyAMA0"),
}
_CRASH = re.compile(
    r"BUG:|Oops|general protection|nable to handle|invalid opcode|Internal error|stack guard"
)
_CRASH_LINES, _END_LINES = 150, 60
# Without KVM, a processor can meet a breakpoint that another has already taken away again, as the
# kernel sets them where it changes its code (docs/KERNELS.md): no fault of the kernel or of ours.
_STALE_CODE = re.compile(r"int3: 0000 \[#1\]")


class BootError(Exception):
    """The virtual machine cannot be started, or ended without a result."""


def missing_programs(machine: str) -> list[str]:
    """Return what has to be installed before `run` can work."""
    wanted = [_MACHINES[machine][0], "busybox", "unshare"]
    missing = [name for name in wanted if shutil.which(name) is None]
    return missing + ([] if _virtiofsd() else ["virtiofsd"])


def _busybox(tree: Path) -> Path:
    """Return the static busybox of the tree: another machine's runs only there."""
    for place in ("bin/busybox", "usr/bin/busybox"):
        if (tree / place).exists():
            return tree / place
    raise BootError(f"no busybox in {tree}")


def _virtiofsd() -> str | None:
    return next((path for path in _VIRTIOFSD if os.access(path, os.X_OK)), None)


def _accelerator(machine: str) -> str:
    """Use the processor's virtualisation where it is known to work: /dev/kvm alone says little."""
    asked = os.environ.get("VM_ACCEL")
    if asked:
        return asked
    same = machine == platform.machine() and os.access("/dev/kvm", os.W_OK)
    words = Path("/proc/cpuinfo").read_text().split()
    # On arm64 no flag tells, but there /dev/kvm exists only when the CPU started in EL2.
    real = machine == "aarch64" or "vmx" in words or "svm" in words
    return "kvm" if same and real else "tcg"


def run(
    kernel: Kernel,
    command: Sequence[str],
    exchange: Path,
    *,
    machine: str = platform.machine(),
    tree: Path = Path("/"),
    memory: int = 2048,
    cpus: int = 2,
    timeout: float = 600,
    output: Callable[[bytes], object] = lambda data: None,
) -> int:
    """Run `command` and return its exit code.

    It has this process's working directory and environment, and no standard input.

    Args:
        kernel: what to boot.
        command: program and arguments.
        exchange: an empty folder; what the command writes to EXCHANGE is there afterwards.
        machine: as `uname -m` says, if not this machine's.
        tree: the root's files, if not this machine's.
        memory: MiB; all writes stay in it.
        cpus: processors.
        timeout: seconds, boot included.
        output: gets what the command prints, as it comes.

    Raises:
        BootError: no result; the text ends with the console's last lines.
    """
    (exchange / "job").write_text(_job(command))
    begun = exchange / "output"
    emulated = _accelerator(machine).startswith("tcg")
    for left in reversed(range(_BOOTS)):
        said = _once(kernel, exchange, machine, tree, memory, cpus, timeout, output)
        status = exchange / "status"
        if status.exists() and status.read_text().strip():
            return int(status.read_text())
        stale = emulated and any(_STALE_CODE.search(line) for line in said)
        if not left or (begun.exists() and not stale):
            break
        if begun.exists():
            begun.unlink()
            output(b"\nvm: the emulator ran code that was changed before; once more\n")
    problem = "it ended without a result" if begun.exists() else "it does not boot"
    raise BootError("\n".join([f"kernel {kernel.release}: {problem}", *said]))


def _once(
    kernel: Kernel, exchange: Path, machine: str, tree: Path, memory: int, cpus: int,
    timeout: float, output: Callable[[bytes], object],
) -> list[str]:  # fmt: skip
    """Boot and wait for the end; return why it was not waited for, and the console's last lines."""
    with tempfile.TemporaryDirectory(prefix="vm-") as folder, contextlib.ExitStack() as stack:
        work = Path(folder)
        (work / "initramfs").write_bytes(initramfs.build(kernel, _busybox(tree)))
        console = stack.enter_context((work / "console").open("w+b"))
        shares = {"tree": tree, "kernel": kernel.folder, "exchange": exchange}
        for tag, shared in shares.items():
            stack.enter_context(_sharing(shared, work / tag, tag != "exchange", console))
        arguments = _qemu(kernel, work, machine, memory, cpus)
        for tag in shares:
            arguments += ["-chardev", f"socket,id={tag},path={work / tag}"]
            arguments += ["-device", f"vhost-user-fs-pci,chardev={tag},tag={tag}"]
        process = stack.enter_context(_ending(arguments, console))
        problem = _follow(process, exchange / "output", timeout, output)
        console.seek(0)
        said = last_words(console.read().decode(errors="replace"))
        return [problem, *said] if problem else said


def last_words(console: str) -> list[str]:
    """Return the end of a console, and before it the begin of a crash if there was one."""
    lines = [line for line, _ in itertools.groupby(console.splitlines())]
    end = max(len(lines) - _END_LINES, 0)
    crashes = (number for number, line in enumerate(lines[:end]) if _CRASH.search(line))
    crash = next(crashes, end)
    if crash + _CRASH_LINES >= end:
        return lines[crash:]
    return [*lines[crash : crash + _CRASH_LINES], "...", *lines[end:]]


def _job(command: Sequence[str]) -> str:
    settings = {k: v for k, v in os.environ.items() if k.isidentifier() and k != "TMPDIR"}
    lines = [f"export {name}={shlex.quote(value)}" for name, value in settings.items()]
    return "\n".join(
        [*lines, f"cd {shlex.quote(str(Path.cwd()))}", f"exec {shlex.join(command)}\n"]
    )


def _qemu(kernel: Kernel, work: Path, machine: str, memory: int, cpus: int) -> list[str]:
    program, board, console = _MACHINES[machine]
    accelerator = _accelerator(machine)
    return [
        program, "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-machine", f"{board},memory-backend=ram",
        "-accel", "tcg,thread=multi" if accelerator == "tcg" else accelerator,
        "-cpu", "host" if accelerator == "kvm" else "max", "-smp", str(cpus), "-m", f"{memory}M",
        # The sharing daemons work on the guest's memory.
        "-object", f"memory-backend-memfd,id=ram,size={memory}M,share=on",
        "-serial", "stdio",
        "-kernel", str(kernel.folder / "vmlinuz"), "-initrd", str(work / "initramfs"),
        "-append", f"console={console} {_KERNEL_OPTIONS}",
    ]  # fmt: skip


@contextlib.contextmanager
def _sharing(folder: Path, path: Path, readonly: bool, log: IO[bytes]) -> Iterator[None]:
    """Share `folder` over the socket `path` while the block runs."""
    program = _virtiofsd()
    if program is None:
        raise BootError("virtiofsd is not installed")
    cache = "always" if readonly else "none" if program == _VIRTIOFSD[0] else "never"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(1)
        command = [program, f"--fd={listener.fileno()}"]
        if program == _VIRTIOFSD[0]:
            command += ["-o", f"source={folder},cache={cache},sandbox=chroot,log_level=err"]
        else:
            command += [f"--shared-dir={folder}", f"--cache={cache}", "--sandbox=chroot"]
        if readonly:
            command = ["unshare", "--mount", "sh", "-c", _READ_ONLY, str(folder), *command]
        with _ending(command, log, [listener.fileno()]):
            yield


@contextlib.contextmanager
def _ending(
    command: Sequence[str], log: IO[bytes], descriptors: Sequence[int] = ()
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program as long as the block does."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=descriptors
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _follow(
    process: subprocess.Popen[bytes], path: Path, timeout: float, output: Callable[[bytes], object]
) -> str:
    """Pass on what is added to `path` until `process` ends; return why it was not waited for."""
    start = time.monotonic()
    position = 0
    while True:
        ended = process.poll() is not None
        if path.exists():
            with path.open("rb") as file:
                file.seek(position)
                data = file.read()
            position += len(data)
            if data:
                output(data)
        elif time.monotonic() > start + _BOOT_S:
            return f"not booted after {_BOOT_S:g} s"
        if ended:
            return ""
        if time.monotonic() > start + timeout:
            return f"no end within {timeout:g} s"
        time.sleep(_POLL_S)


def to_stdout(data: bytes) -> None:
    """Print output as it comes."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
