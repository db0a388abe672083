"""Several checkpoints as one: in every place where one of them can be."""

from __future__ import annotations

import json
import logging
import math
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from students import SIZE, classification_student, segmentation_student
from tiny import BUNDLES, NETWORKS, infer, prepare, rows, save, settings_of, train, untrained

from monai_kd.__main__ import main
from monai_kd.bundle import Teacher, describe_evaluation, trained_network, trained_settings
from monai_kd.bundle.ensemble import make_ensemble
from monai_kd.data import load_fold
from monai_kd.export import export_package
from monai_kd.io.checksum import file_sha256
from monai_kd.io.trained import is_of_head
from monai_kd.networks import Ensemble

TAPS = {f"d{level}": f"upcat_{level}" for level in (4, 3, 2, 1)}


def loaded(checkpoint: Path) -> torch.nn.Module:
    return trained_network(trained_settings(checkpoint), checkpoint).eval()


def bright_students(folder: Path) -> list[Path]:
    """Two of the same answer and other weights: a layer that adds nothing differs."""
    paths = [segmentation_student(folder / name) for name in "01"]
    state = torch.load(paths[1], weights_only=True)
    state["final_conv.weight"][0, 1] = 1
    torch.save(state, paths[1])
    return paths


@torch.no_grad()
@pytest.mark.parametrize("bundle", ["seg_student", "seg_teacher", "cls_student", "cls_teacher"])
def test_it_is_the_mean_of_the_networks_of_each_bundle(tmp_path, bundle):
    paths = [untrained(bundle, tmp_path / str(seed), seed) for seed in (0, 1, 2)]
    ensemble = loaded(make_ensemble(paths, tmp_path / "all"))
    assert isinstance(ensemble, Ensemble)
    probability = torch.sigmoid if bundle.startswith("seg") else lambda z: z.softmax(1)
    image = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    each = torch.stack([probability(loaded(path)(image)) for path in paths])
    assert (each.std(0) > 1e-5).any()
    torch.testing.assert_close(probability(ensemble(image)), each.mean(0))


@pytest.mark.parametrize("bundle", ["seg_student", "cls_student"])
def test_an_ensemble_of_ensembles_is_of_the_same_task(tmp_path, bundle):
    paths = [untrained(bundle, tmp_path / str(seed), seed) for seed in (0, 1)]
    for number in range(2):
        paths.append(make_ensemble(paths, tmp_path / f"all{number}"))
        # A bundle refuses weights of the other task.
        settings = trained_settings(paths[-1], BUNDLES / bundle)
        assert settings["network_def"]["activation"] == ("sigmoid" if bundle == "seg_student" else "softmax")
    assert ("mask_names" in settings_of(paths[-1].parent)) == (bundle == "seg_student")


def test_features_of_a_classifier_are_those_of_the_first(disc_dataset, tmp_path):
    vgg = {"name": "vgg11", "image_size": 32, "mlp_ratio": 1 / 32}
    definition = {**NETWORKS["cls_teacher"], "backbones": [vgg, vgg]}
    paths = [untrained("cls_teacher", tmp_path / str(seed), seed, network_def=definition) for seed in (0, 1)]
    teachers = make_ensemble([make_ensemble(paths, tmp_path / "two"), paths[0]], tmp_path / "three")
    teacher = Teacher(teachers, BUNDLES / "cls_teacher", tmp_path, {"dataset_dir": None, "fold": 0, "leave_out": []})
    path = "networks.0.networks.0." + loaded(paths[0]).last_convolution()
    assert teacher.taps(teacher.untrained(), ["msgff"]) == {"msgff": path}


def test_inference_and_the_exported_package_take_it(tmp_path):
    image = np.random.default_rng(0).random((SIZE, SIZE)).astype(np.float32)
    nib.save(nib.Nifti1Image(image[..., None], np.eye(4)), tmp_path / "slice.nii.gz")
    # Two that mark what is brighter than a half, and one that marks by other weights.
    paths = bright_students(tmp_path)
    paths.append(untrained("seg_student", tmp_path / "2", 0, mask_names=["tumour"]))
    ensemble = make_ensemble(paths, tmp_path / "all")
    masks = []
    for checkpoint in (paths[0], ensemble):
        folder = tmp_path / f"masks{len(masks)}"
        values = {"checkpoint": str(checkpoint), "input": str(tmp_path / "slice.nii.gz"), "output_dir": str(folder)}
        infer("seg_student", "inference", **values, smallest_extent_mm=0)
        (mask,) = folder.rglob("*_mask.nii.gz")
        masks.append(nib.load(mask).get_fdata())
    assert masks[0].any()
    assert not masks[0].all()
    # Two of three, as certain as they are, outvote the third.
    assert (masks[0] == masks[1]).mean() > 0.95
    package = tmp_path / "package"
    export_package(BUNDLES / "seg_student", ensemble, package)
    run = [sys.executable, package / "predict.py", tmp_path / "slice.nii.gz", "--output_dir", tmp_path / "packaged"]
    subprocess.run(run, check=True, capture_output=True)
    (mask,) = (tmp_path / "packaged").rglob("*_mask.nii.gz")
    np.testing.assert_array_equal(nib.load(mask).get_fdata().squeeze(), masks[1].squeeze())


def test_a_student_learns_from_it(disc_dataset, tmp_path, caplog):
    more = {"taps": {name: f"unet.{path}" for name, path in TAPS.items()}, "mask_names": ["tumour"]}
    known = {"dataset_dir": str(disc_dataset), "fold": 0, "leave_out": []}
    paths = [untrained("seg_teacher", tmp_path / str(seed), seed, **more, **known) for seed in (0, 1)]
    ensemble = make_ensemble(paths, tmp_path / "teachers")
    given = {"teacher_checkpoint": str(ensemble), "recipe": "kd_plus_plus", "epochs": 1, "workers": 0}
    given["teacher_overrides"] = {}
    with caplog.at_level(logging.WARNING):
        workflow = train("seg_student", disc_dataset, tmp_path / "run", **given)
    assert not [record for record in caplog.records if "teacher" in record.getMessage()]
    teacher = workflow.parser.get_parsed_content("distiller").teachers["teacher"]
    assert isinstance(teacher, Ensemble)
    assert rows(tmp_path / "run")[0]["loss/logit"] > 0
    assert rows(tmp_path / "run")[0]["loss/feature"] > 0
    recorded = settings_of(tmp_path / "run")["teacher"]
    assert recorded["fold"] == 0
    assert recorded["taps"] == {name: f"networks.0.unet.{path}" for name, path in TAPS.items()}


@pytest.mark.parametrize(
    ("folds", "wanted"),
    [
        ([(0, []), (0, [])], (0, [])),
        ([(0, [1]), (1, [0, 2])], (0, [1])),
        ([(2, [0, 1]), (1, [2, 0]), (0, [1, 2])], (0, [1, 2])),
        ([(0, []), (1, [])], (None, [])),
        ([(None, []), (0, [])], (None, [])),
        ([(None, [1, 2]), (1, [0])], (1, [])),
    ],
)
def test_a_fold_is_unseen_that_none_of_them_has_seen(disc_dataset, tmp_path, caplog, folds, wanted):
    known = {"dataset_dir": str(disc_dataset), "datalist_sha256": "0" * 64}
    paths = [
        untrained("seg_student", tmp_path / str(number), number, fold=fold, leave_out=leave_out, **known)
        for number, (fold, leave_out) in enumerate(folds)
    ]
    found = trained_settings(make_ensemble(paths, tmp_path / "all"))
    assert (found["fold"], found["leave_out"]) == wanted
    assert Path(found["dataset_dir"]).samefile(disc_dataset)
    assert ("no slice of their data is new to the ensemble" in caplog.text) == (wanted[0] is None)


def test_what_a_teacher_was_trained_on_is_not_unseen(tmp_path):
    own = {"datalist_sha256": "0" * 64, "fold": 0, "leave_out": [1]}
    others = [
        {**own, "teacher": {**own, "leave_out": []}},
        # Of other data: its folds are others.
        {**own, "teacher": {"datalist_sha256": "1" * 64, "fold": 2, "leave_out": []}},
    ]
    paths = [untrained("seg_student", tmp_path / str(draw), draw, **each) for draw, each in enumerate([own, *others])]
    found = trained_settings(make_ensemble(paths, tmp_path / "all"))
    assert (found["fold"], found["leave_out"]) == (0, [])


def test_slices_that_one_of_them_has_seen_are_named(disc_dataset, tmp_path, caplog):
    known = {"dataset_dir": str(disc_dataset), "leave_out": [], "mask_names": ["tumour"]}
    paths = [untrained("seg_student", tmp_path / str(fold), fold, fold=fold, **known) for fold in (0, 1)]
    checkpoint = str(make_ensemble(paths, tmp_path / "all"))
    caplog.clear()
    values = {"dataset_dir": str(disc_dataset), "checkpoint": checkpoint, "output_dir": str(tmp_path / "evaluation")}
    infer("seg_student", "evaluate", **values, fold=0, bootstrap=10)
    notes = json.loads((tmp_path / "evaluation" / "metrics.json").read_text())["notes"]
    assert any("4 of the 4 slices were TRAINED ON" in note for note in notes)
    train("seg_student", disc_dataset, tmp_path / "run", teacher_checkpoint=checkpoint, recipe="kd", epochs=1, fold=0)
    assert "The teacher was TRAINED ON the folds [0]" in caplog.text


def test_a_data_list_that_was_changed_since_is_the_same_in_its_folder(disc_dataset, tmp_path):
    known = {"dataset_dir": str(disc_dataset), "datalist_sha256": "0" * 64, "fold": 0}
    paths = [untrained("seg_student", tmp_path / str(draw), draw, **known) for draw in (0, 1)]
    checkpoint, data = make_ensemble(paths, tmp_path / "all"), load_fold(disc_dataset, 0, "validation")
    for path in (*paths, checkpoint):
        found = describe_evaluation(path, disc_dataset, data, "validation", 0, [], trained_settings(path), {})
        assert len(found["notes"]) == 1  # that the slices are synthetic


def test_data_sets_that_differ_are_not_known_to_it(disc_dataset, tmp_path, caplog):
    one = {"fold": 0, "dataset_dir": str(disc_dataset)}
    others = [{**one, "datalist_sha256": "a" * 64}, {"fold": 0, "dataset_dir": str(tmp_path)}, {"fold": 0}]
    for number, (first, second) in enumerate([(one, each) for each in others] + [(others[2], others[2])]):
        paths = [
            untrained("seg_student", tmp_path / f"{number}{draw}", draw, **known)
            for draw, known in enumerate((first, second))
        ]
        caplog.clear()
        found = trained_settings(make_ensemble(paths, tmp_path / f"all{number}"))
        assert found["dataset_dir"] is None
        assert found["fold"] is None
        assert "the ensemble has no fold of its own" in caplog.text


def test_its_settings_are_those_that_all_share(tmp_path):
    values = [
        {"mirror": [0], "labelled_share": 0.25, "synthetic": False, "recipe": "none", "operating_point": None},
        {"mirror": [0], "labelled_share": 0.5, "preset": "demo", "recipe": "kd_plus_plus", "seed": 3},
    ]
    paths = [untrained("seg_student", tmp_path / str(draw), draw, **each) for draw, each in enumerate(values)]
    found = settings_of(make_ensemble(paths, tmp_path / "two").parent)
    assert (found["mirror"], found["labelled_share"], found["synthetic"]) == ([0], 0.5, True)
    assert [each["recipe"] for each in found["ensemble_of"]] == ["none", "kd_plus_plus"]
    assert found["ensemble_of"][1]["seed"] == 3
    # Nothing else of the computer, and no path of it.
    assert str(tmp_path) not in json.dumps(found)
    plain = untrained("seg_student", tmp_path / "plain", 2)
    assert settings_of(make_ensemble([*paths, plain], tmp_path / "three").parent)["mirror"] == []


def test_networks_of_another_organ_are_of_it_together(tmp_path):
    paths = [untrained("seg_student", tmp_path / str(draw), draw, body_part="CHEST") for draw in range(2)]
    assert not is_of_head(settings_of(make_ensemble(paths, tmp_path / "both").parent))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"image_size": 64}, "have image_size 32 and 64"),
        ({"mean": [0.5, 0.5, 0.5]}, r"have mean \[0.485, 0.456, 0.406\] and \[0.5, 0.5, 0.5\]"),
        ({"body_part": "CHEST"}, "have body_part None and CHEST"),
        ({"class_names": ["a"], "mask_names": ["b"]}, r"have class_names \[\] and \['a'\]; mask_names"),
    ],
)
def test_networks_that_do_not_fit_are_refused(tmp_path, capsys, other, message):
    paths = [segmentation_student(tmp_path / "0"), segmentation_student(tmp_path / "1", **other)]
    with pytest.raises(ValueError, match=f"an ensemble has one input and one kind of output: .*0.model.pt.*{message}"):
        make_ensemble(paths, tmp_path / "all")
    assert main(["ensemble", *map(str, paths), str(tmp_path / "all")]) == 2
    assert capsys.readouterr().err.startswith("error: an ensemble has one input")
    assert not (tmp_path / "all").exists()


def test_one_clear_error(tmp_path, capsys):
    segments, classifies = segmentation_student(tmp_path / "seg"), classification_student(tmp_path / "cls")

    def error_of(*words: Path) -> str:
        assert main(["ensemble", *map(str, words)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    two_masks = {**NETWORKS["seg_student"], "out_channels": 2}
    other = untrained("seg_student", tmp_path / "other", 0, network_def=two_masks, mask_names=["tumour"])
    message = "has 2 output channels, but 1 by mask_names in settings.json beside it, ['tumour']: correct"
    assert f"{other} {message}" in error_of(segments, other, tmp_path / "all")
    unnamed = untrained("seg_student", tmp_path / "unnamed", 0, network_def=two_masks)
    assert f"{unnamed} {message}" in error_of(unnamed, segments, tmp_path / "all")
    nulled = untrained("seg_student", tmp_path / "nulled", 0, labelled_share=None)
    assert "labelled_share is None, which is not a valid value" in error_of(segments, nulled, tmp_path / "all")
    assert "is of a segmentation, and " in error_of(segments, classifies, tmp_path / "all")
    assert "an ensemble has two checkpoints or more" in error_of(segments, tmp_path / "all")
    assert "the last argument is a new folder" in error_of(segments, segments)
    grey = untrained("seg_student", tmp_path / "grey", 0, network_def={**NETWORKS["seg_student"], "in_channels": 1})
    said = error_of(segments, grey, tmp_path / "all")
    assert f"{grey} fails on a black image with in_channels 3 and image_size" in said
    assert "there is no checkpoint" in error_of(segments, tmp_path / "absent.pt", tmp_path / "all")
    assert "is not empty" in error_of(segments, segments, tmp_path / "cls")
    assert not (tmp_path / "all").exists()
    bare = tmp_path / "bare" / "model.pt"
    bare.parent.mkdir()
    bare.write_bytes(segments.read_bytes())
    assert "has no settings.json beside it" in error_of(segments, bare, tmp_path / "all")


def test_the_command_says_what_it_wrote(tmp_path, capsys):
    paths = bright_students(tmp_path)
    assert main(["ensemble", *map(str, paths), str(tmp_path / "all")]) == 0
    assert capsys.readouterr().out.strip() == f"{tmp_path / 'all' / 'model.pt'}: of 2 networks"


def test_each_network_is_given_once(tmp_path, capsys):
    one, other = (untrained("seg_student", tmp_path / str(draw), draw) for draw in (0, 1))
    (tmp_path / "link").symlink_to(one.parent)
    shutil.copytree(one.parent, tmp_path / "copy")
    for again in (one, tmp_path / "link" / "model.pt", tmp_path / "copy" / "model.pt"):
        assert main(["ensemble", *map(str, (one, other, again)), str(tmp_path / "all")]) == 2
        assert f"{one} and {again} are the same weights: give each network once." in capsys.readouterr().err
    assert not (tmp_path / "all").exists()


def test_a_network_of_ones_own(tmp_path, monkeypatch, capsys):
    arguments = {"in_channels": 3, "out_channels": 1, "kernel_size": 1}
    (tmp_path / "my_networks_of_an_ensemble.py").write_text("import torch\n\n\nclass Own(torch.nn.Conv2d):\n    pass\n")
    definition, paths = {"_target_": "my_networks_of_an_ensemble.Own", **arguments}, []
    for draw in (0, 1):
        state = {"weight": torch.full((1, 3, 1, 1), float(draw)), "bias": torch.zeros(1)}
        paths.append(save(tmp_path / str(draw), state, image_size=32, network_def=definition))
    assert main(["ensemble", *map(str, paths), str(tmp_path / "all")]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert f"{paths[0]}: my_networks_of_an_ensemble.Own is no network of" in error
    assert "name its module in the environment variable MONAI_KD_NETWORKS" in error
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("MONAI_KD_NETWORKS", "my_networks_of_an_ensemble")
    found = loaded(make_ensemble(paths, tmp_path / "all"))(torch.ones(1, 3, 4, 4))
    torch.testing.assert_close(found.sigmoid(), torch.full_like(found, (0.5 + 1 / (1 + math.exp(-3))) / 2))


@torch.no_grad()
def test_a_network_with_several_heads_counts_by_its_main_one(tmp_path):
    """MONAI's returns a list, the deepest and main head last."""
    definition = {"_target_": "BasicUNetPlusPlus", "spatial_dims": 2, "in_channels": 3, "out_channels": 1}
    definition |= {"features": [4, 4, 4, 4, 4, 4], "deep_supervision": True}
    paths = [untrained("seg_student", tmp_path / "0", network_def=definition), untrained("seg_student", tmp_path / "1")]
    ensemble, image = loaded(make_ensemble(paths, tmp_path / "all")), torch.rand(2, 3, 32, 32)
    heads = loaded(paths[0])(image)
    assert len(heads) == 4
    mean = (heads[-1].sigmoid() + loaded(paths[1])(image).sigmoid()) / 2
    torch.testing.assert_close(ensemble(image).sigmoid(), mean)


def test_settings_of_an_earlier_version_get_the_hash_of_their_weights(tmp_path, caplog):
    paths = [untrained("seg_student", tmp_path / str(draw), draw) for draw in (0, 1)]
    before = {name: value for name, value in settings_of(paths[0].parent).items() if name != "weights_sha256"}
    (paths[0].parent / "settings.json").write_text(json.dumps(before))
    found = settings_of(make_ensemble(paths, tmp_path / "all").parent)
    assert "has no hash of its weights, as written by earlier versions" in caplog.text
    assert [each["weights_sha256"] for each in found["ensemble_of"]] == list(map(file_sha256, paths))


def test_what_one_of_them_has_seen_is_told_whatever_the_others_were_trained_on(disc_dataset, tmp_path, caplog):
    """By evaluation and training, also where it is within another ensemble, and of a student that it taught."""
    here = {"datalist_sha256": file_sha256(disc_dataset / "datalist.json"), "leave_out": []}
    elsewhere, unknown = {"datalist_sha256": "a" * 64, "fold": 0}, {"fold": 1}
    taught = {**elsewhere, "teacher": {**here, "fold": 1}}
    kinds = [{**here, "fold": 1}, elsewhere, unknown, taught, {**here, "fold": 0}]
    seen, other, nothing, student, new = (
        untrained("seg_student", tmp_path / str(draw), draw, mask_names=["tumour"], **kind)
        for draw, kind in enumerate(kinds)
    )
    nested = make_ensemble([other, seen], tmp_path / "nested")
    trained_on, by_teacher = (
        "4 of the 4 slices were TRAINED ON",
        "was TRAINED ON 4 of the 4 slices: through the teacher",
    )
    also = "The checkpoint was also trained on another data set"
    unknown = "What one of its networks or more was trained on is not known"
    cases = [
        ([seen, other], {trained_on, also}),
        ([nothing, seen], {trained_on, unknown}),
        ([nested, nothing], {trained_on, also, unknown}),
        ([other, student], {by_teacher, "The checkpoint was trained on another data set"}),
        ([new, other], {also}),
        ([nothing, new], {unknown}),
    ]
    data = load_fold(disc_dataset, 0, "validation")
    for number, (paths, wanted) in enumerate(cases):
        checkpoint = make_ensemble(paths, tmp_path / f"all{number}")
        trained = trained_settings(checkpoint)
        by_it = {**trained_settings(other), "teacher": trained}
        of_both = (
            describe_evaluation(checkpoint, disc_dataset, data, "validation", 0, [], settings, {})["notes"][1:]
            for settings in (trained, by_it)
        )
        notes, of_student = of_both
        assert len(notes) == len(wanted)
        assert all(any(text in note for note in notes) for text in wanted)
        assert any(by_teacher in note for note in of_student) == (trained_on in wanted)
        given = {"teacher_checkpoint": str(checkpoint), "recipe": "kd"}
        teacher = prepare("seg_student", disc_dataset, tmp_path / "run", **given).parser.get_parsed_content("teacher")
        caplog.clear()
        teacher.load()
        assert ("The teacher was TRAINED ON the folds [0]" in caplog.text) == (trained_on in wanted)
        assert ("The training data of teacher_checkpoint" in caplog.text) == (nothing in paths)
        assert teacher.settings["ensemble_of"] == trained["ensemble_of"]


@pytest.mark.parametrize(
    "members", [5, ["a"], [{"leave_out": 5}], [{"ensemble_of": [{"fold": "0"}]}], [{"teacher": 1}]]
)
def test_settings_of_networks_that_are_none(tmp_path, members):
    with pytest.raises(ValueError, match=r"settings\.json: ensemble_of is .* which is not a valid value"):
        trained_settings(untrained("seg_student", tmp_path / "0", ensemble_of=members))
