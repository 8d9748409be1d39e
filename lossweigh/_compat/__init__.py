"""The one folder that touches private names of Keras, each with its reason."""

from lossweigh._compat.fitting import (
    begin_at_epoch,
    put_first,
    read_batches,
    watched_steps,
)
from lossweigh._compat.layers import (
    as_frozen,
    calls_of,
    in_inference,
    keras_mask,
    keras_masks,
    layers_at_any_depth,
    takes_mask_argument,
    unworded,
)
from lossweigh._compat.metrics import (
    build_metrics,
    build_metrics_from_spec,
    compiled_metrics,
    direction,
    has_metrics,
    metric_function,
    names_in_order,
    symbolic_build,
    update_metrics,
)
from lossweigh._compat.optimizers import (
    batches_given,
    exclude_from_weight_decay,
    lacking_and_surplus,
    leave_out,
    overwrite_in_each_step,
)
from lossweigh._compat.saving import serialize_loss, serialize_shared
from lossweigh._compat.variables import Assignments, bring_state, keeps_variables

__all__ = [
    "Assignments",
    "as_frozen",
    "batches_given",
    "begin_at_epoch",
    "bring_state",
    "build_metrics",
    "calls_of",
    "compiled_metrics",
    "direction",
    "exclude_from_weight_decay",
    "has_metrics",
    "in_inference",
    "keeps_variables",
    "keras_mask",
    "keras_masks",
    "lacking_and_surplus",
    "layers_at_any_depth",
    "leave_out",
    "metric_function",
    "names_in_order",
    "overwrite_in_each_step",
    "put_first",
    "read_batches",
    "serialize_loss",
    "serialize_shared",
    "build_metrics_from_spec",
    "symbolic_build",
    "takes_mask_argument",
    "unworded",
    "update_metrics",
    "watched_steps",
]
