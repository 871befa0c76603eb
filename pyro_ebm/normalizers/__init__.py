"""What an unnormalised density may depend on, and how a model is inspected for it."""

from .enumerated import FactorEvents as FactorEvents
from .enumerated import enumerated_sites as enumerated_sites
from .enumerated import first_enumerated_dim as first_enumerated_dim
from .enumerated import known_events as known_events
from .enumerated import refuse_enumerated_parents as refuse_enumerated_parents
from .enumerated import remember_events as remember_events
from .finite import States as States
from .finite import finite_states as finite_states
from .fixed import fixed_or_recorded as fixed_or_recorded
from .given import as_log_normalizer as as_log_normalizer
from .given import as_params as as_params
from .given import broadcasts_to as broadcasts_to
from .given import checked_temperature as checked_temperature
from .given import joint_batch_shape as joint_batch_shape
from .given import joint_shape as joint_shape
from .given import log_normalizer_at as log_normalizer_at
from .given import shape_of as shape_of
from .given import tensors_in as tensors_in
from .guard import guarded as guarded
from .guard import surroundings as surroundings
from .like import like_of as like_of
from .model import check_model as check_model
from .parents import refuse_moving_parents as refuse_moving_parents
from .parents import walk as walk
from .tracking import CollectProvenance as CollectProvenance
from .tracking import plain as plain
