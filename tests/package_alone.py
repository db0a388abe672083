"""The program of an exported folder, without what it must not need."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from types import ModuleType

# As on a machine where none of these is installed.
ALONE = """
import runpy, sys
for name in ("torch", "monai", "nibabel", "scipy", "skimage", "monai_kd", "timm", "pydicom", "PIL"):
    sys.modules[name] = None
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])  # as Python does for a program
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def alone(package: Path, *arguments: str | Path) -> subprocess.CompletedProcess:
    """Run ``predict.py`` of a package."""
    command = [sys.executable, "-c", ALONE, package / "predict.py", *arguments]
    return subprocess.run([str(each) for each in command], capture_output=True, text=True)


def lines_and_imports(*modules: ModuleType) -> tuple[int, set[str]]:
    """Lines of all files, and what they import that Python itself does not have."""
    texts = [Path(str(module.__file__)).read_text() for module in modules]
    imported: set[str] = set()
    for node in (node for text in texts for node in ast.walk(ast.parse(text))):
        if isinstance(node, ast.Import):
            imported |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imported.add(node.module.split(".")[0])
    return sum(len(text.splitlines()) for text in texts), imported - set(sys.stdlib_module_names)
