"""A DICOM series to a DICOM segmentation with the bundle operator of the MONAI Deploy App SDK; see docs/deploy.md.

python docs/examples/deploy_app.py SERIES_FOLDER MODEL.ts OUTPUT_FOLDER
"""

import sys
from pathlib import Path

from monai.deploy.conditions import CountCondition
from monai.deploy.core import AppContext, Application, IOType
from monai.deploy.core.domain import Image
from monai.deploy.operators.dicom_data_loader_operator import DICOMDataLoaderOperator
from monai.deploy.operators.dicom_seg_writer_operator import DICOMSegmentationWriterOperator, SegmentDescription
from monai.deploy.operators.dicom_series_selector_operator import DICOMSeriesSelectorOperator
from monai.deploy.operators.dicom_series_to_volume_operator import DICOMSeriesToVolumeOperator
from monai.deploy.operators.monai_bundle_inference_operator import (
    BundleConfigNames,
    IOMapping,
    MonaiBundleInferenceOperator,
)
from pydicom.sr.codedict import codes

TUMOUR = SegmentDescription(
    segment_label="tumour",
    segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
    segmented_property_type=codes.SCT.Neoplasm,
    algorithm_name="monai_kd seg_student",
    algorithm_version="0.1.0",
)


class TumourApplication(Application):
    """Loader, selector, volume, bundle, DICOM SEG writer."""

    def __init__(self, series: Path, model: Path, output: Path) -> None:
        self.series, self.model, self.output = series, model, output
        super().__init__()

    def compose(self) -> None:
        load = DICOMDataLoaderOperator(self, CountCondition(self, 1), input_folder=self.series, name="load")
        select = DICOMSeriesSelectorOperator(self, name="select")
        stack = DICOMSeriesToVolumeOperator(self, name="stack")
        segment = MonaiBundleInferenceOperator(
            self,
            app_context=AppContext({}),
            input_mapping=[IOMapping("image", Image, IOType.IN_MEMORY)],
            output_mapping=[IOMapping("pred", Image, IOType.IN_MEMORY)],
            bundle_path=self.model,
            # The second says what is beside the checkpoint in a bundle's folder, and not in MODEL.ts.
            bundle_config_names=BundleConfigNames(config_names=["inference", "deploy"]),
            name="segment",
        )
        write = DICOMSegmentationWriterOperator(
            self, segment_descriptions=[TUMOUR], output_folder=self.output, name="write"
        )
        self.add_flow(load, select, {("dicom_study_list", "dicom_study_list")})
        self.add_flow(select, stack, {("study_selected_series_list", "study_selected_series_list")})
        self.add_flow(stack, segment, {("image", "image")})
        self.add_flow(segment, write, {("pred", "seg_image")})
        self.add_flow(select, write, {("study_selected_series_list", "study_selected_series_list")})


if __name__ == "__main__":
    series_folder, model_file, output_folder = map(Path, sys.argv[1:])
    sys.argv = sys.argv[:1]  # or the SDK takes them for its own
    TumourApplication(series_folder, model_file, output_folder).run()
