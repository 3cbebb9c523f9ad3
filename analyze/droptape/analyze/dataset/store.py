"""Where a dataset lies: a folder, or a prefix in S3-compatible storage."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO
from urllib.parse import parse_qs, urlsplit

import pyarrow as pa
import pyarrow.fs as pafs

from droptape.analyze.errors import RecordingError
from droptape.format.manifest import write_atomic

from .layout import STAGING

_ATTEMPTS = 3
_CONNECT_S, _REQUEST_S = 5, 60


def is_remote(place: str) -> bool:
    """Say whether `place` is an address of S3-compatible storage."""
    return place.lower().startswith("s3://")


def open_store(place: str) -> Store:
    """Return the store at a path or ``s3://bucket/prefix[?endpoint_override=URL&region=NAME]``.

    Credentials come from where AWS tools take them: the environment, or ~/.aws.

    Raises:
        RecordingError: it is no place that a dataset can lie in.
    """
    if is_remote(place):
        return S3Store(place)
    if "://" in place:
        raise RecordingError(f"{place}: a dataset is a folder or s3://BUCKET/PREFIX")
    try:
        return FolderStore(Path(place).expanduser().absolute())
    except RuntimeError as exc:
        raise RecordingError(f"{place}: {exc}") from exc


class Upload(ABC):
    """Files being written, which appear together when `publish` is called.

    Attributes:
        written: their paths in the store.
    """

    def __init__(self) -> None:
        self.written: list[str] = []

    @abstractmethod
    def open(self, path: str) -> Any:
        """Open a file to write in binary, to be closed by the caller."""

    @abstractmethod
    def publish(self) -> None:
        """Let the files appear under their names."""

    @abstractmethod
    def discard(self) -> None:
        """Remove what was written."""


class Store(ABC):
    """Files by path relative to the dataset, with slashes.

    Attributes:
        place: how users write it.
    """

    place: str

    @abstractmethod
    def sizes(self, folder: str) -> dict[str, int]:
        """Return the files below `folder` and their bytes; RecordingError when unreachable."""

    @abstractmethod
    def read(self, path: str) -> bytes:
        """Return a file's content; OSError when that fails."""

    @abstractmethod
    def write(self, path: str, data: bytes) -> None:
        """Replace a file in one step; OSError when that fails."""

    @abstractmethod
    def delete(self, path: str) -> None:
        """Remove a file; nothing when there is none."""

    @abstractmethod
    def upload(self, key: str) -> Upload:
        """Begin to write files that belong together; what a try with `key` left is gone."""

    @abstractmethod
    def full(self, path: str) -> str:
        """Return the path as engines name it."""

    @abstractmethod
    def arrow(self, path: str) -> tuple[pafs.FileSystem, str]:
        """Return Arrow's file system, and the path in it."""

    @contextmanager
    def uploading(self, key: str) -> Iterator[Upload]:
        """Publish what is written in the ``with``, or discard it when that failed."""
        upload = self.upload(key)
        try:
            yield upload
            upload.publish()
        except BaseException:
            upload.discard()
            raise


class FolderStore(Store):
    """A local or mounted folder."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.place = str(root)

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Store.sizes`."""
        found: dict[str, int] = {}

        def failed(exc: OSError) -> None:
            if not isinstance(exc, FileNotFoundError):
                raise RecordingError(f"{exc.filename} cannot be read: {exc.strerror}") from exc

        for where, _, names in os.walk(self.root / folder, onerror=failed):
            base = Path(where).relative_to(self.root).as_posix()
            for name in names:
                try:
                    # Not Path: a dataset has a hundred thousand files and more.
                    found[f"{base}/{name}"] = os.stat(f"{where}/{name}").st_size  # noqa: PTH116
                except FileNotFoundError:
                    continue  # replaced since it was listed
        return found

    def read(self, path: str) -> bytes:
        """See `Store.read`."""
        return (self.root / path).read_bytes()

    def write(self, path: str, data: bytes) -> None:
        """See `Store.write`."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(target, (data,))

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        (self.root / path).unlink(missing_ok=True)

    def upload(self, key: str) -> Upload:
        """See `Store.upload`."""
        return _FolderUpload(self.root, key)

    def full(self, path: str) -> str:
        """See `Store.full`."""
        return str(self.root / path)

    def arrow(self, path: str) -> tuple[pafs.FileSystem, str]:
        """See `Store.arrow`."""
        return pafs.LocalFileSystem(), self.full(path)


class _FolderUpload(Upload):
    def __init__(self, root: Path, key: str) -> None:
        super().__init__()
        self._root = root
        self._key = key
        staging = root / STAGING
        staging.mkdir(parents=True, exist_ok=True)
        for left in staging.glob(f"{key}.*"):
            shutil.rmtree(left, ignore_errors=True)
        self._folder = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=staging))

    def open(self, path: str) -> BinaryIO:
        aside = self._folder / path
        aside.parent.mkdir(parents=True, exist_ok=True)
        self.written.append(path)
        return aside.open("wb")

    def publish(self) -> None:
        for path in self.written:
            aside, target = self._folder / path, self._root / path
            with aside.open("rb") as file:
                os.fsync(file.fileno())
            target.parent.mkdir(parents=True, exist_ok=True)
            aside.replace(target)
        self._remove()

    def discard(self) -> None:
        self._remove()

    def _remove(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        try:
            (self._root / STAGING).rmdir()
        except OSError:
            return  # somebody else is writing


class S3Store(Store):
    """A prefix in a bucket."""

    def __init__(self, place: str) -> None:
        parts = urlsplit(place)
        asked = {key: values[-1] for key, values in parse_qs(parts.query).items()}
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        self.place = place
        if not parts.netloc:
            raise RecordingError(f"{place}: name a bucket, as in s3://BUCKET/PREFIX")
        unknown = set(asked) - {"endpoint_override", "region"}
        if unknown:
            raise RecordingError(f"{place}: {', '.join(sorted(unknown))} is not known")
        env = os.environ
        endpoint = asked.get("endpoint_override") or env.get("AWS_ENDPOINT_URL_S3")
        endpoint = endpoint or env.get("AWS_ENDPOINT_URL") or ""
        scheme, _, host = endpoint.rpartition("://")
        if endpoint:
            # Stores other than AWS often refuse the checksums that its client appends to a body.
            os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
        region = asked.get("region") or env.get("AWS_REGION") or env.get("AWS_DEFAULT_REGION")
        try:
            self._fs = pafs.S3FileSystem(
                endpoint_override=host or None, scheme=scheme or "https",
                region=region or "us-east-1", connect_timeout=_CONNECT_S,
                request_timeout=_REQUEST_S,
                retry_strategy=pafs.AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
            )  # fmt: skip
        except (pa.ArrowException, OSError, ValueError) as exc:
            raise RecordingError(f"{place}: {_first_line(exc)}") from exc

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Store.sizes`."""
        chosen = pafs.FileSelector(self._path(folder), allow_not_found=True, recursive=True)
        try:
            found = self._fs.get_file_info(chosen)
        except (pa.ArrowException, OSError) as exc:
            raise RecordingError(f"{self.place} cannot be reached: {_first_line(exc)}") from exc
        cut = len(self._root) + 1
        return {one.path[cut:]: one.size for one in found if one.type == pafs.FileType.File}

    def read(self, path: str) -> bytes:
        """See `Store.read`."""
        with self._fs.open_input_stream(self._path(path)) as file:
            return bytes(file.read())

    def write(self, path: str, data: bytes) -> None:
        """See `Store.write`."""
        with self._fs.open_output_stream(self._path(path)) as file:
            file.write(data)

    def delete(self, path: str) -> None:
        """See `Store.delete`."""
        if self._fs.get_file_info(self._path(path)).type == pafs.FileType.File:
            self._fs.delete_file(self._path(path))

    def upload(self, key: str) -> Upload:
        """See `Store.upload`."""
        del key  # an object appears when it is whole, so nothing is left behind aside
        return _S3Upload(self, self._fs)

    def full(self, path: str) -> str:
        """See `Store.full`."""
        return f"s3://{self._path(path)}"

    def arrow(self, path: str) -> tuple[pafs.FileSystem, str]:
        """See `Store.arrow`."""
        return self._fs, self._path(path)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root


class _S3Upload(Upload):
    def __init__(self, store: S3Store, fs: pafs.FileSystem) -> None:
        super().__init__()
        self._store = store
        self._fs = fs

    def open(self, path: str) -> Any:
        self.written.append(path)
        return self._fs.open_output_stream(self._store.arrow(path)[1])

    def publish(self) -> None:
        """Objects are there as soon as they are whole."""

    def discard(self) -> None:
        for path in self.written:
            self._store.delete(path)


def _first_line(exc: Exception) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0].rstrip(".")
