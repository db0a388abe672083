"""Parameters, multiply-accumulates and milliseconds per slice of the network of a bundle.

python docs/experiments/speed.py bundles/seg_student runs/none/model.pt
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch
from monai.bundle import ConfigParser
from torch.utils.benchmark import Timer
from torch.utils.flop_counter import FlopCounterMode

from monai_kd.config.errors import one_line_errors
from monai_kd.engines import autocast
from monai_kd.io.checkpoints import load_weights


@one_line_errors
def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--batch_size", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    config = ConfigParser()
    config.read_config(given.bundle / "configs" / "inference.json")
    config["bundle_root"], config["checkpoint"] = str(given.bundle), str(given.checkpoint)
    network = load_weights(config.get_parsed_content("network_def"), given.checkpoint).eval().to(given.device)
    network = network.to(memory_format=torch.channels_last)
    trained = config.get_parsed_content("trained")
    size, channels = trained["image_size"], trained["in_channels"]
    image = torch.rand(given.batch_size, channels, size, size, device=given.device)
    image = image.to(memory_format=torch.channels_last)
    parameters = sum(weight.numel() for weight in network.parameters())
    with torch.no_grad():
        with FlopCounterMode(display=False) as counter:
            network(image[:1])
        print(f"{parameters / 1e6:.2f} M parameters, {counter.get_total_flops() / 2e9:.2f} GMACs at {size} × {size}")
        for amp in (False, True):
            with autocast(given.device, amp):
                timer = Timer(
                    "network(image)", globals={"network": network, "image": image}, num_threads=torch.get_num_threads()
                )
                measured = timer.adaptive_autorange(min_run_time=2)
            name = "mixed precision" if amp else "float32"
            print(f"{1000 * measured.median / given.batch_size:.1f} ms per slice, {name}, batch of {given.batch_size}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
