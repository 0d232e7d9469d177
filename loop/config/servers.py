"""How servers of teachers and judges are asked."""

from __future__ import annotations

from pydantic import Field

from ouroloop.loop.config.base import Section


class ServersConfig(Section):
    """How OpenAI-compatible servers are asked, and how much they may leave unanswered."""

    timeout_seconds: float = Field(
        120.0, gt=0, description="a whole answer may take so long; then it is asked for again"
    )
    connect_seconds: float = Field(10.0, gt=0, description="a connection may take so long")
    attempts: int = Field(
        6, ge=1, description="times that a request is sent at most, before its sample is dropped"
    )
    retry_after_seconds: float = Field(
        60.0, ge=0, description="a pause that a server asks for (retry-after) is kept up to this"
    )
    set_aside_seconds: float = Field(
        30.0, ge=0, description="a server that failed three times in a row is not asked for so long"
    )
    concurrency: int = Field(64, ge=1, description="requests in flight at most, for each server")
    requests_per_minute: int | None = Field(
        None, ge=1, description="requests a minute at most, for each server; null: no limit"
    )
    tokens_per_minute: int | None = Field(
        None,
        ge=1,
        description=(
            "tokens of prompts and answers a minute at most, for each server; null: no limit."
            " Estimated before, corrected by what the server counted"
        ),
    )
    check_model: bool = Field(
        True,
        description=(
            "whether an answer that names another model than the one asked is refused; false for"
            " proxies that rename models"
        ),
    )
    max_dropped: float = Field(
        0.1,
        ge=0,
        le=1,
        description=(
            "share of a round's samples of one teacher (or of a judge's verdicts) that may be"
            " dropped because no server gave a usable answer; beyond it the run stops"
        ),
    )
