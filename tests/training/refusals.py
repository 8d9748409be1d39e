"""How the tests of this folder check that something is refused, in words."""

import re

import numpy as np
import pytest
from nets import ROWS, arrays

X, Y = arrays()


def pattern(words):
    """A regular expression of words with ` ... ` where some are left out."""
    return "(?s)" + re.escape(words).replace(r"\ \.\.\.\ ", ".*")


def fails_and_goes_on(training, arguments, error, words):
    """The fit fails in these words, changes nothing, and another one works."""
    before = training.get_weights()
    with pytest.raises(error, match=pattern(words)):
        training.fit(**{"x": X, "y": Y, "verbose": 0, "shuffle": False, **arguments})
    for one, other in zip(training.get_weights(), before, strict=True):
        np.testing.assert_array_equal(one, other)
    history = training.fit(X, Y, batch_size=ROWS, verbose=0).history
    assert np.isfinite(history["loss"][0])
    after = zip(training.get_weights(), before, strict=True)
    assert any((one != other).any() for one, other in after)
