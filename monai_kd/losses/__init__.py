# One line per term: `Name as Name` marks a name as re-exported.
from .attention import AttentionLoss as AttentionLoss
from .boundary import BoundaryKL as BoundaryKL
from .channel_wise import ChannelWiseKL as ChannelWiseKL
from .correlation import CorrelationLoss as CorrelationLoss
from .deep_supervision import DeepSupervision as DeepSupervision
from .distillation import DistillationLoss as DistillationLoss
from .distillation import LossReport as LossReport
from .distillation import WithTeacher as WithTeacher
from .edge import EdgeLoss as EdgeLoss
from .edge_body import BodyKL as BodyKL
from .edge_body import EdgeKL as EdgeKL
from .feature import FeatureLoss as FeatureLoss
from .feature import MultiScaleFusionLoss as MultiScaleFusionLoss
from .logit import LogitKL as LogitKL
from .logit import LogitMSE as LogitMSE
from .projection import Projections as Projections
