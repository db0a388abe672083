from .checks import check_settings, refuse_unknown
from .device import available_devices, checked_device, default_device
from .errors import cause_of
from .literal import literal

__all__ = [
    "available_devices",
    "cause_of",
    "check_settings",
    "checked_device",
    "default_device",
    "literal",
    "refuse_unknown",
]
