"""Holds a file so that what is judged is what is read: its real place, kind and mount.

Everything is asked of the descriptor, never of the path again. On Linux the file is first held
without being opened (`O_PATH`): a device, a FIFO or a file elsewhere is recognised before any
driver or writer could notice. What cannot be found out counts as not allowed.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO, Final, Literal

Mount = Literal["local", "network", "system"]

# WSL and container engines show this computer's own folders through 9p, virtiofs and the like, so
# those count as local.
_NETWORK: Final = frozenset((
    "nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ncpfs", "afs", "coda", "ceph", "davfs",
    "lustre", "gfs", "gfs2", "ocfs2", "beegfs", "orangefs", "pvfs2", "gpfs", "glusterfs", "sshfs",
    "s3fs",
))  # fmt: skip
# A FUSE file system may be anything; these are drives of this computer.
_LOCAL_FUSE: Final = frozenset((
    "fuseblk", "fuse.ntfs", "fuse.ntfs-3g", "fuse.exfat", "fuse.grpcfuse", "fuse.osxfs",
    "fuse.bindfs", "fuse.mergerfs", "fuse.overlayfs", "fuse.fuse-overlayfs", "fuse.encfs",
    "fuse.gocryptfs", "fuse.cryfs", "fuse.ecryptfs", "fuse.lxcfs", "fuse.portal", "fuse.zfs",
    "fuse.apfs", "fuse.apfs-fuse", "fuse.unionfs", "fuse.mhddfs", "fuse.vmhgfs-fuse",
    "fuse.squashfuse",
))  # fmt: skip
_SYSTEM: Final = frozenset((
    "proc", "sysfs", "cgroup", "cgroup2", "devpts", "debugfs", "tracefs", "securityfs",
    "configfs", "fusectl", "mqueue", "bpf", "pstore", "efivarfs", "binfmt_misc", "autofs",
    "rpc_pipefs", "nsfs", "selinuxfs", "hugetlbfs",
))  # fmt: skip


class CannotJudge(OSError):
    """This system does not say where an opened file is."""


@dataclass(frozen=True)
class Held:
    """A file, held by a descriptor."""

    descriptor: int
    path: str
    """Where it really is, symlinks resolved."""
    status: os.stat_result

    @property
    def is_file(self) -> bool:
        return stat.S_ISREG(self.status.st_mode)

    @property
    def is_folder(self) -> bool:
        return stat.S_ISDIR(self.status.st_mode)

    @property
    def is_gone(self) -> bool:
        """Whether no name is left, so that `path` is only where it used to be."""
        return self.status.st_nlink == 0

    @property
    def mount(self) -> Mount:
        return _mount(self)

    @contextmanager
    def opened(self) -> Iterator[BinaryIO]:
        """This very file, to be read.

        Raises:
            OSError: It cannot be read, or is no longer the file that was judged.
        """
        descriptor = _for_reading(self)
        with os.fdopen(descriptor, "rb", closefd=descriptor != self.descriptor) as file:
            now = os.fstat(file.fileno())
            if (now.st_dev, now.st_ino) != (self.status.st_dev, self.status.st_ino):
                raise CannotJudge("not the file that was judged")
            yield file

    def read(self, most: int) -> bytes:
        """Up to `most` bytes of it.

        Raises:
            OSError: As `opened`.
        """
        with self.opened() as file:
            return file.read(min(most, os.fstat(file.fileno()).st_size + 1))


@contextmanager
def hold(path: str) -> Iterator[Held]:
    """Hold what is at a path, following symlinks, without waiting for anything.

    Raises:
        OSError: There is nothing, or it may not be reached.
    """
    descriptor = os.open(path, _FLAGS)
    try:
        yield Held(descriptor, _path_of(descriptor), os.fstat(descriptor))
    finally:
        os.close(descriptor)


def real_folder(path: str) -> str | None:
    """Where a folder really is, spelt as `Held.path` would be; None when there is none."""
    try:
        if sys.platform == "win32":  # which does not open folders
            real = os.path.realpath(path, strict=True)
            return real if os.path.isdir(real) else None  # noqa: PTH112 - text
        with hold(path) as held:
            return held.path if held.is_folder else None
    except (OSError, ValueError):
        return None


def is_marked_hidden(path: str) -> bool:
    """Whether Windows or macOS hides it without a dot in its name, as `AppData` and `Library`."""
    try:
        status = os.lstat(path)
    except OSError:
        return False
    by_windows = getattr(status, "st_file_attributes", 0) & stat.FILE_ATTRIBUTE_HIDDEN
    by_macos = getattr(status, "st_flags", 0) & stat.UF_HIDDEN
    return bool(by_windows or by_macos)


# --- what each system calls it --------------------------------------------------------------

if sys.platform == "linux":
    _FLAGS: Final = os.O_PATH | os.O_CLOEXEC
    _OCTAL: Final = re.compile(r"\\([0-7]{3})")

    def _unescaped(found: re.Match[str]) -> str:
        return chr(int(found.group(1), 8))

    def _path_of(descriptor: int) -> str:
        path = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115 - text
        if not path.startswith("/"):  # pipe:[1], (unreachable)/…
            raise CannotJudge("nowhere in the file system")
        return path

    def _for_reading(held: Held) -> int:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
        return os.open(f"/proc/self/fd/{held.descriptor}", flags)

    def _mount(held: Held) -> Mount:
        return mount_of(mounted_as(held, _mount_id(held.descriptor)))

    def mount_of(kind: str) -> Mount:
        """What a file system type means."""
        if kind in _SYSTEM:
            return "system"
        is_fuse = kind.startswith("fuse") and kind not in _LOCAL_FUSE
        return "network" if is_fuse or kind in _NETWORK else "local"

    def mounted_as(held: Held, number: str | None) -> str:
        """The type of the mount: by its id, or (where that is not told) by its place."""
        best, kind = -1, ""
        with open("/proc/self/mountinfo", "rb") as table:  # noqa: PTH123 - not a file of anybody's
            for line in table:
                left, _, right = line.decode("utf-8", "surrogateescape").partition(" - ")
                fields, found = left.split(" "), right.split(" ", 1)[0]
                if fields[0] == number:
                    return found
                point = _OCTAL.sub(_unescaped, fields[4]).rstrip("/") + "/"
                if len(point) >= best and f"{held.path}/".startswith(point):
                    best, kind = len(point), found
        if not kind:
            raise CannotJudge("on no known mount")
        return kind

    def _mount_id(descriptor: int) -> str | None:
        with open(f"/proc/self/fdinfo/{descriptor}", encoding="ascii") as facts:  # noqa: PTH123
            for line in facts:
                if line.startswith("mnt_id:"):
                    return line.split()[1]
        return None

elif sys.platform == "darwin":
    import ctypes
    import fcntl

    _FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
    _F_GETPATH: Final = 50
    _MNT_LOCAL: Final = 0x1000

    def _path_of(descriptor: int) -> str:
        return os.fsdecode(fcntl.fcntl(descriptor, _F_GETPATH, bytes(1024)).split(b"\0")[0])

    def _for_reading(held: Held) -> int:
        return held.descriptor

    def _mount(held: Held) -> Mount:
        library = ctypes.CDLL(None, use_errno=True)
        # The symbol of the structure with 64-bit inodes, which is the only one on Apple silicon.
        fstatfs = getattr(library, "fstatfs$INODE64", None) or library.fstatfs
        answer = ctypes.create_string_buffer(4096)
        if fstatfs(held.descriptor, answer) != 0:
            raise CannotJudge("the mount is not told")
        flags = int.from_bytes(answer.raw[64:68], sys.byteorder)
        if answer.raw[72:88].split(b"\0")[0] in (b"devfs", b"autofs"):
            return "system"
        return "local" if flags & _MNT_LOCAL else "network"

elif sys.platform == "win32":
    import ctypes
    import msvcrt

    _FLAGS: Final = os.O_RDONLY | os.O_BINARY | os.O_NOINHERIT

    def _path_of(descriptor: int) -> str:
        ask = ctypes.WinDLL("kernel32", use_last_error=True).GetFinalPathNameByHandleW
        ask.argtypes = [ctypes.c_void_p, ctypes.c_wchar_p, ctypes.c_uint32, ctypes.c_uint32]
        ask.restype = ctypes.c_uint32
        answer = ctypes.create_unicode_buffer(32_768)
        length = ask(msvcrt.get_osfhandle(descriptor), answer, len(answer), 0)
        if not 0 < length < len(answer):
            raise CannotJudge("the path of the file is not told")
        path = answer.value
        is_drive = path.startswith("\\\\?\\") and not path.startswith("\\\\?\\UNC\\")
        return path[4:] if is_drive else path  # \\?\UNC\server stays, and is in no folder

    def _for_reading(held: Held) -> int:
        return held.descriptor

    def _mount(held: Held) -> Mount:
        return "network" if held.path.startswith("\\\\") else "local"

else:
    _FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC

    def _path_of(descriptor: int) -> str:
        raise CannotJudge(f"{sys.platform} does not say where file {descriptor} is")

    def _for_reading(held: Held) -> int:
        return held.descriptor

    def _mount(held: Held) -> Mount:
        raise CannotJudge(f"{sys.platform} does not say where {held.path} is mounted")
