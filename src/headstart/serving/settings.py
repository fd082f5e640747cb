"""What a server may be told, and what it refuses to do unprotected."""

from __future__ import annotations

import functools
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from headstart.data.table import LONGEST_CELL_CHARACTERS
from headstart.errors import ConfigError

TOKEN_VARIABLE = "HEADSTART_TOKEN"


class ServingSettings(BaseModel):
    """Limits and manners of a server."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8000, ge=0, le=65535, description="Port; 0 takes a free one.")
    token: SecretStr | None = Field(None, description="Bearer token that requests must carry.")
    max_body_bytes: int = Field(4 * 2**20, ge=1, description="Largest request body, in bytes.")
    max_texts: int = Field(1000, ge=1, description="Most texts in one request.")
    max_characters: int = Field(LONGEST_CELL_CHARACTERS, ge=1, description="Longest text, in characters.")
    max_waiting: int = Field(2000, ge=1, description="Most texts that wait; beyond it the answer is 503.")
    max_batch: int = Field(64, ge=1, description="Most texts computed at once.")
    workers: int | None = Field(
        None, ge=1, description="Processes that hold the models; by default one per core, 4 at most, as memory allows."
    )
    gather_seconds: float = Field(
        0.003, ge=0, le=1, description="How long a round waits for a further text, in seconds."
    )
    body_seconds: float = Field(30.0, gt=0, description="How long a client may take to send a body, in seconds.")
    poll_seconds: float = Field(5.0, gt=0, description="How often a registry's alias is looked up, in seconds.")
    log_texts: bool = Field(False, description="Write the texts of requests into the log.")

    @property
    def on_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)

    def check(self) -> ServingSettings:
        """Return the settings if they are safe and fit together.

        Raises:
            ConfigError: an address that others can reach and no token, or a queue smaller than one request.
        """
        faults = []
        if not self.on_loopback and self.token is None:
            faults.append(
                f"--host {self.host} lets other machines in, and there is no token: put one into a file and name it "
                f"with --token-file (or set {TOKEN_VARIABLE}), or serve on 127.0.0.1"
            )
        if self.max_waiting < self.max_texts:
            faults.append(
                f"--max-waiting {self.max_waiting} is smaller than --max-texts {self.max_texts}: "
                "the largest request allowed would never fit"
            )
        if faults:
            raise ConfigError(faults)
        return self


@functools.lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Say whether a host name or address means this machine only."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def read_token(file: str | None, environment: Mapping[str, str] = os.environ) -> SecretStr | None:
    """Return the token of a file, else of ``HEADSTART_TOKEN``, else None.

    Raises:
        ConfigError: the file cannot be read, or the token is empty or cannot stand in a header.
    """
    if file is None and TOKEN_VARIABLE not in environment:
        return None
    where = TOKEN_VARIABLE if file is None else f"--token-file {file}"
    try:
        token = environment[TOKEN_VARIABLE] if file is None else Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as problem:
        raise ConfigError(f"{where} cannot be read ({problem})") from problem
    token = token.strip()
    if not token:
        raise ConfigError(f"{where} is empty: put a long random token there, or leave it out")
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise ConfigError(f"{where}: a token is one word of ASCII letters, digits and signs")
    return SecretStr(token)
