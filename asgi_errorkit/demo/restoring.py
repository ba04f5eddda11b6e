"""A film that is unpacked in memory, as far as there is room: what the demo's worker grows by."""

import zlib

import numpy as np

from asgi_errorkit import ErrorType, PublicError

__all__ = ["FRAMES_BYTES", "MOST_BYTES", "RAW", "Reel", "packed_frames"]

MOST_BYTES = 150 * 2**20
FRAMES_BYTES = 10 * 2**20
_AT_ONCE_BYTES = 2**20  # of larger pieces each thread's heap would keep some tens of MB for itself
RAW = -zlib.MAX_WBITS  # without a checksum at the end


class Reel:
    """Takes a raw deflate stream piece by piece and keeps what comes out of it; one thread at a time.

    Of what is longer than 150 MB it raises PublicError.
    """

    def __init__(self) -> None:
        self.size = 0
        # One piece of memory that is real only where it was written, and goes back whole.
        self._frames = np.empty(MOST_BYTES, dtype=np.uint8)
        self._unpacking = zlib.decompressobj(RAW)

    def take(self, piece: bytes) -> None:
        """Unpack a piece. Raises zlib.error for what is no such stream."""
        frames = None
        while piece or frames is None or len(frames) == _AT_ONCE_BYTES:  # then there may be more
            frames = self._unpacking.decompress(piece, _AT_ONCE_BYTES)
            piece = self._unpacking.unconsumed_tail
            until = self.size + len(frames)
            if until > MOST_BYTES:
                raise PublicError("This film is too long.", error_type=ErrorType.VALIDATION)
            self._frames[self.size : until] = np.frombuffer(frames, dtype=np.uint8)
            self.size = until


def packed_frames() -> list[bytes]:
    """A film of 150 MB, packed, in pieces of 10 MB each."""
    packing = zlib.compressobj(1, wbits=RAW)
    piece = packing.compress(bytes(FRAMES_BYTES)) + packing.flush(zlib.Z_FULL_FLUSH)
    return [piece] * (MOST_BYTES // FRAMES_BYTES)  # after a full flush one does not need another
