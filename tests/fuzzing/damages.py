"""Data with one fault, and what the error must name.

More inputs by name than the model takes aren't a fault: Keras leaves them out.
"""

import dataclasses

import cases
import numpy as np
import oracle
from hypothesis import strategies as st


@dataclasses.dataclass
class Fault:
    """Data that must be refused.

    Args:
        name: What it is.
        case: The `cases.Case`.
        arrays: x, y and sample weights as `fit` gets them.
        options: Further arguments of `fit`.
        named: One of these must be in the error's message.
    """

    name: str
    case: cases.Case
    arrays: list
    options: dict
    named: tuple


def wrong_shape(draw, case, fault, branch):
    y = fault.arrays[1]
    y[branch.name] = np.stack([y[branch.name]] * 2, axis=-1)


def fewer_rows(draw, case, fault, branch):
    y = fault.arrays[1]
    y[branch.name] = y[branch.name][:-1]
    fault.named = ("same number", "cardinality", "same size", branch.name)


def no_target(draw, case, fault, branch):
    del fault.arrays[1][branch.name]


def unknown_target(draw, case, fault, branch):
    fault.arrays[1]["stranger"] = fault.arrays[1][branch.name]
    fault.named = ("stranger",)


def words(draw, case, fault, branch):
    y = fault.arrays[1]
    y[branch.name] = y[branch.name].astype(str)


def bad_index(draw, case, fault, branch):
    y = fault.arrays[1]
    value = draw(st.sampled_from([branch.size, -2, 99]))
    y[branch.name].flat[draw(st.integers(0, y[branch.name].size - 1))] = value


def fraction(draw, case, fault, branch):
    y = fault.arrays[1]
    y[branch.name] = y[branch.name].astype("float32")
    y[branch.name].flat[0] = 0.5


def bad_weight(draw, case, fault, branch):
    weight = np.ones(case.rows)
    weight[draw(st.integers(0, case.rows - 1))] = draw(
        st.sampled_from([-1.0, np.nan, np.inf])
    )
    fault.arrays[2] = {branch.name: weight}


def shape_of_weight(draw, case, fault, branch):
    shape = draw(st.sampled_from([(1, 1, 1, 1), (7,)]))
    fault.arrays[2] = {branch.name: np.ones((case.rows, *case.axes, 1, *shape))}


def unknown_weight(draw, case, fault, branch):
    fault.arrays[2] = {"stranger": np.ones(case.rows)}
    fault.named = ("stranger",)


def unknown_class_weight(draw, case, fault, branch):
    fault.options["class_weight"] = {"stranger": {0: 1.0}}
    fault.named = ("stranger",)


def negative_class_weight(draw, case, fault, branch):
    fault.options["class_weight"] = {branch.name: {0: -1.0}}
    fault.named = ("class_weight",)


def class_weight_of_no_class(draw, case, fault, branch):
    fault.options["class_weight"] = {branch.name: {branch.size + 2: 1.0}}
    fault.named = ("class_weight",)


def wrong_x(draw, case, fault, branch):
    fault.arrays[0]["x"] = fault.arrays[0]["x"][..., :-1]
    fault.named = ("'x'", "`x`", '"x"')


ANY = (
    wrong_shape,
    fewer_rows,
    no_target,
    unknown_target,
    words,
    bad_weight,
    shape_of_weight,
    unknown_weight,
    unknown_class_weight,
    negative_class_weight,
    class_weight_of_no_class,
    wrong_x,
)
OF_INDICES = (bad_index, fraction)


@st.composite
def faults(draw, case):
    """A fault of the case's data."""
    case = dataclasses.replace(case, given="dict")
    branch = draw(st.sampled_from(case.branches))
    kinds = ANY
    if oracle.LOSSES[branch.loss].target == "index":
        kinds += OF_INDICES
    damage = draw(st.sampled_from(kinds))
    x, y, *weights = cases.as_given(case, cases.data_of(case))
    x = dict(x) if isinstance(x, dict) else {"x": x}
    arrays = [x, y, weights[0] if weights else {}]
    fault = Fault(damage.__name__, case, arrays, {}, (branch.name,))
    damage(draw, case, fault, branch)
    return fault


def refused(fault):
    """Asserts that `fit` refuses the data in words, and that nothing has moved."""
    training = cases.training_of(fault.case)
    before = training.get_weights()
    x, y, weight = fault.arrays
    try:
        training.fit(
            x,
            y,
            sample_weight=weight or None,
            batch_size=fault.case.batch_size,
            verbose=0,
            **fault.options,
        )
    except (ValueError, TypeError) as error:
        message = str(error)
        assert any(name in message for name in fault.named), message
    else:
        raise AssertionError(f"{fault.name} isn't refused: {fault}")
    for one, other in zip(before, training.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
