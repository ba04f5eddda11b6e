"""Which file systems several machines share: on those nobody can say whose process lives."""

import os
from pathlib import Path

__all__ = ["shared_type"]

# Not among them is 9p: a virtual machine has it of its own host, and gVisor for its root.
_SHARED = frozenset(
    """
    acfs afs beegfs ceph cifs coda fuse.ceph fuse.gcsfuse fuse.glusterfs fuse.juicefs fuse.rclone
    fuse.s3fs fuse.sshfs gfs2 glusterfs gpfs lustre ncpfs nfs nfs4 ocfs2 pvfs2 smb2 smb3 smbfs
    """.split()
)
_MOUNTS = Path("/proc/self/mountinfo")  # of Linux alone


def shared_type(device: int) -> str | None:
    """The type of the file system on a device (st_dev) if machines share it.

    None also where that cannot be told.
    """
    try:
        lines = _MOUNTS.read_bytes().splitlines()
        number = f"{os.major(device)}:{os.minor(device)}".encode()
    except (OSError, AttributeError):
        return None
    for line in lines:
        # proc(5): the device comes third, the type after a dash, behind fields of any number.
        head, _, tail = line.partition(b" - ")
        if head.split()[2:3] == [number] and tail:
            kind = tail.split()[0].decode("latin-1")
            return kind if kind in _SHARED else None
    return None
