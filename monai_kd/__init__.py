"""Knowledge distillation for medical imaging, native to MONAI."""

__version__ = "0.2.0"  # the one place; setup.cfg reads it from here
