"""Knowledge distillation for medical imaging, native to MONAI."""

__version__ = "0.1.0"
