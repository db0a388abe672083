from .package import export_package, run_export

__all__ = ["export_package", "run_export"]
