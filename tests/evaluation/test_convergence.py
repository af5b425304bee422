"""What is said of trainings that ended too early, by hand."""

from lea_core.evaluation.convergence import cautions

DONE = [0.1, 0.3, 0.2]


def test_a_training_that_still_rose() -> None:
    """Said where more than half of the seeds were best at the end, and an equal score later is no rise."""
    rising = [0.1, 0.2, 0.3]
    words = "snqn: 2 of 3 seeds were best at their last epoch, so it may not have learned all it can: "
    words += "raise `train.epochs` or `train.learning_rate`."
    assert cautions({"snqn": {0: rising, 1: rising, 2: DONE}}, {}) == [words]
    assert cautions({"a": {0: rising, 1: DONE}, "b": {0: [0.3, 0.3]}}, {"a": [0.3, 0.3]}) == []


def test_a_seed_that_fell_behind() -> None:
    """Below half of the best seed; the variants are not measured by each other."""
    found = cautions({"a": {0: DONE, 5: [0.14, 0.13]}, "b": {0: [0.02, 0.01]}, "c": {0: DONE, 1: [0.15, 0.1]}}, {})
    words = "a: seed 5 ended at 0.1400 on validation where the best seed has 0.3000, so its mean says little: "
    assert found == [words + "raise `train.patience`."]


def test_an_actor_critic_that_was_best_in_its_warm_up() -> None:
    """Two per cent of the peak, on the mean of the seeds, are no matter of chance."""
    curves = {"sa2c": {0: DONE, 1: [0.1, 0.2, 0.1]}}
    assert cautions(curves, {"sa2c": [0.3, 0.2]}) == []
    assert cautions(curves, {"sa2c": [0.295, 0.1951]}) == []
    words = (
        "sa2c: on validation it was best within its warm-up (0.2500), which is no checkpoint, and has 0.1500 after it: "
    )
    assert cautions(curves, {"sa2c": [0.2, 0.1]}) == [words + "lower its method's `warmup_epochs`."]
