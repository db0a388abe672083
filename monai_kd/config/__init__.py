from .checks import CHECKED, check_overrides, check_settings, refuse_unknown, unused_ids
from .definition import UntrustedNetwork, build_network, definition_of, without_pretrained
from .device import available_devices, checked_device, default_device
from .errors import cause_of, heed_interrupts, install_short_errors
from .literal import literal
from .memory import keep_freed_memory
from .targets import check_targets
from .threads import choose_threads

__all__ = [
    "CHECKED",
    "UntrustedNetwork",
    "available_devices",
    "build_network",
    "cause_of",
    "check_overrides",
    "check_settings",
    "check_targets",
    "checked_device",
    "choose_threads",
    "default_device",
    "definition_of",
    "heed_interrupts",
    "install_short_errors",
    "keep_freed_memory",
    "literal",
    "refuse_unknown",
    "unused_ids",
    "without_pretrained",
]
