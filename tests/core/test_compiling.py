from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess

import pytest

from foretell.core import compiling
from foretell.core.compiling import loaded, shared_library


@pytest.fixture
def source(tmp_path, monkeypatch):
    assert any(map(shutil.which, ("cc", "gcc", "clang"))), "no C compiler on this machine"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiling, "_SAID", set())
    source = tmp_path / "seven.c"
    source.write_text("int seven(void) { return 7; }")
    return source


def test_a_library_is_compiled_once_and_again_when_its_source_changes(source):
    first = shared_library(source)
    assert ctypes.CDLL(str(first)).seven() == 7
    made = first.stat().st_mtime_ns
    assert shared_library(source) == first
    assert first.stat().st_mtime_ns == made
    source.write_text("int seven(void) { return 8; }")
    second = shared_library(source)
    assert second != first
    assert ctypes.CDLL(str(second)).seven() == 8


def test_what_does_not_compile_is_said_with_the_compilers_reason(source):
    source.write_text("int seven(void) { return eight; }")
    with (
        pytest.warns(UserWarning, match=r"seven\.c cannot be compiled and kept \(.*eight.*FORETELL_NATIVE=0"),
        pytest.raises(subprocess.CalledProcessError),
    ):
        shared_library(source)
    assert loaded(source) is None  # for the reason that was said


def test_a_cache_folder_that_others_may_write_to_is_said(source, tmp_path):
    (tmp_path / "cache" / "foretell").mkdir(parents=True)
    os.chmod(tmp_path / "cache" / "foretell", 0o777)
    with pytest.warns(UserWarning, match="can be written by others"), pytest.raises(PermissionError):
        shared_library(source)


def test_only_this_user_may_write_what_is_loaded_whatever_the_umask(source, tmp_path):
    (tmp_path / "cache").mkdir(0o755)
    before = os.umask(0)
    try:
        library = shared_library(source)
    finally:
        os.umask(before)
    assert [one.stat().st_mode & 0o777 for one in (library, library.parent)] == [0o700, 0o700]


def test_the_folder_above_is_not_made_for_others_to_write_to(source, tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    before = os.umask(0)
    try:
        shared_library(source)
    finally:
        os.umask(before)
    assert (tmp_path / ".cache").stat().st_mode & 0o777 == 0o700


def test_a_library_that_others_could_write_is_made_again(source):
    """The checksum at its end is anybody's to compute."""
    library = shared_library(source)
    whole = library.read_bytes()
    other = b"another's program"
    library.write_bytes(other + hashlib.sha256(other).digest())
    library.chmod(0o770)
    assert loaded(source).seven() == 7
    assert library.read_bytes() == whole
    assert library.stat().st_mode & 0o777 == 0o700


def test_a_library_that_is_no_file_is_not_waited_for(source):
    library = shared_library(source)
    library.unlink()
    os.mkfifo(library)
    with pytest.warns(UserWarning, match="not a regular file"):
        assert loaded(source) is None


def test_nothing_is_compiled_or_said_where_it_is_switched_off(source, monkeypatch, recwarn):
    monkeypatch.setenv("FORETELL_NATIVE", "0")
    source.write_text("this is no C")
    assert shared_library(source) is None
    assert not recwarn


@pytest.mark.parametrize("left", [0, 100, 5000])
def test_a_library_that_was_cut_short_is_made_again(source, left):
    """A machine that went down while it was written; loaded, it would end the process."""
    library = shared_library(source)
    whole = library.read_bytes()
    library.write_bytes(whole[:left])
    assert loaded(source).seven() == 7
    assert library.read_bytes() == whole


def test_what_the_system_will_not_load_is_said(source):
    """Where programs are forbidden, on a file system mounted noexec."""
    library = shared_library(source)
    content = b"no program"
    library.write_bytes(content + hashlib.sha256(content).digest())
    with pytest.warns(UserWarning, match=r"seven\.c cannot be loaded .*FORETELL_NATIVE=0"):
        assert loaded(source) is None


def test_a_user_without_a_home_is_told_what_to_set(source, monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(compiling.Path, "home", nowhere)
    with pytest.warns(UserWarning, match="set HOME or XDG_CACHE_HOME"), pytest.raises(OSError):
        shared_library(source)


def _compiler(folder, monkeypatch, text):
    folder.mkdir()
    (folder / "cc").write_text(f"#!/bin/sh\n{text}\n")
    (folder / "cc").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)


def test_a_compiler_that_does_not_answer_is_asked_and_told_of_once(source, tmp_path, monkeypatch, recwarn):
    _compiler(tmp_path / "bin", monkeypatch, f"echo >> {tmp_path / 'asked'}; exec sleep 100")
    monkeypatch.setattr(compiling, "ANSWER_SECONDS", 0.2)
    another = shutil.copy(source, tmp_path / "another.c")
    assert loaded(source) is loaded(another) is compiling.compiler_name() is None
    assert (tmp_path / "asked").read_text() == "\n"
    assert [str(one.message)[:7] for one in recwarn] == ["seven.c"]


def test_the_linker_s_reason_comes_before_the_compiler_s(source, tmp_path, monkeypatch):
    said = "ld: final link failed: No space left on device\ncollect2: error: ld returned 1 exit status"
    _compiler(tmp_path / "bin", monkeypatch, f"[ $1 = --version ] && exit; echo '{said}' >&2; exit 1")
    with pytest.warns(UserWarning, match=r"No space left on device\)"):
        assert loaded(source) is None


def test_the_compiler_is_named_in_its_own_words(tmp_path, monkeypatch):
    _compiler(tmp_path / "bin", monkeypatch, "echo 'cc (mine) 1.2'; echo more")
    assert compiling.compiler_name() == "cc (mine) 1.2"
    monkeypatch.setenv("FORETELL_NATIVE", "0")
    assert compiling.compiler_name() is None
