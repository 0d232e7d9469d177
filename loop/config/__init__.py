"""The recipe: sparse commented YAML by hand -> one frozen, fully resolved object -> JSON.

Every key has its meaning here and nowhere else; `recipe_file.py` reads the YAML, `schema.py` says
which keys there are.
"""

from ouroloop.loop.config.base import Extension, Section
from ouroloop.loop.config.clusters import ClusterConfig
from ouroloop.loop.config.engine import EngineConfig
from ouroloop.loop.config.judge import JudgeConfig
from ouroloop.loop.config.monitoring import (
    InterventionConfig,
    MonitorConfig,
    ProbeConfig,
    TrackingConfig,
)
from ouroloop.loop.config.preference import PairsConfig, StageConfig
from ouroloop.loop.config.ray import RayConfig
from ouroloop.loop.config.reasoning import ReasoningConfig
from ouroloop.loop.config.recipe import Recipe
from ouroloop.loop.config.sampling import RefineConfig, SamplingConfig
from ouroloop.loop.config.selection import DatasetConfig, FilterConfig
from ouroloop.loop.config.servers import ServersConfig
from ouroloop.loop.config.storage import StorageConfig
from ouroloop.loop.config.students import StudentsConfig
from ouroloop.loop.config.supervision import SupervisionConfig
from ouroloop.loop.config.task import TaskConfig
from ouroloop.loop.config.warm_start import WarmStartConfig

__all__ = [
    "ClusterConfig",
    "DatasetConfig",
    "EngineConfig",
    "Extension",
    "FilterConfig",
    "InterventionConfig",
    "JudgeConfig",
    "MonitorConfig",
    "PairsConfig",
    "ProbeConfig",
    "RayConfig",
    "ReasoningConfig",
    "Recipe",
    "RefineConfig",
    "SamplingConfig",
    "Section",
    "ServersConfig",
    "StageConfig",
    "StorageConfig",
    "StudentsConfig",
    "SupervisionConfig",
    "TaskConfig",
    "TrackingConfig",
    "WarmStartConfig",
]
