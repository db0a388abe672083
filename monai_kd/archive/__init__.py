from .command import run_archive
from .plan import Plan, is_done, make_plan, read_plan
from .shard import ShardFiles, run_shard

__all__ = ["Plan", "ShardFiles", "is_done", "make_plan", "read_plan", "run_archive", "run_shard"]
