#!/usr/bin/env bash
# Runs of the study on a machine that is lent for minutes, has no connection, and takes and gives files alone.
#
#   docs/experiments/gpu.sh pack DATA FOLDER [SIDE]
#       Before: pack a data set folder and the installed pretrained weights into FOLDER, as files of at most 30 MB each
#       that can travel one by one. Images are stored with SIDE pixels (256), 8 bit, lossless.
#   docs/experiments/gpu.sh run FOLDER OUT MINUTES TASK NETWORK HOW [name=value ...]
#       There: unpack FOLDER where that has not been done, put back the runs that lie in FOLDER/runs, train and evaluate
#       until MINUTES are over, and leave in OUT results.tar.gz (settings, logs and evaluations) and the network in half
#       precision, in parts of 15 MB (NAME.pt.000, ...). Unpacking and collecting take a minute more. Exit code 75: not
#       complete. The same command continues while FOLDER/unpacked stays on that machine; what comes back is enough to
#       evaluate and to teach, not to continue.
#   docs/experiments/gpu.sh plan FOLDER OUT MINUTES FILE [PATTERN ...]
#       As `run`, for the runs of FILE (one a line, as the arguments of `run`; # begins a comment), all side by side: one
#       of them keeps a GPU busy for a fraction of the time. A student waits for its teacher. Where NVIDIA's MPS is
#       installed, the processes share the GPU by it. Only networks whose name fits a PATTERN come back, such as
#       'seg_lite0_*'.
#   docs/experiments/gpu.sh fetch OUT FOLDER
#       After: put the networks that came back into FOLDER/runs, for the next `run`, and for study.py with
#       runs=FOLDER/runs; the tables of all runs into FOLDER/results.
#
# Arguments of `run` are those of study.py without `data`, `runs` and `minutes`. Give workers=2, so that slices are
# prepared while the GPU works.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
exec python "$here/gpu_files.py" "$here" "$@"
