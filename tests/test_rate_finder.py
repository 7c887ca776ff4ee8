"""lr-find: the rate rises over the steps, batches repeat, and what is suggested is where the loss falls."""

import json

import numpy as np
import pytest
import tiny

from flaxtl.cli import main
from flaxtl.config import LrFindConfig
from flaxtl.errors import ConfigError
from flaxtl.strategies.rate_finder import RateFinding, lr_find


def test_there_may_be_fewer_batches_than_steps_and_the_model_stays_as_it_was():
    model = tiny.model()
    found = lr_find(model, tiny.source(), LrFindConfig(steps=40, highest=0.1, batch_size=8))
    assert len(found.rates) == len(found.losses) == len(found.smoothed) == 40  # of 2 batches
    np.testing.assert_allclose([found.rates[0], found.rates[-1]], [1e-7, 0.1], rtol=1e-6)
    np.testing.assert_allclose(np.diff(np.log(found.rates)), np.log(1e6) / 39, rtol=1e-6)
    assert tiny.same(model.variables, tiny.model().variables)


@pytest.mark.parametrize("strategy", ["full", "lpft"])
def test_what_is_suggested_trains(strategy):
    settings = LrFindConfig(strategy=strategy, steps=60, highest=10.0, batch_size=12)
    found = lr_find(tiny.model(), tiny.source(), settings)
    if strategy == "full":
        assert found.suggestion is not None
        assert 1e-6 < found.suggestion < 1.0
        assert found.losses[0] == pytest.approx(np.log(3), rel=1e-3)  # the head is new
    else:
        assert found.losses[0] < np.log(3)  # the head is solved
    assert tiny.same(found.losses, lr_find(tiny.model(), tiny.source(), settings).losses)


def test_a_rate_that_is_far_too_large_ends_the_test():
    found = lr_find(tiny.model(), tiny.source(), LrFindConfig(steps=60, lowest=1e-3, highest=1e6, batch_size=12))
    assert found.ended
    assert len(found.losses) < 60


def test_suggestions():
    rates = tuple(10.0 ** np.linspace(-6, 0, 13))
    losses = (1.0, 1.0, 1.0, 0.98, 0.9, 0.5, 0.3, 0.25, 0.24, 0.3, 0.6, 1.0, 2.0)
    found = RateFinding(rates, losses, losses, False)
    assert found.steepest == pytest.approx(10**-3.5)
    assert found.tenth_of_lowest == pytest.approx(10**-3)
    assert found.suggestion == found.steepest
    assert "`learning_rate=0.00032`" in found.summary()
    flat = RateFinding(rates, (1.0,) * 13, (1.0,) * 13, False)
    assert flat.suggestion is None
    assert "did not fall" in flat.summary()


def test_the_command_prints_json_and_draws(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    tiny.model().save(tmp_path / "base")
    tiny.folder(tmp_path / "data")
    words = ["lr-find", str(tmp_path / "data"), "--from", str(tmp_path / "base"), "--steps", "12", "--json"]
    assert main([*words, "--out", str(tmp_path / "plots" / "rates")]) == 0
    said = json.loads(capsys.readouterr().out)
    assert len(said["losses"]) == len(said["rates"]) == 12
    assert (tmp_path / "plots" / "rates.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"steps": 0}, "`steps` is 0"),
        ({"lowest": 1.0, "highest": 0.1}, "the lower first"),
        ({"batch_size": 0}, "`batch_size` is 0"),
    ],
    ids=str,
)
def test_impossible_settings_are_refused(settings, words):
    with pytest.raises(ConfigError, match=words):
        lr_find(tiny.model(), tiny.source(), LrFindConfig(**settings))
