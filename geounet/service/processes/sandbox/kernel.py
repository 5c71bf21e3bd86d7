"""A sandbox that the kernel keeps around a process that opens what strangers sent.

Landlock for files (Linux 5.13), a seccomp filter for sockets and programs (Linux 3.17), a network namespace where one
may be made. Each holds for good and for every child; none needs a privilege. A process calls `enter` once, before it
starts threads and before it opens anything that came from outside. Where the kernel lacks a layer the others still
hold, and `Held` says so.

Written against landlock(7), seccomp(2) and the kernel's headers; numbers are those of x86-64 and AArch64.
"""

import contextlib
import ctypes
import errno
import json
import os
import platform
import struct
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from geounet.errors import GeounetError

Mode = Literal["auto", "require", "off"]

_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP = 38, 22
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF, _SECCOMP = 444, 445, 446, {"x86_64": 317, "aarch64": 277}
_FILTER_FLAG_TSYNC = 1
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000

_READ_FILE, _READ_DIR = 1 << 2, 1 << 3
_RIGHTS = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
"""All rights to files that a version of Landlock knows; later versions know those of 5."""
_FILE_RIGHTS = 1 | 1 << 1 | _READ_FILE | 1 << 14 | 1 << 15
_EXECUTE = 1
_NET_RIGHTS, _SCOPES = 0b11, 0b11

_SOCKETS = {
    "x86_64": (41, 42, 43, 44, 46, 49, 50, 53, 288, 307),
    "aarch64": (198, 199, 200, 201, 202, 203, 206, 211, 242, 269),
}
"""socket, socketpair, connect, accept, bind, listen, sending to an address."""
_DOORS = {
    "x86_64": (
        *(101, 310, 311, 312, 438),  # other processes' memory and files: ptrace, process_vm_*, kcmp, pidfd_getfd
        *(165, 166, 155, 161, 428, 429, 430, 431, 432, 433, 442, 272, 308),  # mounts, roots, namespaces
        *(425, 426, 427, 321, 298, 323, 304, 303),  # io_uring, bpf, perf, userfaultfd, files by handle
        *(248, 249, 250, 246, 320, 175, 313, 169),  # keys, kernel modules, other kernels
    ),
    "aarch64": (
        *(117, 270, 271, 272, 438),
        *(40, 39, 51, 41, 428, 429, 430, 431, 432, 433, 442, 97, 268),
        *(425, 426, 427, 280, 241, 282, 265, 264),
        *(217, 218, 219, 104, 294, 105, 273, 142),
    ),
}
"""Calls that lead around a fence, or that only administrators need."""
_PROGRAMS = {"x86_64": (59, 322, 62, 200, 234, 424), "aarch64": (221, 281, 129, 130, 131, 424)}
"""execve, execveat; kill and its kin."""
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_X32 = 0x40000000


class SandboxError(GeounetError):
    """The sandbox is required and the kernel does not give it."""


@dataclass(frozen=True)
class Fence:
    """What a process may reach: folders and files to read, folders to write below and to list. No more of the disk.

    With `programs` it may start programs and signal them; they are behind the same fence.
    """

    mode: Mode = "auto"
    read: tuple[str, ...] = ()
    write: tuple[str, ...] = ()
    listed: tuple[str, ...] = ()
    programs: bool = False

    def as_record(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Held:
    """Which layers hold: the version of Landlock (0: none), the seccomp filter, a network namespace of its own."""

    landlock: int = 0
    seccomp: bool = False
    network: bool = False

    @property
    def enough(self) -> bool:
        """Files and sockets are both out of reach: what `require` asks for."""
        return self.landlock > 0 and self.seccomp

    def __str__(self) -> str:
        files = f"files by Landlock (version {self.landlock})" if self.landlock else "files NOT fenced (no Landlock)"
        calls = "sockets and programs by seccomp" if self.seccomp else "sockets and programs NOT fenced (no seccomp)"
        net = "a network namespace" if self.network else "no network namespace"
        return f"{files}, {calls}, {net}"


def enter(fence: Fence, layers: Iterable[str] = ("network", "landlock", "seccomp")) -> Held:
    """Fence the calling process for good, and all that it starts. Raises SandboxError where `require` is not met.

    Only the calling thread and what it starts is fenced by Landlock: call it before there is a second one.
    """
    if fence.mode == "off" or sys.platform != "linux":
        held = Held()
    else:
        chosen = set(layers)
        network = "network" in chosen and _leave_network()
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        landlock = _landlock(libc, fence) if "landlock" in chosen else 0
        held = Held(landlock, "seccomp" in chosen and _seccomp(libc, fence.programs), network)
    if fence.mode == "require" and not held.enough:
        raise SandboxError(f"GEOUNET_SERVICE_SANDBOX=require, but this kernel does not keep it: {held}")
    return held


def import_folders() -> tuple[str, ...]:
    """Folders that Python lists to find the project's packages, in a checkout that PYTHONPATH names."""
    return tuple(dict.fromkeys(str(Path(path).parent) for path in _packages()))


def runtime_paths() -> tuple[str, ...]:
    """What Python, its packages, GDAL and PROJ read while they run: code and shipped data, no settings, no home."""
    schemes = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    system = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/share/proj", "/usr/share/zoneinfo"]
    files = ["/etc/ld.so.cache", "/etc/localtime", "/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"]
    machine = ["/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/sys/vm", "/sys/devices/system/cpu"]
    data = [os.environ[name] for name in ("PROJ_DATA", "PROJ_LIB", "GDAL_DATA") if os.environ.get(name)]
    wanted = [*schemes, *_packages(), *system, *files, *machine, *data]
    return tuple(dict.fromkeys(path for path in wanted if path and Path(path).exists()))


def _packages() -> list[str]:
    found = [find_spec(name) for name in ("tiles", "geounet", "api")]
    return [place for spec in found if spec is not None for place in spec.submodule_search_locations or ()]


def probe(mode: Mode) -> Held:
    """What of the sandbox holds here, as a process of its own finds by trying. Raises SandboxError for `require`."""
    if mode == "off":
        return Held()
    done = subprocess.run(
        [sys.executable, "-m", "geounet.service.processes.sandbox.kernel"], capture_output=True, text=True, check=False
    )
    held = Held(**json.loads(done.stdout)) if done.returncode == 0 else Held()
    if mode == "require" and not held.enough:
        raise SandboxError(
            f"GEOUNET_SERVICE_SANDBOX=require, but this kernel does not keep it: {held}; run on Linux 5.13 or later "
            "with Landlock among its security modules, or set GEOUNET_SERVICE_SANDBOX=auto"
        )
    return held


def _leave_network() -> bool:
    """Move into an empty network namespace, with a user namespace where a privilege is lacking."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) == 0:
        return True
    user, group = os.geteuid(), os.getegid()
    if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
        return False
    with contextlib.suppress(OSError):  # unmapped ids lose nothing that reading one's own files needs
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    return True


def _landlock(libc: ctypes.CDLL, fence: Fence) -> int:
    """The version of Landlock that holds from now on, 0 for none."""
    version = libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        return 0
    rights = _RIGHTS[min(version, 5)]
    attributes = struct.pack("=QQQ", rights, _NET_RIGHTS if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, ctypes.c_char_p(attributes), ctypes.c_size_t(size), 0)
    if ruleset < 0:
        return 0
    try:
        for path in fence.read:
            _allow(libc, ruleset, path, _READ_FILE | _READ_DIR | (_EXECUTE if fence.programs else 0))
        for path in fence.listed:
            _allow(libc, ruleset, path, _READ_DIR)
        for path in fence.write:
            _allow(libc, ruleset, path, rights & ~_EXECUTE)
        return version if libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0 else 0
    finally:
        os.close(ruleset)


def _allow(libc: ctypes.CDLL, ruleset: int, path: str, rights: int) -> None:
    """Add a rule; a path that is not there needs none. Raises OSError."""
    try:
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        allowed = rights if Path(path).is_dir() else rights & _FILE_RIGHTS
        rule = struct.pack("=Qi", allowed, place)
        if libc.syscall(_ADD_RULE, ruleset, 1, ctypes.c_char_p(rule), 0) != 0:
            raise OSError(ctypes.get_errno(), f"no Landlock rule for {path}")
    finally:
        os.close(place)


def _seccomp(libc: ctypes.CDLL, programs: bool) -> bool:
    """Whether a filter holds from now on, in all threads, that answers EPERM to the calls that are denied."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES:
        return False
    denied = [*_SOCKETS[machine], *_DOORS[machine], *(() if programs else _PROGRAMS[machine])]
    program = _program(_ARCHITECTURES[machine], denied, x32=machine == "x86_64")
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=H6xQ", len(program) // 8, ctypes.addressof(buffer))
    return bool(libc.syscall(_SECCOMP[machine], 1, _FILTER_FLAG_TSYNC, ctypes.c_char_p(header)) == 0)


def _program(architecture: int, denied: Sequence[int], *, x32: bool) -> bytes:
    """A classic BPF program over `struct seccomp_data`: a foreign architecture dies, denied calls fail, others pass."""
    load, equal, at_least, leave = 0x20, 0x15, 0x35, 0x06
    kill, allow, fail = 0x80000000, 0x7FFF0000, 0x00050000 | errno.EPERM
    steps = [(load, 0, 0, 4), (equal, 1, 0, architecture), (leave, 0, 0, kill), (load, 0, 0, 0)]
    if x32:
        steps += [(at_least, 0, 1, _X32), (leave, 0, 0, fail)]
    for number in sorted(set(denied)):
        steps += [(equal, 0, 1, number), (leave, 0, 0, fail)]
    steps.append((leave, 0, 0, allow))
    return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _try() -> Held:
    """Enter, and count a layer only where it stops what it is for."""
    import socket

    held = enter(Fence("auto", runtime_paths()))
    files = sockets = False
    try:
        os.close(os.open("/", os.O_RDONLY))
    except PermissionError:
        files = True
    try:
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM).close()
    except PermissionError:
        sockets = True
    return Held(held.landlock if files else 0, held.seccomp and sockets, held.network)


if __name__ == "__main__":
    print(json.dumps(asdict(_try())))
