"""For which class shares a run's probabilities hold: those that its class weights imply, or those it is told."""

from __future__ import annotations

import dataclasses

from flaxtl.data import Source
from flaxtl.errors import listed
from flaxtl.model import Model
from flaxtl.probe.weighting import Balance, class_mass, numbered, unequal
from flaxtl.shares import shares_of
from flaxtl.training_settings import Training


@dataclasses.dataclass(frozen=True)
class ExpectedShares:
    """The class shares of a run, in the order of its labels; both empty where examples have no class.

    Attributes:
        trained: those that probabilities hold for as the model is trained.
        wanted: those that they are brought to; the same unless the setting `prior` says otherwise.
        unequal: whether the training data's classes differ much in size.
    """

    trained: tuple[float, ...] = ()
    wanted: tuple[float, ...] = ()
    unequal: bool = False

    @classmethod
    def of(cls, train: Source, training: Training) -> ExpectedShares:
        """Returns the shares that settings and training data say.

        Raises:
            ConfigError: a class that is not there, or numbers that are no shares.
        """
        if train.task != "classification":
            return cls()
        mass = class_mass(train.targets, len(train.labels), train.weights)
        class_weight = numbered(training.class_weight, train.labels)
        trained = tuple(map(float, Balance.plain(train.targets, len(train.labels), class_weight, train.weights).shares))
        if training.prior == "training":
            wanted = tuple(map(float, mass / mass.sum()))
        else:
            wanted = trained if training.prior is None else shares_of(training.prior, train.labels)
        return cls(trained, wanted, unequal(mass))

    def applied(self, model: Model) -> Model:
        """Returns the trained model with the shares in its card, brought to the wanted ones."""
        if not self.trained:
            return model
        card = model.card.with_head(class_shares=self.trained, conformal=model.card.head.conformal)
        model = dataclasses.replace(model, card=card)
        return model if self.wanted == self.trained else model.with_prior(dict(zip(card.labels, self.wanted)))

    def notes(self, labels: tuple[str, ...]) -> list[str]:
        """Returns a sentence about the shares where they matter."""
        if not self.unequal and self.wanted == self.trained:
            return []
        if max(self.wanted) - min(self.wanted) < 1e-6:
            said = "equal shares of all classes"
        else:
            order = sorted(range(len(labels)), key=lambda k: -self.wanted[k])
            said = "these class shares: " + listed(f"{labels[k]} {self.wanted[k]:.1%}" for k in order)
        moved = " The figures of cross-validation are for those of the training data." * (self.wanted != self.trained)
        return [f"Probabilities hold for {said}. If others are to be expected in use, give them as `prior`.{moved}"]
