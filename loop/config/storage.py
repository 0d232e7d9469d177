"""Where else a run is kept."""

from __future__ import annotations

from pydantic import Field

from ouroloop.loop.config.base import Section


class StorageConfig(Section):
    """A second place for what is committed, on storage that other hosts reach.

    It changes no result, so a run may be resumed with another one.
    """

    url: str | None = Field(
        None,
        pattern=r"^[A-Za-z][A-Za-z0-9+.-]*://\S*[^/\s]\S*$",
        description=(
            "a folder that fsspec knows, e.g. s3://bucket/runs or file:///shared/runs: every"
            " commit is copied to URL/NAME, and `ouroloop resume URL/NAME` goes on from there on"
            " any host; null: nowhere"
        ),
    )
