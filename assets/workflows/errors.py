"""What wrong ids, names and addresses are answered: StorageErrors that are ValueErrors too, as nodes expect."""

from __future__ import annotations

from storagecache.errors import ObjectNotFoundError, StorageError


class AssetNotFoundError(ObjectNotFoundError, ValueError):
    """No such asset of this user: absent, trashed, expired or another's, always with the same text."""

    @classmethod
    def of(cls, wanted: object) -> AssetNotFoundError:
        """Make the error of one id, name, key or reference, whose URL may be signed and is not shown."""
        return cls(f"Asset {getattr(wanted, 'asset_id', None) or wanted} not found")


class RefusedUriError(StorageError, ValueError):
    """An address that is not followed: no URI, of an unknown scheme, or leading where nodes may not go."""

    status = 400
