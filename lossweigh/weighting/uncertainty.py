"""Kendall, Gal & Cipolla: weights from each branch's learned noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from lossweigh import _check
from lossweigh.weighting.learned import LearnedWeighter

KINDS = ("regression", "classification")


@keras.saving.register_keras_serializable(package="lossweigh")
class Uncertainty(LearnedWeighter):
    """Weighs each branch by its learned homoscedastic uncertainty.

        regression:      0.5 exp(-s_k) L_k + 0.5 s_k
        classification:      exp(-s_k) L_k + 0.5 s_k

    with `s_k = log sigma_k^2`, the log-variance of branch k, learned from
    `s_k = 0`. At its optimum a regression branch has `exp(s_k) = L_k`, so each
    branch contributes the same to the total, whatever its scale. For a mean
    squared error `sigma_k = exp(s_k / 2)` is then the root mean square of the
    residuals, and `weighter.sigma` holds it. (The authors' notebook prints
    `exp(s_k ** 0.5)` instead.)

    The total may become negative, so watch the branches' losses or `unweighted_loss`.
    The weights sum to no fixed number. A branch loss must be positive, because below 0
    there is no optimum; an exact 0 counts as absent.

    Differs from the paper: the log-variances have their own learning rate (see
    `LearnedWeighter`). With the model's they would lag behind the losses.

    Args:
        terms: Which term a branch has, `"regression"` or `"classification"`: a
            list in the order of the losses, or a dict by branch name for some.
            Default: classification for cross-entropies, otherwise regression. In a
            model that was wired by hand all are regression.
        learning_rate: Float, the log-variances' learning rate.
        **kwargs: Passed to `keras.layers.Layer`.

    Raises:
        ValueError: If a term is neither of the two or isn't given for each, or a dict
            names an unknown branch.

    Examples:
        >>> from keras import ops
        >>> weighter = Uncertainty()
        >>> total = weighter([ops.array([1.0]), ops.array([2.0]), ops.array([4.0])])
        >>> print(ops.convert_to_numpy(total))
        [3.5]

    Reference:
        A. Kendall, Y. Gal, R. Cipolla. Multi-task learning using uncertainty to
        weigh losses for scene geometry and semantics. CVPR 2018.
    """

    needs_positive_losses = True
    per_branch = ("terms",)

    def __init__(
        self,
        terms: Sequence[str] | Mapping[str, str] | None = None,
        *,
        learning_rate: float = 0.02,
        **kwargs: Any,
    ) -> None:
        super().__init__(learning_rate=learning_rate, **kwargs)
        self.terms = check_terms(terms)

    def build(self, input_shape: Any) -> None:
        number = self.count(input_shape)
        chosen = terms_of(self.terms, self.branches, self.kinds, number)
        self.scale = [0.5 if term == "regression" else 1.0 for term in chosen]
        super().build(input_shape)

    @property
    def sigma(self) -> Any:
        """`(K,)` float32, the learned standard deviation of each branch's noise."""
        return ops.exp(0.5 * self.parameters)

    def weights_of(self, parameters: Any) -> Any:
        return ops.convert_to_tensor(self.scale) * ops.exp(-parameters)

    def regularizers(self, parameters: Any, means: Any) -> Any:
        return 0.5 * parameters

    def gradient(self, parameters: Any, means: Any) -> Any:
        return 0.5 - self.weights_of(parameters) * means

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "terms": self.terms}


def check_terms(terms: Any) -> Any:
    """Terms as given, each of them one of `KINDS`."""
    if terms is None:
        return None
    terms = _check.by_name(terms) if isinstance(terms, Mapping) else list(terms)
    for term in terms.values() if isinstance(terms, dict) else terms:
        _check.one_of("terms", term, KINDS)
    return terms


def terms_of(
    terms: Any, branches: list[str] | None, kinds: list[str] | None, num_branches: int
) -> list[str]:
    """The term of each branch, from what was given and what its loss is.

    Args:
        terms: As `check_terms` gives them.
        branches: The branches' names, or `None`.
        kinds: What the branches' losses are, or `None`.
        num_branches: K.
    """
    chosen = list(kinds) if kinds else ["regression"] * num_branches
    if isinstance(terms, dict):
        _check.known_names("terms", terms, _check.with_names("terms", terms, branches))
        return [
            terms.get(name, kind)
            for name, kind in zip(branches or [], chosen, strict=True)
        ]
    if terms is not None and len(terms) != num_branches:
        raise ValueError(
            f"`terms` must hold one term for each of the {num_branches} branches. "
            f"Received {len(terms)}: terms={terms}."
        )
    return chosen if terms is None else terms
