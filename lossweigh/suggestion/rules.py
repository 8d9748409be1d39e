"""From what a probe measured to what a careful colleague would propose."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np

from lossweigh.inspection.inspection import Inspection
from lossweigh.suggestion.suggestion import Proposal
from lossweigh.suggestion.target_scales import Scale

# Gradients are uneven if the longest is so many times the shortest.
UNEVEN = 10.0
# Two branches conflict if their cosine is below 0 in so large a part of the steps, and
# below this on average. The noise of small batches alone makes half of them negative:
# a few steps prove nothing.
MOSTLY = 2 / 3
OPPOSED = -0.1
FEWEST_STEPS = 10


def proposals_for(
    inspection: Inspection,
    scales: Mapping[str, Scale],
    written: Mapping[str, str],
    *,
    trained: bool,
) -> list[Proposal]:
    """What to do, the first thing first; equal weights where nothing is amiss.

    Args:
        inspection: What the probe measured.
        scales: The scale of each target that may be standardised, by its name.
        written: How each of these targets is written in Python, such as `y["price"]`.
        trained: Whether the model was trained before.
    """
    broken = _not_finite(inspection)
    if broken:
        return broken
    out_of_scale = [
        _standardise(target, written[target], scale, inspection)
        for target, scale in scales.items()
        if scale.is_out.any()
    ]
    if out_of_scale:  # all else will be otherwise then
        return out_of_scale
    proposals = [*_fixed_weights(inspection), *_balancer(inspection, trained)]
    return proposals or [_equal_weights(inspection)]


def _not_finite(inspection: Inspection) -> list[Proposal]:
    """To look for the cause, where losses or gradients aren't finite."""
    counted = ~np.isnan(inspection.losses) | ~np.isfinite(inspection.gradient_norms)
    finite = np.isfinite(inspection.losses) & np.isfinite(inspection.gradient_norms)
    spoilt = (counted & ~finite).sum(axis=0)
    names = tuple(b for b, n in zip(inspection.branches, spoilt, strict=True) if n)
    if not names:
        return []
    return [
        Proposal(
            "not_finite",
            names,
            float(spoilt.max()),
            f"First find out why losses or gradients of {', '.join(names)} aren't "
            f"finite: in {spoilt.max()} of {len(finite)} steps. Look for nan in the "
            "inputs and targets, mark missing labels (`BranchLoss(..., missing='nan')`)"
            ", look for a logarithm or a root of a number below 0, or lower the "
            "learning rate.",
            "",
        )
    ]


def _standardise(
    target: str, written: str, scale: Scale, inspection: Inspection
) -> Proposal:
    norm = inspection.gradient_norm
    others = [value for other, value in norm.items() if other not in scale.branches]
    compared = ""
    if others and np.nanmedian(others) > 0:
        ratio = norm[scale.branches[0]] / float(np.nanmedian(others))
        compared = f" Its gradient is {ratio:.3g} times as long as the others'."
    index = int(
        np.argmax(np.where(scale.is_out, np.abs(np.log(scale.std + 1e-30)), -1))
    )
    means, stds = (
        [float(f"{n:.4g}") for n in each] for each in (scale.mean, scale.std)
    )
    column = "" if len(stds) == 1 else f", in its column {index}"
    mean, variance = f"{means}", f"np.square({[std or 1.0 for std in stds]})"
    if len(stds) == 1:
        mean, variance = f"{means[0]}", f"{stds[0]} ** 2"
    scaled = f"keras.ops.convert_to_numpy(scale({written}))"
    if scale.missing is not None:
        scaled = f"np.where({written} == {scale.missing}, {scale.missing}, {scaled})"
    return Proposal(
        "standardise",
        scale.branches,
        float(scale.std[index]),
        f"Standardise the target {target!r} first: its mean is {means[index]:.4g} and "
        f"its standard deviation {stds[index]:.4g}{column}.{compared} Then make a new "
        "model and call `suggest` again.",
        f"{written} = np.asarray({written})\n"
        f"mean, variance = {mean}, {variance}\n"
        "scale = keras.layers.Normalization(mean=mean, variance=variance)\n"
        "unscale = keras.layers.Normalization(mean=mean, variance=variance, "
        "invert=True)\n"
        f"{written} = {scaled}\n"
        "# ... and a prediction back in the target's units by `unscale(prediction)`",
    )


def _fixed_weights(inspection: Inspection) -> list[Proposal]:
    """Weights with which all gradients are as long, if they are uneven."""
    norms = {b: n for b, n in inspection.gradient_norm.items() if n > 0}
    if len(norms) < 2:
        return []
    shortest = min(norms, key=norms.__getitem__)
    longest = max(norms, key=norms.__getitem__)
    ratio = norms[longest] / norms[shortest]
    if ratio < UNEVEN:
        return []
    total = sum(1 / norm for norm in norms.values())
    weights = dict.fromkeys(inspection.branches, 1.0)
    for branch, norm in norms.items():
        weights[branch] = float(f"{len(norms) / norm / total:.3g}")
    return [
        Proposal(
            "fixed_weights",
            (longest, shortest),
            ratio,
            f"Use fixed weights: the gradient of {longest!r} is {ratio:.3g} times as "
            f"long as that of {shortest!r}, which the shared layers hardly hear. With "
            "these weights all are as long.",
            f"weighter = lw.FixedWeights({weights})",
        )
    ]


def _balancer(inspection: Inspection, trained: bool) -> list[Proposal]:
    """A balancer, if two branches pull against each other in most steps."""
    near_optimum = (
        " But this model was trained before, and near an optimum the gradients cancel "
        "whatever the branches are: ask a new model."
    )
    worst, least = None, OPPOSED
    for one, other in itertools.combinations(range(len(inspection.branches)), 2):
        cosines = inspection.cosines[:, one, other]
        cosines = cosines[~np.isnan(cosines)]
        if cosines.size < FEWEST_STEPS or (cosines < 0).mean() < MOSTLY:
            continue
        if cosines.mean() < least:
            worst, least = (one, other), float(cosines.mean())
            share = float((cosines < 0).mean())
    if worst is None:
        return []
    names = tuple(inspection.branches[index] for index in worst)
    return [
        Proposal(
            "balancer",
            names,
            least,
            f"Try a balancer: {names[0]!r} and {names[1]!r} pull the shared layers "
            f"against each other. Their cosine is below 0 in {share:.0%} of the steps, "
            f"{least:+.2f} on average. Compare it with equal weights on validation "
            "data: it costs time, and a conflict needn't hurt."
            + (near_optimum if trained else ""),
            "balancer = lw.UPGrad(level=lw.Parameters(update_every=10))",
        )
    ]


def _equal_weights(inspection: Inspection) -> Proposal:
    if len(inspection.branches) == 1:
        only = inspection.branches[0]
        reason = f"There is nothing to weigh: {only!r} is the only branch."
        code = "weighter = lw.FixedWeights()"
        return Proposal("equal_weights", (only,), 1.0, reason, code)
    norms = [norm for norm in inspection.gradient_norm.values() if norm > 0]
    ratio = max(norms) / min(norms) if norms else 1.0
    lowest = [value for _, value in inspection.lowest_cosine.values()]
    known = [value for value in lowest if not np.isnan(value)]
    cosine = f" and the lowest mean cosine is {min(known):+.2f}" if known else ""
    unseen = [b for b, n in inspection.gradient_norm.items() if not n > 0]
    left_out = f" ({', '.join(unseen)} had no gradient.)" if unseen else ""
    return Proposal(
        "equal_weights",
        tuple(inspection.branches),
        ratio,
        "Equal weights are fine: the longest gradient is "
        f"{ratio:.3g} times as long as the shortest{cosine}.{left_out}",
        "weighter = lw.FixedWeights()",
    )
