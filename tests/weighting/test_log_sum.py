import numpy as np
import pytest
from methods import step, weights

import lossweigh as lw


@pytest.mark.smoke
def test_numbers():
    weighter = lw.LogSum()
    assert step(weighter, 1, 2, 4) == pytest.approx(np.log(8), abs=1e-5)
    np.testing.assert_allclose(weights(weighter), [1, 0.5, 0.25], atol=1e-6)


def test_the_total_may_be_negative():
    assert step(lw.LogSum(), 0.5, 0.1) == pytest.approx(np.log(0.05), abs=1e-5)


def test_an_absent_branch_is_no_term():
    assert step(lw.LogSum(), 2, 8, 0) == pytest.approx(np.log(16), abs=1e-5)
