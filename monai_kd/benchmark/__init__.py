from .command import run_benchmark
from .options import Options
from .row import Row
from .timing import interleaved

__all__ = ["Options", "Row", "interleaved", "run_benchmark"]
