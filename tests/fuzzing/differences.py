"""A drawn training on the backend, and where it differs from the oracle."""

import dataclasses

import cases
import numpy as np
import oracle

TOLERANCE = 2e-4  # relative to the largest number that is compared, in float32


def without_class_weights_of_fit(case):
    """What `evaluate` knows of the case."""
    return dataclasses.replace(
        case,
        branches=tuple(
            dataclasses.replace(b, class_weight=None) if b.class_weight_of_fit else b
            for b in case.branches
        ),
    )


def expected(case):
    """The logs of `evaluate` and of an epoch, and the weights that are trained."""
    batches = list(cases.batches_of(case))
    kernels = cases.kernels_of(case)
    untrained = oracle.Training(without_class_weights_of_fit(case), kernels)
    evaluated = []
    for batch in batches:
        _, results = untrained.passes(batch)
        total, *_ = untrained.totals(results)
        evaluated.append((len(batch.x), total, results))
    training = oracle.Training(case, kernels)
    trained = [(len(b.x), *training.step(b, cases.RATE)) for b in batches]
    logs = oracle.Training.logs
    return logs(case, evaluated), logs(case, trained), training.kernels


def computed(case):
    """The same, by a training model."""
    training = cases.training_of(case)
    everything = cases.as_given(case, cases.data_of(case))
    class_weight = {
        branch.name: branch.class_weight
        for branch in case.branches
        if branch.class_weight and branch.class_weight_of_fit
    }

    def source():
        """Arguments of `fit` and `evaluate`; a generator is used up by one of them."""
        if case.source == "arrays":
            x, y, *weight = everything
            sample_weight = weight[0] if weight else None
            arrays = {"x": x, "y": y, "sample_weight": sample_weight}
            return {**arrays, "batch_size": case.batch_size}
        batches = cases.Batches(case)
        if case.source == "PyDataset":
            return {"x": batches}
        return {"x": (batches[index] for index in range(len(batches)))}

    steps = -(-case.rows // case.batch_size)
    options = {"verbose": 0, "return_dict": True, "steps": steps}
    evaluated = training.evaluate(**source(), **options)
    options = {"verbose": 0, "shuffle": False, "steps_per_epoch": steps}
    if class_weight:
        options["class_weight"] = class_weight
    history = training.fit(**source(), **options).history
    trained = {key: values[0] for key, values in history.items()}
    kernels = [
        np.asarray(array)
        for layer in cases.dense_layers(case, training.prediction_model)
        for array in layer.get_weights()
    ]
    return evaluated, trained, kernels


def of(case):
    """What differs, in words; an empty list where nothing does."""
    evaluated, trained, kernels = expected(case)
    found = computed(case)
    differences = []
    for name, ours, theirs in (
        ("evaluate", found[0], evaluated),
        ("fit", found[1], trained),
    ):
        for key, value in theirs.items():
            if not abs(float(ours[key]) - value) <= TOLERANCE * max(1.0, abs(value)):
                differences.append(f"{name}: {key} is {ours[key]}, not {value}")
    for index, (ours, theirs, first) in enumerate(
        zip(found[2], kernels, cases.kernels_of(case), strict=True)
    ):
        moved = np.abs(theirs - first).max()
        if not np.abs(ours - theirs).max() <= TOLERANCE * max(moved, 0.05):
            name = ["trunk", *(b.name for b in case.branches)][index // 2]
            part = ["kernel", "bias"][index % 2]
            differences.append(
                f"the {part} of {name} moved by\n{ours - first}, not by\n"
                f"{theirs - first}"
            )
    return differences
