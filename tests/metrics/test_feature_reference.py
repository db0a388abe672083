import numpy as np
import pytest

from monai_kd.metrics.familiarity import FeatureReference, ledoit_wolf


@pytest.mark.parametrize(("count", "size"), [(200, 5), (12, 30)])
def test_covariance_is_that_of_scikit_learn(count, size):
    covariance = pytest.importorskip("sklearn.covariance")
    features = np.random.default_rng(0).normal(size=(count, size)) * np.linspace(0.1, 3, size)
    np.testing.assert_allclose(ledoit_wolf(features), covariance.LedoitWolf().fit(features).covariance_, rtol=1e-8)


def test_distance_by_hand():
    reference = FeatureReference(np.array([1.0, 2.0]), np.diag([4.0, 1.0]), 2.0)
    # √(4·1² + 1·0²) / 2 and √(4·0² + 1·6²) / 2
    np.testing.assert_allclose(reference.distances(np.array([[2.0, 2.0], [1.0, 8.0], [1.0, 2.0]])), [1, 3, 0])


def test_one_in_a_hundred_of_other_patients_is_beyond_the_usual():
    random = np.random.default_rng(0)
    mix = random.normal(size=(6, 6))

    def slices(count: int) -> np.ndarray:
        return random.normal(size=(count, 6)) @ mix + 3

    reference = FeatureReference.fit(slices(4000), [str(number // 10) for number in range(4000)])
    beyond = (reference.distances(slices(20000)) > 1).mean()
    assert 0.005 < beyond < 0.02
    assert (reference.distances(slices(100) + 50 * mix[0]) > 3).all()


def test_the_usual_distance_is_that_of_patients_who_were_not_fitted():
    """Slices of a patient are alike: by themselves they would seem more usual than those of the next patient are."""
    random = np.random.default_rng(1)

    def patients(count: int) -> np.ndarray:
        return np.repeat(random.normal(size=(count, 20)), 25, axis=0) + 0.01 * random.normal(size=(25 * count, 20))

    reference = FeatureReference.fit(patients(20), [str(number // 25) for number in range(500)])
    assert (reference.distances(patients(200)) > 1).mean() < 0.05


def test_what_it_can_not_learn_from():
    features = np.random.default_rng(0).normal(size=(60, 3))
    many = [str(number) for number in range(60)]
    for groups in (["a"] * 60, many[:30]):
        with pytest.raises(ValueError, match="at least 40 of 10 are needed"):
            FeatureReference.fit(features[: len(groups)], groups)
    with pytest.raises(ValueError, match="not finite"):
        FeatureReference.fit(np.where(features > 1, np.nan, features), many)
    with pytest.raises(ValueError, match="all slices have the same features"):
        FeatureReference.fit(np.ones((60, 3)), many)
