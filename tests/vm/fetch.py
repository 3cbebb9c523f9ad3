"""Get kernels of the Debian mirror that this machine uses, without installing anything.

apt works on a configuration of its own in a temporary folder: the machine's package lists, sources
and packages stay as they are.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
RELEASES = ("bullseye", "bookworm", "trixie", "sid")
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


class FetchError(Exception):
    """A kernel cannot be had."""


@dataclass(frozen=True, slots=True)
class Kernel:
    """An unpacked kernel.

    Attributes:
        folder: holds `vmlinuz`, `release`, and `lib/modules/RELEASE`.
    """

    folder: Path

    @property
    def release(self) -> str:
        """What `uname -r` says under it."""
        return (self.folder / "release").read_text().strip()

    @property
    def series(self) -> str:
        """Its first two numbers, as 6.1."""
        return ".".join(self.release.split(".")[:2])

    @property
    def modules(self) -> Path:
        """The folder with its modules."""
        return self.folder / "lib/modules" / self.release


@dataclass(frozen=True, slots=True)
class _Image:
    """A kernel image that the mirror has: its packages with versions, the image first."""

    release: str
    version: str
    packages: tuple[str, ...]

    @property
    def series(self) -> str:
        return ".".join(self.release.split(".")[:2])

    @property
    def order(self) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", f"{self.release} {self.version}")]


def cache() -> Path:
    """Return the folder with all kernels."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("VM_KERNELS") or f"{base}/vm-kernels").expanduser().resolve()


def find(name: str, machine: str) -> Kernel | None:
    """Return a kernel that is there already; `name` is a series, or "newest"."""
    folder = cache() / (name if machine == "x86_64" else f"{name}-{machine}")
    return Kernel(folder.resolve()) if (folder / "release").exists() else None


def fetch(names: list[str], machine: str) -> Iterator[tuple[str, Kernel]]:
    """Yield each kernel with its name; those that are not there are downloaded.

    Raises:
        FetchError: the mirror has no such kernel, or apt fails.
    """
    missing = [name for name in names if find(name, machine) is None]
    if missing:
        cache().mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache()) as folder:
            apt = _Apt(Path(folder), MACHINES[machine])
            images = sorted(apt.images(), key=lambda image: image.order)
            for name in missing:
                fitting = [i for i in images if name in ("newest", i.series)]
                if not fitting:
                    raise FetchError(f"the mirror has no cloud kernel {name} for {machine}")
                _unpack(apt, fitting[-1], name, machine)
    for name in names:
        kernel = find(name, machine)
        assert kernel is not None
        yield name, kernel


def _unpack(apt: _Apt, image: _Image, name: str, machine: str) -> None:
    suffix = "" if machine == "x86_64" else f"-{machine}"
    target = cache() / f"{image.series}{suffix}"
    if not target.exists():
        tree = apt.unpack(image)
        new = tree.with_name("kernel")
        (new / "lib/modules").mkdir(parents=True)
        # Older packages have everything below /lib/modules and /boot, newer ones below /usr.
        for place in ("lib/modules", "usr/lib/modules"):
            if (tree / place / image.release).is_dir():
                shutil.move(tree / place / image.release, new / "lib/modules")
        modules = new / "lib/modules" / image.release
        for boot in (tree / f"boot/vmlinuz-{image.release}", modules / "vmlinuz"):
            if boot.exists():
                shutil.move(boot, new / "vmlinuz")
        subprocess.run(["busybox", "depmod", "-b", new, image.release], check=True)
        (new / "release").write_text(image.release + "\n")
        new.rename(target)
    if name == "newest":
        link = cache() / f"newest{suffix}"
        link.unlink(missing_ok=True)
        link.symlink_to(target.name)


class _Apt:
    """apt-get and apt-cache on sources, lists and a package state of their own."""

    def __init__(self, folder: Path, architecture: str) -> None:
        self._folder = folder
        self._architecture = architecture
        for name in ("lists/partial", "archives/partial"):
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text("".join(self._sources()))
        options = {
            "APT::Architecture": architecture,
            "APT::Architectures": architecture,
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Dir::Cache": folder,
            "Dir::Etc::preferences": "/dev/null",
            "Dir::Etc::preferencesparts": "/dev/null",
            "Dir::Etc::sourcelist": folder / "sources.list",
            "Dir::Etc::sourceparts": "/dev/null",
            "Dir::State::lists": folder / "lists",
            "Dir::State::status": folder / "status",
        }
        config = folder / "apt.conf"
        config.write_text("".join(f'{name} "{value}";\n' for name, value in options.items()))
        self._environment = os.environ | {"APT_CONFIG": str(config), "LC_ALL": "C"}
        # A release that the mirror gave up is no error here: what is missing shows later.
        subprocess.run(["apt-get", "-q=2", "update"], env=self._environment, check=False)

    def _sources(self) -> Iterator[str]:
        """Yield lines for every release, from where the machine's own packages come."""
        listed = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)",
             "Created-By: Packages"],
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip
        places: dict[str, str] = {}
        for line in listed.splitlines():
            uri, _, release = line.partition(" ")
            if release.endswith("-security"):
                places.setdefault("-security", uri)
            elif release.isalpha():
                places.setdefault("", uri)
                places.setdefault("-backports", uri)
        if "" not in places:
            raise FetchError("this machine's apt has no Debian sources")
        for release in RELEASES:
            for kind, uri in places.items():
                if not (kind and release == "sid"):
                    yield f"deb [signed-by={KEYRING}] {uri} {release}{kind} main\n"

    def images(self) -> Iterator[_Image]:
        """Yield every cloud image whose parts the mirror has too."""
        dump = subprocess.run(
            ["apt-cache", "dumpavail"], env=self._environment, capture_output=True, text=True,
            check=True,
        ).stdout  # fmt: skip
        field = re.compile(r"^(\S+): (.*)$", re.MULTILINE)
        fields = [dict(field.findall(part)) for part in dump.split("\n\n")]
        there = {(part.get("Package"), part.get("Version")) for part in fields}
        pattern = re.compile(rf"linux-image-(\d+\.\d+\.\d.*-cloud-{self._architecture})")
        for part in fields:
            match = pattern.fullmatch(part.get("Package", ""))
            if not match:
                continue
            version = part["Version"]
            # Since 6.13 or so the image is in several packages that need each other's version.
            parts = re.findall(r"(linux-\S+) \(= ([^)]+)\)", part.get("Depends", ""))
            parts = [p for p in parts if not p[0].startswith("linux-base-")]
            if all(p in there for p in parts):
                yield _Image(
                    match[1], version,
                    tuple(f"{p}={v}" for p, v in [(part["Package"], version), *parts]),
                )  # fmt: skip

    def unpack(self, image: _Image) -> Path:
        """Download the packages of `image` and unpack them; return the folder."""
        archives, tree = self._folder / "archives", self._folder / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        for old in archives.glob("*.deb"):
            old.unlink()
        subprocess.run(
            ["apt-get", "-q=2", "download", *image.packages],
            cwd=archives, env=self._environment, check=True,
        )  # fmt: skip
        for package in archives.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", package, tree], check=True)
        return tree
