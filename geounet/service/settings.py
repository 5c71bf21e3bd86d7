"""What an operator may set for the service; every field is also an environment variable `GEOUNET_SERVICE_...`."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

MEGA = 1_000_000
GIGA = 1_000_000_000

Count = Annotated[int, Field(gt=0)]
Span = Annotated[float, Field(gt=0)]


class ServiceSettings(BaseSettings):
    """Settings that the API and the worker share: where the data lies, and what a hostile scene may cost.

    Bytes are bytes, times are seconds unless the name says otherwise.
    """

    model_config = SettingsConfigDict(
        env_prefix="GEOUNET_SERVICE_", extra="ignore", frozen=True, use_attribute_docstrings=True
    )

    data: Path = Path("geounet-data")
    """Folder of everything the service keeps."""
    bundles: Path | None = None
    """A folder of further model bundles, one folder each."""
    model: str | None = None
    """The model for requests that name none; unset: the recommended one."""
    keep_days: Span | None = None
    """Scenes, jobs and maps older than this are removed; unset keeps them."""
    quota: Count | None = None
    """Bytes that scenes and maps together may take."""
    disk_reserve: Annotated[int, Field(ge=0)] = 2 * GIGA
    """Bytes of the disk that stay free."""

    upload_limit: Count = 50 * GIGA
    """Bytes of one uploaded scene."""
    predict_limit: Count = 64 * MEGA
    """Bytes of a scene sent to POST /predict."""
    scene_pixels: Count = 4 * GIGA
    """Pixels (rows times columns) of one scene."""
    scene_bytes: Count = 100 * GIGA
    """Decoded bytes of one scene: pixels times bands times bytes a value."""
    block_bytes: Count = 256 * MEGA
    """Decoded bytes of one block (TIFF tile or strip)."""
    blocks: Count = 20 * MEGA
    """Blocks of one image; bands that lie apart count apart."""
    directories: Count = 64
    """Images (IFDs) in one file: overviews and masks."""
    expansion: Count = 1_000
    """Decoded bytes for each byte of the file, of scenes over 1 GB."""
    inspect_seconds: Span = 20
    """Processor time that the header check may take."""
    ingest_seconds: Span = 3600
    """Processor time that decoding an upload may take."""
    keep_originals: bool = False
    """Keep the bytes of uploads beside what was decoded of them. They count, and are never opened again."""
    inspect_memory: Count = 4 * GIGA
    """Address space of a process that reads uploads for the API."""
    sandbox: Literal["auto", "require", "off"] = "auto"
    """The kernel's sandbox around processes that open uploads: as much as there is; all of it or no start; none."""
    max_polygons: Count = 5 * MEGA
    """Polygons of one map; beyond it the mapping unit is raised."""

    lease_seconds: Span = 30
    """How long a silent worker keeps its job."""
    job_hours: Span = 24
    """A job that runs longer is failed."""
    device: str = "auto"
    """Where networks run: auto, cpu, cuda, cuda:1, mps."""
    engine: str = "auto"
    """What runs them: auto, torch, openvino."""
