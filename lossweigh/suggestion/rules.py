"""From what a probe measured to what a careful colleague would propose."""

from __future__ import annotations

import itertools

import numpy as np

from lossweigh.inspection.inspection import Inspection
from lossweigh.suggestion.suggestion import Proposal
from lossweigh.suggestion.target_scales import Scale

# A target is out of scale if its spread or its mean is so far from 1, or from 0 in
# spreads: networks start with outputs and targets of about 1.
OUT_OF_SCALE = 10.0
# Gradients are uneven if the longest is so many times the shortest.
UNEVEN = 10.0
# Two branches conflict if their cosine is below 0 in so large a part of the steps, and
# below this on average. The noise of small batches alone makes half of them negative.
MOSTLY = 2 / 3
OPPOSED = -0.1


def proposals_for(
    inspection: Inspection, scales: dict[str, Scale], targets: dict[str, str]
) -> list[Proposal]:
    """What to do, the first thing first; equal weights where nothing is amiss.

    Args:
        inspection: What the probe measured.
        scales: The scale of each regression's target by branch.
        targets: The names of these targets in `y`, by branch.
    """
    out_of_scale = [
        _standardise(branch, targets[branch], scale, inspection)
        for branch, scale in scales.items()
        if _is_out_of_scale(scale)
    ]
    if out_of_scale:  # all else will be otherwise then
        return out_of_scale
    proposals = [*_fixed_weights(inspection), *_balancer(inspection)]
    return proposals or [_equal_weights(inspection)]


def _is_out_of_scale(scale: Scale) -> bool:
    if scale.std == 0:  # a constant, or nothing: there is no scale to bring to 1
        return False
    return not 1 / OUT_OF_SCALE <= scale.std <= OUT_OF_SCALE or abs(
        scale.mean
    ) > OUT_OF_SCALE * max(scale.std, 1.0)


def _standardise(
    branch: str, target: str, scale: Scale, inspection: Inspection
) -> Proposal:
    norm = inspection.gradient_norm
    others = [value for other, value in norm.items() if other != branch]
    compared = ""
    if others and np.median(others) > 0:
        ratio = norm[branch] / float(np.median(others))
        compared = f" Its gradient is {ratio:.3g} times as long as the others'."
    return Proposal(
        "standardise",
        (branch,),
        scale.std,
        f"Standardise the target {target!r} first: its mean is {scale.mean:.4g} and "
        f"its standard deviation {scale.std:.4g}.{compared} Then call `suggest` again.",
        f"mean, variance = {scale.mean:.4g}, {scale.std:.4g} ** 2\n"
        "scale = keras.layers.Normalization(mean=mean, variance=variance)\n"
        "unscale = keras.layers.Normalization(mean=mean, variance=variance, "
        "invert=True)\n"
        f"y[{target!r}] = keras.ops.convert_to_numpy(scale(y[{target!r}]))\n"
        "# ... and a prediction back in the target's units by `unscale(prediction)`",
    )


def _fixed_weights(inspection: Inspection) -> list[Proposal]:
    """Weights with which all gradients are as long, if they are uneven."""
    norms = {b: n for b, n in inspection.gradient_norm.items() if n > 0}
    if len(norms) < 2:
        return []
    shortest, longest = (
        min(norms, key=norms.__getitem__),
        max(norms, key=norms.__getitem__),
    )
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


def _balancer(inspection: Inspection) -> list[Proposal]:
    """A balancer, if two branches pull against each other in most steps."""
    worst, least = None, OPPOSED
    for one, other in itertools.combinations(range(len(inspection.branches)), 2):
        cosines = inspection.cosines[:, one, other]
        cosines = cosines[~np.isnan(cosines)]
        if not cosines.size or (cosines < 0).mean() < MOSTLY:
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
            "data: it costs time, and a conflict needn't hurt.",
            "balancer = lw.UPGrad(level=lw.Parameters(update_every=10))",
        )
    ]


def _equal_weights(inspection: Inspection) -> Proposal:
    norms = [norm for norm in inspection.gradient_norm.values() if norm > 0]
    ratio = max(norms) / min(norms) if norms else 1.0
    lowest = [value for _, value in inspection.lowest_cosine.values()]
    known = [value for value in lowest if not np.isnan(value)]
    cosine = f" and the lowest mean cosine is {min(known):+.2f}" if known else ""
    return Proposal(
        "equal_weights",
        tuple(inspection.branches),
        ratio,
        "Equal weights are fine: the longest gradient is "
        f"{ratio:.3g} times as long as the shortest{cosine}.",
        "weighter = lw.FixedWeights()",
    )
