"""A disk that fails on demand: every operation below one folder is counted, and one of them goes wrong.

The operations are those of the module `os` that Foretell's files, `shutil` and `tempfile` call, appending to files,
`Path.write_text`, and safetensors' `save_file`, whose own write happens outside Python.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import io
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors import SafetensorError

from foretell.training import checkpoints


class Died(BaseException):
    """The process is gone: nothing that it would have done after this happens."""


WRITES = ("write_text", "append", "save_file", "pwrite")
"""Operations that put bytes into a file, of which a part can arrive. "read" is opening a file to look at it."""
FAULTS = ("ENOSPC", "EIO", "torn", "death before", "death after", "death in the middle")
"""An error that is told, a write of half the bytes that ends in one, and a process that ends around an operation."""


class FakeDisk:
    """Counts operations below `folder`; operation number `fail_at` (from 1) has the fault `how`."""

    def __init__(self, folder: Path, fail_at: int = 0, how: str = ""):
        self.folder, self.fail_at, self.how = str(folder), fail_at, how
        self.operations: list[str] = []
        self.paths: list[str] = []
        self._handles: dict[int, str] = {}
        self._dead = False

    @contextlib.contextmanager
    def mounted(self) -> Generator[FakeDisk]:
        """Put the fakes in place."""
        with contextlib.ExitStack() as stack:
            for name in ("replace", "rename", "unlink", "mkdir", "rmdir", "open"):
                stack.enter_context(mock.patch.object(os, name, self._wrapped(name, getattr(os, name))))
            for name in ("fsync", "fchmod", "ftruncate", "pwrite", "close"):
                stack.enter_context(mock.patch.object(os, name, self._on_handle(name, getattr(os, name))))
            write_text, path_open = Path.write_text, Path.open
            stack.enter_context(mock.patch.object(
                Path, "write_text", lambda path, text, **how: self._write("write_text", path, text, write_text, **how)
            ))  # fmt: skip
            stack.enter_context(mock.patch.object(
                Path, "open", lambda path, mode="r", *a, **k: self._open(path, mode, path_open(path, mode, *a, **k))
            ))  # fmt: skip
            stack.enter_context(mock.patch.object(checkpoints, "save_file", self._save_file(checkpoints.save_file)))
            yield self

    def _now(self, name: str, path: str) -> str:
        """Count an operation; return the fault that it is to have, or nothing."""
        if self._dead:
            raise Died
        self.operations.append(name)
        self.paths.append(path)
        how = self.how if len(self.operations) == self.fail_at else ""
        if how.startswith("death"):
            self._dead = True
        if how == "death before":
            raise Died
        if how in ("ENOSPC", "EIO") and name not in ("save_file", "close"):
            raise OSError(getattr(errno, how), os.strerror(getattr(errno, how)), path)
        return how

    def _wrapped(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(path: Any, *arguments: Any, **options: Any) -> Any:
            where = self._place(path, options)
            if where is None:
                return real(path, *arguments, **options)
            reads = name == "open" and arguments[:1] and arguments[0] & os.O_NONBLOCK
            how = self._now("read" if reads else name, where)
            try:
                found = real(path, *arguments, **options)
                if name == "open":
                    self._handles[found] = where
            finally:
                if how.startswith("death"):
                    raise Died
            return found

        return operation

    def _place(self, path: Any, options: dict[str, Any]) -> str | None:
        if options.get("dir_fd") is not None:
            folder = self._handles.get(options["dir_fd"])
            return folder and os.path.join(folder, os.fspath(path))
        if isinstance(path, int):
            return self._handles.get(path)
        found = os.fspath(path)
        return found if isinstance(found, str) and found.startswith(self.folder) else None

    def _on_handle(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def operation(handle: int, *arguments: Any) -> Any:
            if handle not in self._handles:
                if self._dead:
                    raise Died
                return real(handle, *arguments)
            if name == "close":
                where = self._handles.pop(handle)
                real(handle)  # also of one that is dead: its handles are closed for it
            else:
                where = self._handles[handle]
            how = self._now(name, where)
            if name == "pwrite" and how in ("torn", "death in the middle"):
                arguments = (arguments[0][: len(arguments[0]) // 2], *arguments[1:])
            found = None if name == "close" else real(handle, *arguments)
            if how == "torn" or (name == "close" and how in ("ENOSPC", "EIO")):
                number = getattr(errno, how, errno.ENOSPC)
                raise OSError(number, os.strerror(number), where)
            if how.startswith("death"):
                raise Died
            return found

        return operation

    def _open(self, path: Path, mode: str, handle: Any) -> Any:
        if "a" not in mode or not str(path).startswith(self.folder):
            return handle
        plain = handle.write
        handle.write = lambda text: self._write("append", path, text, lambda _, part: (plain(part), handle.flush()))
        return handle

    def _write(self, name: str, path: Path, text: str, real: Callable[..., Any], **options: Any) -> None:
        if not str(path).startswith(self.folder):
            real(path, text, **options)
            return
        how = self._now(name, str(path))
        real(path, text[: len(text) // 2] if how in ("torn", "death in the middle") else text, **options)
        if how == "torn":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        if how:
            raise Died

    def _save_file(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def save_file(tensors: Any, path: Path, metadata: Any) -> None:
            how = self._now("save_file", str(path))
            if how in ("ENOSPC", "EIO"):
                raise SafetensorError(f"I/O error: {os.strerror(getattr(errno, how))}")
            real(tensors, path, metadata=metadata)
            if how in ("torn", "death in the middle"):
                with builtins.open(path, "r+b") as handle:
                    handle.truncate(handle.seek(0, io.SEEK_END) // 2)
            if how == "torn":
                raise SafetensorError(f"I/O error: {os.strerror(errno.ENOSPC)}")
            if how:
                raise Died

        return save_file
