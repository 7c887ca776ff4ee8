"""The contrast of a batch that lies on eight devices is that of one device; run by test_contrastive.py."""

import dataclasses

import engine_cases as cases
import jax
import numpy as np

from flaxtl import nets
from flaxtl.card import Card, Head
from flaxtl.pipeline import Pipeline
from flaxtl.train import init_state, make_step, optim
from flaxtl.train.contrast import contrast_loss
from flaxtl.train.engine import Engine


@dataclasses.dataclass(frozen=True)
class Contrasted(cases.Case):
    """A case that is trained by the contrast of its features, with dropout."""

    def job(self):
        network = nets.build(self.spec, cases.CLASSES)
        pipeline = Pipeline.of(network, Card(cases.PICTURES, self.spec, (Head(labels=("a", "b", "c")),)))
        params = network.init(0, np.zeros((1, 8, 8, 1), np.float32))["params"]
        labels = optim.group_labels(params, ("backbone/**",), "head")
        tx = optim.build(cases.SGD, labels, 8)
        return init_state(params, tx, labels, ema=True), make_step(
            contrast_loss(pipeline, temperature=0.5), tx, ema_decay=0.9, jit=False
        )


if __name__ == "__main__":
    assert jax.device_count() == 8
    case = Contrasted(cases.VIT)
    losses, state = cases.run(case, steps=2)
    assert np.ptp(losses) > 0
    for parallel in ("jit", "fsdp", "pmap"):
        found, other = cases.run(case, Engine.of(parallel), steps=2)
        np.testing.assert_allclose(found, losses, rtol=1e-5, err_msg=parallel)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), other.ema, state.ema)
        print(parallel)
