"""Drawn trainings: models, losses, data, and the ways in which they are given."""

import dataclasses

import hypothesis
import keras
import numpy as np
import oracle
from hypothesis import strategies as st
from keras import layers, ops

import lossweigh as lw

EAGER = keras.backend.backend() != "jax"
FEATURES, HIDDEN, RATE = 3, 4, 0.1
MASKS = ("lengths", "steps", "carried")
WEIGHTERS = ("FixedWeights", "GeometricMean", "LogSum", *oracle.LEARNED)
MARKS = {"number": ["nan", -7.0], "binary": ["nan", -1], "one-hot": ["nan"]}


@keras.saving.register_keras_serializable("fuzzing")
def largest_error(y_true, y_pred):
    return ops.max(ops.abs(y_true - y_pred), axis=-1)


LOSSES = {
    "logits": lambda: keras.losses.BinaryCrossentropy(from_logits=True),
    "sparse_logits": lambda: keras.losses.SparseCategoricalCrossentropy(
        from_logits=True
    ),
    "largest_error": lambda: largest_error,
}
ACTIVATIONS = {oracle.sigmoid: "sigmoid", oracle.softmax: "softmax"}


@dataclasses.dataclass(frozen=True)
class Branch:
    """A drawn branch.

    Args:
        name: Of the output, and the branch.
        loss: A key of `oracle.LOSSES`.
        size: Of the output's last axis.
        flat: Whether the output has no such axis.
        mark: What marks a missing label, `None` if none is missing.
        normalize: As for `BranchLoss`.
        weight_axes: How many leading axes the sample weights have, `None` without any.
        column: Whether weights of one axis have a second one of size 1.
        class_weight: As for `BranchLoss`.
        class_weight_of_fit: Whether it is given to `fit` instead.
        index_axis: Whether class indices have a last axis of size 1.
        dtype: Of the targets.
    """

    name: str
    loss: str
    size: int
    flat: bool
    mark: object
    normalize: str
    weight_axes: int | None
    column: bool
    class_weight: dict | None
    class_weight_of_fit: bool
    index_axis: bool
    dtype: str


@dataclasses.dataclass(frozen=True)
class Case:
    """A drawn training of one epoch.

    Args:
        branches: Of type `Branch`.
        axes: Sizes of the axes between the batch and the features.
        rows: Of the data set.
        batch_size: The last batch may have fewer rows.
        structure: Of the model's outputs: "list", "tuple", "dict" or "one".
        given: How losses, targets and weights are given: "dict" or "list".
        mask: Where it comes from, or `None`.
        source: "arrays", "PyDataset" or "generator".
        x_dtype: Of the inputs.
        weighter: A name of `WEIGHTERS`.
        weights: For `FixedWeights`, one a branch.
        balancer: A key of `oracle.BALANCERS`, or `None`.
        level: Of the balancer.
        seed: Of all numbers.
    """

    branches: tuple
    axes: tuple
    rows: int
    batch_size: int
    structure: str
    given: str
    mask: str | None
    source: str
    x_dtype: str
    weighter: str
    weights: tuple
    balancer: str | None
    level: str
    seed: int

    @staticmethod
    def check(jacobian):
        """Leaves out gradients that are parallel, as far as float32 can tell."""
        hypothesis.assume((np.abs(jacobian).max(axis=1) > 0).all())
        units = jacobian / np.linalg.norm(jacobian, axis=1, keepdims=True)
        hypothesis.assume(np.linalg.eigvalsh(units @ units.T).min() > 1e-3)
        lengths = np.linalg.norm(jacobian, axis=1)
        hypothesis.assume(lengths.min() > 1e-2 * lengths.max())


@dataclasses.dataclass
class Batch:
    """Rows of a case: inputs, targets and weights of each branch, and the mask."""

    x: np.ndarray
    y: list
    weights: list
    mask: np.ndarray | None
    lengths: np.ndarray | None

    def part(self, rows):
        def cut(array):
            return None if array is None else array[rows]

        return Batch(
            self.x[rows],
            [array[rows] for array in self.y],
            [cut(array) for array in self.weights],
            cut(self.mask),
            cut(self.lengths),
        )


@st.composite
def branches(draw, name, axes, mask, balanced):
    loss = draw(st.sampled_from(sorted(oracle.LOSSES)))
    known = oracle.LOSSES[loss]
    classes = known.target in ("one-hot", "index")
    size = draw(st.integers(2, 4) if classes else st.integers(1, 3))
    flat = size == 1 and known.elementwise and mask is None and draw(st.booleans())
    marks = MARKS.get(known.target, [-1])
    mark = draw(st.sampled_from([None, None, *marks]))
    axes_of_weights = 1 + len(axes) + (known.elementwise and not flat)
    weight_axes = draw(st.one_of(st.none(), st.integers(1, axes_of_weights)))
    class_weight = None
    if known.target != "number" and draw(st.booleans()):
        some = st.integers(0, (size if classes else 2) - 1)
        class_weight = draw(st.dictionaries(some, st.sampled_from([0.5, 2.0, 3.0])))
    dtype = "int64" if known.target == "index" else "float32"
    if mark != "nan":
        dtypes = {"number": ["float32", "float64"], "index": ["int32", "int64"]}
        dtype = draw(
            st.sampled_from(
                dtypes.get(known.target, ["float32", "float64", "int64", "int8"])
            )
        )
    return Branch(
        name,
        loss,
        size,
        flat,
        mark,
        draw(st.sampled_from(["valid", "keras2"])),
        weight_axes,
        weight_axes == 1 and draw(st.booleans()),
        class_weight or None,
        draw(st.booleans()),
        draw(st.booleans()),
        dtype,
    )


@st.composite
def cases(draw):
    axes = tuple(draw(st.lists(st.integers(1, 4), max_size=2)))
    mask = draw(st.sampled_from([None, *MASKS])) if axes else None
    balancer = draw(st.sampled_from([None, None, None, *sorted(oracle.BALANCERS)]))
    number = draw(st.integers(2 if balancer else 1, 3))
    names = draw(st.permutations(["zeta", "alpha", "mid"]))[:number]
    drawn = tuple(draw(branches(name, axes, mask, bool(balancer))) for name in names)
    structure = draw(st.sampled_from(["list", "tuple", "dict"]))
    return Case(
        drawn,
        axes,
        draw(st.integers(3, 9)),
        draw(st.integers(2, 5)),
        "one" if number == 1 and draw(st.booleans()) else structure,
        "dict" if structure == "dict" else draw(st.sampled_from(["dict", "list"])),
        mask,
        draw(st.sampled_from(["arrays", "PyDataset", "generator"])),
        draw(st.sampled_from(["float32", "float64"])),
        draw(st.sampled_from(WEIGHTERS)),
        tuple(draw(st.sampled_from([0.5, 1.0, 2.0])) for _ in names),
        balancer,
        draw(st.sampled_from(["representation", "parameters"])),
        draw(st.integers(0, 2**16)),
    )


def settings(number, **more):
    """How so many examples are drawn; a failure is made small, and not explained."""
    return hypothesis.settings(
        max_examples=number,
        deadline=None,
        database=None,
        phases=[hypothesis.Phase.generate, hypothesis.Phase.shrink],
        suppress_health_check=list(hypothesis.HealthCheck),
        **more,
    )


# Data ------------------------------------------------------------------------------


def data_of(case):
    """All rows of a case, with nan at missing labels."""
    rng = np.random.default_rng(case.seed)
    shape = (case.rows, *case.axes)
    x = rng.normal(size=(*shape, FEATURES))
    mask = lengths = None
    if case.mask == "carried":
        mask = rng.random(shape) < 0.7
        x[~mask] = 0.0
    elif case.mask:
        lengths = rng.integers(0, case.axes[0] + 1, case.rows)
        mask = np.arange(case.axes[0]) < lengths[:, None]
    targets, weights = [], []
    for branch in case.branches:
        kind = oracle.LOSSES[branch.loss].target
        y_shape = shape if branch.flat else (*shape, branch.size)
        if kind == "number":
            y = 2 * rng.normal(size=y_shape)
        elif kind == "binary":
            y = rng.integers(0, 2, y_shape).astype(float)
        else:
            y = rng.integers(0, branch.size, shape).astype(float)
            if kind == "one-hot":
                y = np.eye(branch.size)[y.astype(int)]
            elif branch.index_axis:
                y = y[..., None]
        if branch.mark is not None:
            y[rng.random(y.shape) < rng.choice([0.2, 0.5, 0.9])] = np.nan
        targets.append(y)
        weight = None
        if branch.weight_axes:
            of = (*y_shape,)[: branch.weight_axes]
            weight = rng.choice([0.0, 0.5, 1.0, 3.0], size=of)
            weight = weight[:, None] if branch.column else weight
        weights.append(weight)
    return Batch(x, targets, weights, mask, lengths)


def batches_of(case):
    data = data_of(case)
    for first in range(0, case.rows, case.batch_size):
        yield data.part(slice(first, first + case.batch_size))


def in_structure(case, values):
    """Targets or weights as the case gives them to Keras."""
    if case.given == "dict":
        return {
            branch.name: value
            for branch, value in zip(case.branches, values, strict=True)
            if value is not None
        }
    # On TensorFlow Keras takes no lists from a data set (docs/upstream).
    structure = list if case.source == "arrays" else tuple
    return values[0] if len(values) == 1 else structure(values)


def as_given(case, batch):
    """`(x, y)` or `(x, y, sample_weight)` of a batch, as a user has them."""
    x = batch.x.astype(case.x_dtype)
    if case.mask == "lengths":
        x = {"x": x, "mask": batch.lengths}
    elif case.mask == "steps":
        x = {"x": x, "mask": batch.mask}
    targets = []
    for branch, y in zip(case.branches, batch.y, strict=True):
        mark = np.nan if branch.mark == "nan" else branch.mark
        y = y if branch.mark is None else np.where(np.isnan(y), mark, y)
        targets.append(y.astype(branch.dtype))
    y = in_structure(case, targets)
    if all(weight is None for weight in batch.weights):
        return x, y
    weights = batch.weights
    if case.given == "list":
        weights = [
            np.ones(len(batch.x)) if weight is None else weight for weight in weights
        ]
    return x, y, in_structure(case, weights)


class Batches(keras.utils.PyDataset):
    def __init__(self, case):
        super().__init__()
        self.batches = [as_given(case, batch) for batch in batches_of(case)]

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


# The model -------------------------------------------------------------------------


def model_of(case):
    x = keras.Input((*case.axes, FEATURES), name="x")
    inputs = {"x": x}
    if case.mask == "lengths":
        inputs["mask"] = keras.Input((), name="mask", dtype="int32")
    elif case.mask == "steps":
        inputs["mask"] = keras.Input((case.axes[0],), name="mask", dtype="bool")
    masked = layers.Masking()(x) if case.mask == "carried" else x
    hidden = layers.Dense(HIDDEN, activation="tanh", name="trunk")(masked)
    outputs = {}
    for branch in case.branches:
        activation = ACTIVATIONS.get(oracle.LOSSES[branch.loss].activation)
        head = layers.Dense(
            branch.size,
            activation=activation,
            name=f"{branch.name}_head" if branch.flat else branch.name,
        )
        output = head(hidden)
        if branch.flat:
            output = layers.Reshape(case.axes, name=branch.name)(output)
        outputs[branch.name] = output
    if case.structure == "one":
        structure = next(iter(outputs.values()))
    elif case.structure == "dict":
        structure = outputs
    else:
        structure = {"list": list, "tuple": tuple}[case.structure](outputs.values())
    return keras.Model(inputs if len(inputs) > 1 else x, structure)


def kernels_of(case):
    """First weights: of the trunk, and of each head."""
    rng = np.random.default_rng(case.seed + 1)
    sizes = [(FEATURES, HIDDEN)] + [(HIDDEN, branch.size) for branch in case.branches]
    return [
        (0.4 * rng.normal(size=shape)).astype("float32")
        for rows, columns in sizes
        for shape in ((rows, columns), (columns,))
    ]


def dense_layers(case, model):
    names = ["trunk", *(f"{b.name}_head" if b.flat else b.name for b in case.branches)]
    return [model.get_layer(name) for name in names]


def training_of(case):
    """The training model of a case, compiled, with the case's first weights."""
    model = model_of(case)
    kernels = iter(kernels_of(case))
    for layer in dense_layers(case, model):
        layer.set_weights([next(kernels), next(kernels)])
    losses = []
    for branch in case.branches:
        loss = LOSSES.get(branch.loss, lambda name=branch.loss: name)()
        arguments = {"missing": branch.mark, "normalize": branch.normalize}
        if case.mask in ("lengths", "steps"):
            arguments["mask"] = "mask"
        if branch.class_weight and not branch.class_weight_of_fit:
            arguments["class_weight"] = branch.class_weight
        losses.append(lw.BranchLoss(loss, **arguments))
    if case.given == "dict":
        losses = {b.name: loss for b, loss in zip(case.branches, losses, strict=True)}
    elif case.structure == "one":
        losses = losses[0]
    weighter = getattr(lw, case.weighter)
    weighter = (
        weighter(list(case.weights)) if weighter is lw.FixedWeights else weighter()
    )
    balancer = case.balancer and getattr(lw, case.balancer)(level=case.level)
    training = lw.build_training_model(model, losses, weighter, balancer)
    training.compile(keras.optimizers.SGD(RATE), run_eagerly=EAGER, advise=False)
    return training
