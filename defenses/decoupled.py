"""Trains on the labels that classifiers of unlearnt features believe, and relabels the others."""

from __future__ import annotations

from torch import nn

from defenses.base import Training, defense
from defenses.view import DefenderView
from defenses.votes.credibility import credibility, least
from fixtures.training import predict


@defense("decoupled", source="Huang et al. 2022, arXiv:2202.03423; a variant", family="filter")
class Decoupled(Training):
    """Decouple features from labels: train on the credible samples, relabel the others, train anew.

    Question: do labels that contradict what an image looks like carry the backdoor? Features that
    no label has shaped cannot tie a trigger to its target. By votes of small classifiers on such
    features (`defenses.votes.credibility`), the ``kept`` share of each label that is believed most
    is taken to be as it says. A network learns from these by the victim's recipe, gives all others
    the labels that it sees in them, and another learns from all.

    A variant: the paper learns its features without labels (SimCLR, a thousand passes on a GPU),
    keeps half of all samples by the loss of one classifier, and uses the rest by MixMatch. Here
    features are fixed, many classifiers that learn from a few samples of each class vote, and the
    rest is relabelled once; and half of each label is kept, not of all samples, or hard classes
    would go. Assumes poison whose label contradicts its picture, and no label of which more than
    1 - ``kept`` is poison: poison that keeps its label passes. Costs half a training more than one.
    Where features tell little, what is kept is easy, and accuracy suffers. Does not apply where the
    network's architecture is not known. Raises ValueError where nothing is kept.
    """

    sees = frozenset({"suspect"})

    def __init__(self, kept: float = 0.5) -> None:
        if not 0.0 < kept < 1.0:
            raise ValueError(f"kept is a share between 0 and 1, got {kept}")
        self.kept = kept

    def supports(self, view: DefenderView) -> str | None:
        return "the network's architecture is not known" if view.fresh is None else None

    def train(self, view: DefenderView) -> nn.Module:
        share, _ = credibility(view)
        doubted = least(share, view.suspect.labels, 1 - self.kept)
        if doubted.all():
            raise ValueError(f"kept={self.kept} keeps none of {len(doubted)} samples")
        first = view.train(view.suspect.take(~doubted))
        labels = view.suspect.labels.clone()
        labels[doubted] = predict(first, view.suspect.take(doubted)).argmax(1)
        changed = labels != view.suspect.labels
        self.report |= {"doubted": int(doubted.sum()), "relabelled": int(changed.sum())}
        return view.train(view.suspect.labelled(labels))
