"""API keys: who may do what, and how much. Only a digest of a key is kept; the key itself is shown once.

A key has 256 random bits, so a plain SHA-256 is enough: there is nothing to guess, as there is with a password.
"""

import hashlib
import hmac
import secrets
import sqlite3
import time
from dataclasses import dataclass
from enum import StrEnum

from geounet.service.database import Database
from geounet.service.errors import BadRequestError, NotFoundError
from geounet.service.uploads import Share

_PREFIX = "gun"


class Scope(StrEnum):
    """What a key may do: read its own things, submit scenes and jobs and delete them, see and do everything."""

    READ = "read"
    SUBMIT = "submit"
    ADMIN = "admin"


@dataclass(frozen=True)
class Key:
    """A key without its secret. `id` owns what the key makes; None in `max_open_jobs` is no limit."""

    id: str
    name: str
    scopes: frozenset[Scope]
    share: Share
    max_open_jobs: int | None
    created: float


class KeyRing:
    """The keys of one service."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def create(
        self,
        name: str,
        scopes: frozenset[Scope],
        *,
        max_bytes: int | None = None,
        max_pixels: int | None = None,
        max_open_jobs: int | None = None,
    ) -> tuple[Key, str]:
        """Make a key; returns it and the text that its holder sends, which is kept nowhere."""
        if not scopes:
            raise BadRequestError("a key needs at least one scope: read, submit, admin", "scopes")
        key = Key(secrets.token_hex(6), name, scopes, Share(max_bytes, max_pixels), max_open_jobs, time.time())
        secret = secrets.token_urlsafe(32)
        with self.database.write() as db:
            db.execute(
                "INSERT INTO keys VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    key.id,
                    name,
                    _digest(secret),
                    " ".join(sorted(scopes)),
                    key.created,
                    max_bytes,
                    max_pixels,
                    max_open_jobs,
                ),
            )
        return key, f"{_PREFIX}_{key.id}_{secret}"

    def find(self, text: str) -> Key | None:
        """The key that this text is, None if there is none. The secret is compared in constant time."""
        prefix, _, rest = text.partition("_")
        key_id, _, secret = rest.partition("_")
        row = self.database.one("SELECT * FROM keys WHERE id = ?", key_id[:64]) if key_id.isascii() else None
        known = row["hash"] if row is not None else _digest("")
        same = hmac.compare_digest(known, _digest(secret))
        return _key(row) if row is not None and same and prefix == _PREFIX else None

    def all(self) -> list[Key]:
        """Every key, the oldest first."""
        return [_key(row) for row in self.database.all("SELECT * FROM keys ORDER BY created")]

    def revoke(self, key_id: str) -> None:
        """Forget a key; what it made stays, for an admin to see. Raises NotFoundError."""
        with self.database.write() as db:
            if db.execute("DELETE FROM keys WHERE id = ?", (key_id,)).rowcount == 0:
                raise NotFoundError(f"there is no key '{key_id}'")


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def _key(row: sqlite3.Row) -> Key:
    return Key(
        row["id"],
        row["name"],
        frozenset(Scope(s) for s in row["scopes"].split()),
        Share(row["max_bytes"], row["max_pixels"]),
        row["max_open_jobs"],
        row["created"],
    )
